"""The default handler and its parts, on a real hub."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.agents.handler import (
    AGENT_CLIENT_DEP,
    ENVELOPE_DEP,
    HUB_DEP,
    SESSION_DEP,
    default_handler,
    read_wal_until,
    resolve_view_policy,
    stamp_dependencies,
)
from agorio.actors.agents.hub_client import HubClient
from agorio.actors.agents.stream import MemoryStream
from agorio.actors.agents.turn_context import current_turn
from agorio.actors.agents.views import FullTranscript, NamedTranscript, WindowedSummary
from agorio.actors.sessions.adapters.conversation import ConversationAdapter
from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.rule import LimitsBlock, RateBlock, Rule
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput, NotFoundError, ProtocolError, SessionClosedError
from agorio.mailbox.events import AUDIT_KIND_LOOP_BROKEN, EV_SESSION_INVITE_ACK, EV_TEXT, EV_TURN_DUE, EV_TURN_SKIPPED
from agorio.mailbox.priority import Priority


class Recorder:
    """An agent that remembers what it was given."""

    def __init__(self, name: str, *replies: str | None) -> None:
        self.name = name
        self.replies = list(replies)
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def ask(self, *messages: Any, stream: Any = None, dependencies: Any = None) -> Any:
        self.calls.append((messages, {"stream": stream, "dependencies": dependencies}))
        return self.replies.pop(0) if self.replies else None


async def quiet(text: str) -> None:
    return None


async def upper(text: str) -> str:
    return text.upper()


async def test_a_consultation(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"), Resume())
    bob = await net.hc.register(upper, Passport(name="bob"), Resume())
    session = await ann.open(type="consulting", target="bob")
    asked = await session.send("why?")
    reply = await ann.wait_for_session_event(session.session_id, lambda e: e.sender_id == bob.agent_id)
    assert (reply.text, reply.causation_id) == ("WHY?", asked.envelope_id)
    with pytest.raises(SessionClosedError, match="consulting_complete"):
        await session.wait()
    assert (await session.info()).close_reason == "consulting_complete"
    assert session.is_terminal
    assert session.is_terminal() is True
    texts = [envelope.text for envelope in await session.history() if envelope.event_type == EV_TEXT]
    assert texts == ["why?", "WHY?"]
    with pytest.raises(SessionClosedError):
        await session.send("and?")


@pytest.mark.parametrize("reason", ["no_reply", "turn_failed"])
async def test_a_consultation_without_a_reply_closes_at_once(reason: str, autojump_clock: MockClock, net: Any) -> None:
    async def bob(text: str) -> None:
        if reason == "turn_failed":
            raise ValueError(text)

    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(bob, Passport(name="bob"))
    session = await ann.open("consulting", "bob")
    await session.send("why?")
    with pytest.raises(SessionClosedError, match=reason):
        await session.wait(lambda e: e.event_type == EV_TEXT, timeout=60)
    assert (await session.info()).close_reason == reason
    session = await ann.open("consulting", "bob")
    with pytest.raises(ProtocolError, match="gave no reply"):
        await session.ask("and why?", timeout=60)


async def test_a_session_type_that_is_newer_than_the_client(autojump_clock: MockClock, net: Any) -> None:
    newer = ConversationAdapter()
    newer.manifest = attrs.evolve(newer.manifest, version=2)
    net.hub.register_adapter(newer)
    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(upper, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    assert session.metadata.manifest.version == 2
    assert (await session.ask("why?", timeout=5)).text == "WHY?"
    assert net.hub.dead_letters() == ()


async def test_what_an_agent_is_given(autojump_clock: MockClock, net: Any) -> None:
    bob = Recorder("bob", "first answer", "second answer")
    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob_client = await net.hc.register(bob)
    session = await ann.open("conversation", "bob")
    await session.ask("one")
    second = await session.send("two")
    await session.wait(lambda e: e.causation_id == second.envelope_id)
    (messages, given) = bob.calls[1]
    assert messages == ("two",)
    assert isinstance(given["stream"], MemoryStream)
    assert [(m.role, m.text) for m in given["stream"]] == [("user", "one"), ("assistant", "first answer")]
    dependencies = given["dependencies"]
    assert dependencies[SESSION_DEP].session_id == session.session_id
    assert dependencies[AGENT_CLIENT_DEP] is bob_client
    assert dependencies[HUB_DEP] is net.hc
    assert dependencies[ENVELOPE_DEP] == second


async def test_a_silent_agent_gives_up_its_turn(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(Recorder("ann"))
    silent = Recorder("bob")
    carl = Recorder("carl", "carl speaks")
    await net.hc.register(silent)
    await net.hc.register(carl)
    session = await ann.open("discussion", ["bob", "carl"])
    await session.send("who knows?")
    reply = await session.wait(timeout=60)
    assert reply.text == "carl speaks"
    assert len(silent.calls) == 1
    kinds = [envelope.event_type for envelope in await session.history()]
    assert EV_TURN_SKIPPED in kinds
    assert carl.calls[0][0] == ("[ann]: who knows?",)


async def test_a_turn_opens_sessions_on_the_same_connection(autojump_clock: MockClock, net: Any) -> None:
    async def ask_carl(text: str) -> str:
        turn = current_turn()
        assert turn is not None
        inner = await turn.client.open("consulting", "carl")
        assert inner.metadata.parent_session_id == turn.envelope.session_id
        reply = await inner.ask(text, timeout=30)
        return f"carl says {reply.text}"

    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(ask_carl, Passport(name="bob"))
    await net.hc.register(upper, Passport(name="carl"))
    start = trio.current_time()
    session = await ann.open("consulting", "bob")
    assert (await session.ask("hm", timeout=30)).text == "carl says HM"
    assert trio.current_time() - start < 5


async def test_a_full_bucket_costs_a_pause_not_a_turn(autojump_clock: MockClock, net: Any) -> None:
    bob = Recorder("bob", "one", "two", "three")
    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(bob, rule=Rule(rate=RateBlock(envelopes_per_minute=6, burst=1)))
    session = await ann.open("conversation", "bob", ttl="1h")
    for text in "123":
        await session.send(text)
    replies = [(await session.wait(timeout=600)).text for _ in range(3)]
    assert replies == ["one", "two", "three"]
    assert len(bob.calls) == 3


async def test_handlers_may_wrap_the_default_one(autojump_clock: MockClock, net: Any) -> None:
    seen: list[str] = []
    bob = await net.hc.register(upper, Passport(name="bob"))

    async def logged(envelope: Envelope) -> None:
        seen.append(envelope.event_type)
        await default_handler(envelope, bob)

    bob.on_envelope(logged)
    ann = await net.hc.register(quiet, Passport(name="ann"))
    session = await ann.open("consulting", "bob")
    assert (await session.ask("x")).text == "X"
    await wait_all_tasks_blocked()
    assert EV_TEXT in seen
    acks = [e for e in await session.history() if e.event_type == EV_SESSION_INVITE_ACK]
    assert len(acks) <= 1


async def test_the_parts(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob = await net.hc.register(quiet, Passport(name="bob"), attach_plugin=False, handler=_ignore)
    session = await ann.open("conversation", "bob")
    sent = [await session.send(text) for text in ("a", "b", "c")]
    before = await read_wal_until(bob, sent[2])
    assert [e.text for e in before if e.event_type == EV_TEXT] == ["a", "b"]
    assert [e.text for e in await read_wal_until(bob, sent[2], tail=1)] == ["b"]
    assert isinstance(await resolve_view_policy(bob, session.metadata), WindowedSummary)
    assert isinstance(await net.hc.default_view_policy(session.session_id, bob.agent_id), WindowedSummary)
    bob.view = "full"
    assert isinstance(await resolve_view_policy(bob, session.metadata), FullTranscript)
    bob.view = NamedTranscript()
    assert await resolve_view_policy(bob, session.metadata) is bob.view
    bob.view = "nonsense"
    with pytest.raises(NotFoundError, match="windowed"):
        await resolve_view_policy(bob, session.metadata)
    with pytest.raises(InvalidInput, match="another agent"):
        stamp_dependencies(bob, session)


async def _ignore(envelope: Envelope) -> None:
    return None


async def test_opening_with_clients(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    zoe = await net.hc.register_human(Passport(name="zoe"))
    for target, members in [(bob, [bob]), ([bob, zoe], [bob, zoe]), (("bob", zoe.passport), [bob, zoe])]:
        kind = "conversation" if len(members) == 1 else "discussion"
        session = await ann.open(kind, target)
        assert session.metadata.participant_ids == tuple(one.agent_id for one in (ann, *members))
        assert not session.is_terminal
        assert session.is_terminal() is False


async def test_sending_to_some_by_name(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob = await net.hc.register(quiet, Passport(name="bob"), handler=_ignore)
    await net.hc.register(quiet, Passport(name="carl"), handler=_ignore)
    session = await ann.open("discussion", ["bob", "carl"])
    sent = await session.send({"text": "psst", "note": 1}, audience=["bob"], priority=Priority.URGENT)
    assert sent.audience == (bob.agent_id,)
    assert dict(sent.event_data) == {"text": "psst", "note": 1}
    with pytest.raises(NotFoundError, match="carl"):
        await session.send("x", audience=["zoe"])
    for one in ("bob", bob, bob.passport, [bob]):
        assert (await session.send("x", audience=one, event_type="my.note")).audience == (bob.agent_id,)
    bare = await session.send(event_type="my.note", event_data={"note": 2})
    assert dict(bare.event_data) == {"note": 2}
    with pytest.raises(InvalidInput, match="nothing to send"):
        await session.send()
    with pytest.raises(InvalidInput, match="nobody"):
        await session.send("x", audience=[])


async def test_over_a_link_without_a_hub_object(autojump_clock: MockClock, net: Any) -> None:
    async with HubClient(net.link) as hc:
        ann = await hc.register(quiet, Passport(name="ann"))
        await hc.register(upper, Passport(name="bob"))
        session = await ann.open("consulting", "bob")
        assert (await session.ask("x")).text == "X"
        assert [passport.name for passport in await hc.list_agents()] == ["ann", "bob"]
        assert await hc.find_agent_id("ann") == ann.agent_id
        assert (await hc.get_session(session.session_id)).session_id == session.session_id
        assert len(await hc.list_sessions(agent_id=ann.agent_id)) == 1
        assert "# bob" in await hc.get_skill("bob")
        resume = await ann.set_resume(Resume(claimed_capabilities=["talk"]))
        assert ann.resume is resume
        assert (await hc.get_resume("ann")).claimed_capabilities == ("talk",)


async def test_offline_mail_waits(autojump_clock: MockClock, net: Any) -> None:
    other = net.client()
    ann = await net.hc.register(quiet, Passport(name="ann"))
    await other.register(upper, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await other.close()
    await session.send("are you there?")
    back = net.client()
    await back.register(upper, Passport(name="bob"), attach=True)
    assert (await session.wait(timeout=60)).text == "ARE YOU THERE?"
    await back.close()


async def test_an_unregistered_agent_is_gone(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob = await net.hc.register(upper, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await bob.unregister()
    assert bob.is_gone
    with pytest.raises(SessionClosedError, match="participant_gone"):
        await session.wait(timeout=60)


async def test_a_private_turn_wakes_the_next_speaker(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"), attach_plugin=False)
    bob, carl = Recorder("bob", "bob's turn"), Recorder("carl", "carl's turn")
    ids = {one.name: (await net.hc.register(one)).agent_id for one in (bob, carl)}
    session = await ann.open("discussion", ["bob", "carl"])
    await session.send("psst", audience=[ids["carl"]])
    await ann.wait_for_session_event(session.session_id, lambda e: e.sender_id == ids["carl"])
    log = await net.hub.read_wal(session.session_id)
    # Bob has heard nothing that he could answer, and gives up the turn that he was told of.
    assert [one.text for one in log if one.event_type == EV_TEXT] == ["psst", "carl's turn"]
    assert [one.audience for one in log if one.event_type == EV_TURN_DUE] == [(ids["bob"],)]
    assert not bob.calls


async def test_whoever_missed_a_private_turn_answers_what_it_heard_last(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"), attach_plugin=False)
    bob, carl = Recorder("bob", "one", "two"), Recorder("carl", "three", "four")
    ids = {one.name: (await net.hc.register(one)).agent_id for one in (bob, carl)}
    session = await ann.open("discussion", ["bob", "carl"])
    await session.send("hello")
    await ann.wait_for_session_event(session.session_id, lambda e: e.text == "three")
    await session.send("psst", audience=[ids["carl"]])
    await ann.wait_for_session_event(session.session_id, lambda e: e.text == "four")
    assert [call[0][0] for call in bob.calls] == ["[ann]: hello", "[carl]: three"]


async def chatty(text: str) -> str:
    return "and you?"


async def test_two_agents_do_not_answer_each_other_for_ever(autojump_clock: MockClock, net: Any) -> None:
    cap = Rule(limits=LimitsBlock(automatic_turns=6))
    ann = await net.hc.register(chatty, Passport(name="ann"), rule=cap)
    await net.hc.register(chatty, Passport(name="bob"), rule=cap)
    session = await ann.open("conversation", "bob")
    for number in (1, 2):  # whoever says something himself begins anew
        await session.send("hello")
        await trio.sleep(10)
        texts = [envelope.text for envelope in await session.history() if envelope.event_type == EV_TEXT]
        assert len(texts) == 7 * number
    broken = [record for record in await net.hub.audit_log.read_all() if record.kind == AUDIT_KIND_LOOP_BROKEN]
    assert [(record.session_id, record.turns) for record in broken] == [(session.session_id, 6)] * 2
    assert net.hub.dead_letters() == ()


async def test_a_loop_of_turns_ends_with_its_session(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(chatty, Passport(name="ann"))
    await net.hc.register(chatty, Passport(name="bob"))
    for knobs, turns, reason in [({}, 51, "all_silent"), ({"max_turns": 80}, 80, "max_turns")]:
        session = await ann.open("discussion", "bob", knobs=knobs)
        await session.send("hello")
        await session.wait_closed(60)
        texts = [envelope.text for envelope in await session.history() if envelope.event_type == EV_TEXT]
        assert (len(texts), session.metadata.close_reason) == (turns, reason)


async def test_a_dialogue_that_somebody_drives_is_no_loop(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    await net.hc.register(chatty, Passport(name="bob"), rule=Rule(limits=LimitsBlock(automatic_turns=2)))
    session = await zoe.open("conversation", "bob")
    heard = None
    for _ in range(20):
        await zoe.say(session, "I am fine", answers=heard)
        heard = await zoe.next(timeout=5)
    assert heard is not None
    assert heard.text == "and you?"


async def test_many_questions_at_once_are_no_loop(autojump_clock: MockClock, net: Any) -> None:
    """What counts is the chain of causes: each answer is the first of its own."""
    ann = await net.hc.register(None, Passport(name="ann"), attach_plugin=False)
    await net.hc.register(chatty, Passport(name="bob"), rule=Rule(limits=LimitsBlock(automatic_turns=2)))
    session = await ann.open("conversation", "bob")
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(session.send, f"question {number}")
    await trio.sleep(60)
    answers = [envelope for envelope in await session.history() if envelope.text == "and you?"]
    assert len(answers) == 100


async def test_an_error_that_tells_of_no_session_is_a_failed_turn(autojump_clock: MockClock, net: Any) -> None:
    async def fail(text: str) -> str:
        raise SessionClosedError("of something else")

    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(fail, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await session.send("hello")
    await trio.sleep(60)
    assert [dead.envelope.text for dead in net.hub.dead_letters()] == ["hello"]
