"""Expectations at the hub, on the virtual clock: when they fire, what follows, and what a sweep costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest
import trio

from agorio import (
    EV_CONTEXT_SET,
    EV_EXPECTATION_VIOLATED,
    EV_TURN_SKIPPED,
    Activity,
    ConversationAdapter,
    Envelope,
    Expectation,
    Hub,
    InboxBlock,
    InvalidInput,
    Manifest,
    MemoryKnowledgeStore,
    ParticipantSchema,
    ProtocolError,
    Rule,
    SessionSetup,
    TransitionGraph,
    Violation,
    Waiting,
)
from agorio.hub.stores.protocol import Append, Put
from agorio.mailbox.clock import TrioClock
from agorio.mailbox.codec import encode_envelope
from tests.hub.network import Network, converse, settle
from tests.hub.stores import FailingStore

TICK = 10.0


def expect(name: str, seconds: float = 60, reaction: str = "audit", **options: Any) -> list[Expectation]:
    return [Expectation(name, reaction, {"seconds": seconds}, **options)]


async def quiet(text: str) -> str:
    return ""


async def fired(net: Network) -> list[tuple[str, list[str]]]:
    return [(record.expectation, list(record.violators)) for record in await net.audit("expectation_violated")]


async def violations(net: Network, session_id: str) -> list[Any]:
    return [envelope for envelope in await net.log(session_id) if envelope.event_type == EV_EXPECTATION_VIOLATED]


async def test_acks_within_names_who_has_not_answered(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, cid = await net.agent("ann"), await net.agent("bob", quiet), await net.agent("cid")
        with pytest.raises(ProtocolError):
            await ann.open("discussion", ["bob", "cid"], expectations=expect("acks_within", 20), invite_ack_timeout=50)
        assert await fired(net) == [("acks_within", [cid.agent_id])]
        assert bob.agent_id


async def test_reply_within_names_who_owes_an_answer(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=expect("reply_within"))
        await trio.sleep(200)
        assert await fired(net) == []
        await session.send("well?")
        await trio.sleep(59)
        assert await fired(net) == []
        await trio.sleep(TICK + 2)
        assert await fired(net) == [("reply_within", [bob.agent_id])]


async def test_max_silence_counts_from_what_was_last_said(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=expect("max_silence"))
        for _ in range(4):
            await trio.sleep(45)
            await session.send("still here")
        assert await fired(net) == []
        await trio.sleep(60 + TICK)
        assert await fired(net) == [("max_silence", [])]


async def test_turn_within_counts_from_when_the_turn_began(open_network: Any) -> None:
    """What is said beside the turns does not start it anew."""
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        graph = TransitionGraph.sequence([ann.agent_id, bob.agent_id]).to_dict()
        knobs = {"graph": graph}
        session = await converse(ann, bob, type="workflow", knobs=knobs, expectations=expect("turn_within"))
        await session.send("yours")
        await trio.sleep(40)
        note = {"set": {"a": 1}, "delete": []}
        await ann.send_envelope(Envelope(session.session_id, ann.agent_id, None, EV_CONTEXT_SET, note))
        await trio.sleep(20 + TICK + 2)
        assert await fired(net) == [("turn_within", [bob.agent_id])]


@pytest.mark.parametrize("reaction", ["audit", "warn", "hide", "auto_close"])
async def test_what_follows_a_violation(open_network: Any, reaction: str) -> None:
    async with open_network() as net:
        ann, bob, cid = [await net.agent(name) for name in ("ann", "bob", "cid")]
        session = await converse(ann, bob, cid, type="discussion", expectations=expect("turn_within", 60, reaction))
        await session.send("bob?")
        await trio.sleep(60 + TICK + 2)
        assert (await fired(net))[0] == ("turn_within", [bob.agent_id])
        notes = await violations(net, session.session_id)
        assert [note.event_data["violators"] for note in notes] == ([[bob.agent_id]] if reaction == "warn" else [])
        kinds = [envelope.event_type for envelope in await net.log(session.session_id)]
        assert (EV_TURN_SKIPPED in kinds) is (reaction == "hide")
        metadata = await net.hub.get_session(session.session_id)
        if reaction == "auto_close":
            assert metadata.close_reason == "expectation_violated:turn_within"
        else:
            assert metadata.expected_next == ((cid if reaction == "hide" else bob).agent_id,)


async def test_a_warning_reaches_everybody_and_takes_no_slot(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = [await net.agent(name, rule=Rule(inbox=InboxBlock(1))) for name in ("ann", "bob")]
        session = await converse(ann, bob, expectations=expect("max_silence", 60, "warn"))
        await session.send("fills the inbox")
        got: list[str] = []

        async def wait(agent: Any) -> None:
            envelope = await agent.wait_for_session_event(
                session.session_id, lambda e: e.event_type == EV_EXPECTATION_VIOLATED, timeout=200
            )
            got.append(f"{agent.name} {envelope.event_data['expectation']}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, ann)
            nursery.start_soon(wait, bob)
        assert sorted(got) == ["ann max_silence", "bob max_silence"]
        assert (net.pending("ann"), net.pending("bob")) == (0, 1)


async def test_each_silence_fires_once_and_the_next_one_again(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=expect("max_silence"))
        for number in range(3):
            await session.send("hello?")
            await trio.sleep(500)
            assert len(await fired(net)) == number + 1


@pytest.mark.parametrize("who", ["name", "id", "role"])
async def test_applies_to_names_ids_and_roles(open_network: Any, who: str) -> None:
    async with open_network() as net:
        ann, bob, cid = [await net.agent(name) for name in ("ann", "bob", "cid")]
        applies_to = {"name": ["cid"], "id": [cid.agent_id], "role": ["initiator"]}[who]
        session = await converse(
            ann, bob, cid, type="discussion", expectations=expect("turn_within", applies_to=applies_to)
        )
        stored = (await net.hub.get_session(session.session_id)).expectations[0].applies_to
        assert stored == (("initiator",) if who == "role" else (cid.agent_id,))
        await session.send("bob?")
        await trio.sleep(200)
        assert await fired(net) == []


@pytest.mark.parametrize(
    "bad",
    [
        Expectation("prompt_within"),
        Expectation("max_silence", "shout"),
        Expectation("max_silence", params={"minutes": 1}),
        Expectation("max_silence", params={"seconds": -1}),
        Expectation("max_silence", applies_to=["stranger"]),
    ],
)
async def test_what_would_never_fire_is_refused_at_open(open_network: Any, bad: Expectation) -> None:
    async with open_network() as net:
        ann = await net.agent("ann")
        await net.agent("bob")
        with pytest.raises(InvalidInput):
            await ann.open("conversation", "bob", expectations=[bad])
        assert not await net.hub.list_sessions()


class Brisk(ConversationAdapter):
    manifest = Manifest("brisk", participants=ParticipantSchema(2, 2), expectations=expect("prompt_within", 30, "page"))


def prompt_within(expectation: Expectation, activity: Activity, setup: SessionSetup) -> Iterable[Waiting]:
    return [Waiting("", activity.content)]


async def test_names_are_checked_when_a_session_type_is_registered() -> None:
    with pytest.raises(InvalidInput, match="prompt_within"):
        async with Hub.open(MemoryKnowledgeStore(), adapters=[Brisk()]):
            pass
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        with pytest.raises(InvalidInput, match="prompt_within"):
            hub.register_adapter(Brisk())
        hub.register_expectation("prompt_within", prompt_within)
        with pytest.raises(InvalidInput, match="page"):
            hub.register_adapter(Brisk())
        hub.register_reaction("page", print)
        hub.register_adapter(Brisk())
        with pytest.raises(InvalidInput, match="exists"):
            hub.register_expectation("max_silence", prompt_within)
        with pytest.raises(InvalidInput, match="version"):
            hub.register_adapter(Brisk())
        with pytest.raises(InvalidInput, match="exists"):
            hub.register_reaction("warn", print)


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_expectation_and_a_reaction_of_ones_own(open_network: Any, is_async: bool) -> None:
    pages: list[Violation] = []

    async def page_later(violation: Violation) -> None:
        await trio.lowlevel.checkpoint()
        pages.append(violation)

    store = MemoryKnowledgeStore()
    options: dict[str, Any] = {
        "evaluators": {"prompt_within": prompt_within},
        "reactions": {"page": page_later if is_async else pages.append},
        "adapters": [Brisk()],
    }
    async with open_network(store, **options) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, type="brisk")
        await trio.sleep(100)
        assert [(page.session_id, page.expectation.name) for page in pages] == [(session.session_id, "prompt_within")]
    async with open_network(store, **options) as net:
        await trio.sleep(100)
        assert len(pages) == 1
        assert len(await fired(net)) == 1


async def test_fires_are_remembered_over_a_restart_and_arm_again(open_network: Any, make_store: Any) -> None:
    store, clock = make_store(), TrioClock()
    async with open_network(store, clock=clock) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=[*expect("max_silence"), *expect("reply_within", 90, "warn")])
        await session.send("well?")
        await trio.sleep(300)
        before = await fired(net)
        assert sorted(name for name, _ in before) == ["max_silence", "reply_within"]
    async with open_network(store, clock=clock) as net:
        await trio.sleep(300)
        assert await fired(net) == before
        ann = await net.agent("ann", attach=True)
        await (await ann.session(session.session_id)).send("still there?")
        await trio.sleep(300)
        assert len(await fired(net)) == 3


@pytest.mark.parametrize("reaction", ["audit", "hide", "page"])
async def test_a_firing_that_the_log_does_not_tell_of_is_remembered(
    open_network: Any, make_store: Any, reaction: str
) -> None:
    """It is kept beside the session, over restarts and for as long as the session lasts."""
    pages: list[Violation] = []
    store, clock = make_store(), TrioClock()
    options: dict[str, Any] = {"clock": clock, "reactions": {"page": pages.append}}
    both = [*expect("max_silence", 60, reaction), *expect("reply_within", 90, reaction)]
    async with open_network(store, **options) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=both)
        await session.send("well?")
        length = len(await net.log(session.session_id))
        await trio.sleep(75)
        assert await fired(net) == [("max_silence", [])]
    for _ in range(2):
        async with open_network(store, **options) as net:
            await trio.sleep(300)
            assert await fired(net) == [("max_silence", []), ("reply_within", [bob.agent_id])]
            assert len(await net.log(session.session_id)) == length
            assert len(await store.scan("fired/")) == 1
    assert len(pages) == (2 if reaction == "page" else 0)
    async with open_network(store, **options) as net:
        await net.hub.close_session(session.session_id)
        await trio.sleep(60)
        assert await store.scan("fired/") == []


async def test_a_firing_that_an_older_hub_has_hidden_in_the_log_counts(open_network: Any) -> None:
    store, clock = MemoryKnowledgeStore(), TrioClock()
    async with open_network(store, clock=clock) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=expect("max_silence"))
        (*_, opened) = await net.log(session.session_id)
    data = {"expectation": "max_silence", "key": f"[0,{opened.sequence}]"}
    hidden = attrs.evolve(
        opened, audience=(), event_type=EV_EXPECTATION_VIOLATED, event_data=data, sequence=opened.sequence + 1
    )
    await store.open()
    await store.commit([Append(f"session/{session.session_id}", (encode_envelope(hidden),), opened.sequence)])
    await store.close()
    async with open_network(store, clock=clock) as net:
        await trio.sleep(300)
        assert await fired(net) == []
        await net.check()


async def test_firings_of_a_session_that_ended_in_a_crash_are_let_go(open_network: Any) -> None:
    store = MemoryKnowledgeStore()
    await store.open()
    await store.commit([Put("fired/gone", b'{"0:":1}'), Put("fired/torn", b"?")])
    await store.close()
    async with open_network(store) as net:
        assert net.hub.health().quarantined == ("fired/torn",)
        await trio.sleep(60)
        assert [document.key for document in await store.scan("fired/")] == ["fired/torn"]


@pytest.mark.parametrize("reaction", ["audit", "hide", "warn", "auto_close"])
async def test_a_firing_that_could_not_be_noted_comes_again(open_network: Any, reaction: str) -> None:
    store = FailingStore()
    async with open_network(store) as net:
        ann, bob, cid = [await net.agent(name) for name in ("ann", "bob", "cid")]
        session = await converse(ann, bob, cid, type="discussion", expectations=expect("turn_within", 60, reaction))
        await session.send("bob?")
        await net.hub.audit_log.read_all()
        store.refuses = lambda changes: True
        await trio.sleep(60 + TICK + 2)
        assert await fired(net) == []
        assert (await session.info()).expected_next == (bob.agent_id,)
        store.refuses = None
        await trio.sleep(80)
        assert (await fired(net))[0] == ("turn_within", [bob.agent_id])


async def test_what_came_due_while_the_hub_was_down_fires_when_it_is_up(open_network: Any, make_store: Any) -> None:
    store, clock = make_store(), TrioClock()
    async with open_network(store, clock=clock) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        await converse(ann, bob, expectations=expect("max_silence"))
    await trio.sleep(1000)
    async with open_network(store, clock=clock) as net:
        await trio.sleep(TICK + 1)
        assert await fired(net) == [("max_silence", [])]


async def test_a_session_whose_opening_is_not_acknowledged_in_time_closes(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann")
        await net.agent("bob")
        expected = expect("acks_within", 10, "auto_close")
        with pytest.raises(ProtocolError, match="acks_within"):
            await ann.open("conversation", "bob", expectations=expected, invite_ack_timeout=100)
        (metadata,) = await net.hub.list_sessions()
        assert metadata.close_reason == "expectation_violated:acks_within"


async def test_an_ended_session_expects_nothing(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=expect("max_silence"))
        await session.close()
        await trio.sleep(500)
        assert await fired(net) == []
        assert net.hub._open_services().expectations.statistics()["watched"] == 0


async def test_a_sweep_costs_what_is_due_and_not_what_exists(open_network: Any) -> None:
    async with open_network(expectation_sweep_interval=0) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", quiet)
        expectations = net.hub._open_services().expectations
        long = [await converse(ann, bob, expectations=expect("max_silence", 3600), ttl="2d") for _ in range(30)]
        short = await converse(ann, bob, expectations=expect("max_silence", 60), ttl="2d")
        for session in (*long, short):
            for _ in range(5):
                await session.send("x")
        await settle()
        assert expectations.total_folds == 0  # an envelope costs a comparison, not a fold
        assert await net.hub._expectation_tick() == 0
        assert expectations.total_folds == 0
        await trio.sleep(61)
        assert await net.hub._expectation_tick() == 1
        await settle()
        for _ in range(100):
            await trio.sleep(10)
            assert await net.hub._expectation_tick() == 0
        # Only what was due was read, and each envelope of it once.
        assert expectations.total_folds <= len(await net.log(short.session_id))
        assert expectations.statistics()["waiting"] <= 31


async def test_many_sessions_are_folded_once_per_envelope(open_network: Any) -> None:
    async with open_network(expectation_sweep_interval=5) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", quiet)
        expectations = net.hub._open_services().expectations
        sessions = [await converse(ann, bob, expectations=expect("max_silence", 7), ttl="2d") for _ in range(20)]
        for _ in range(10):
            for session in sessions:
                await session.send("x")
            await trio.sleep(20)
        total = sum([len(await net.log(session.session_id)) for session in sessions])
        assert expectations.total_folds <= total
        assert expectations.total_violations == 20 * 10
