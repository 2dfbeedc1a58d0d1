"""Replay: a session step by step, and where other rules would have made something else of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from agorio import (
    AccessBlock,
    BadFrame,
    DiskKnowledgeStore,
    Envelope,
    LimitsBlock,
    Manifest,
    NotFoundError,
    ParticipantSchema,
    ProtocolError,
    RateBlock,
    Rule,
    SessionAdapter,
    SessionTypes,
    TurnError,
)
from agorio.actors.sessions.adapters.consulting import ConsultingAdapter
from agorio.actors.sessions.adapters.conversation import ConversationAdapter
from agorio.actors.sessions.adapters.discussion import DiscussionAdapter
from agorio.testing import (
    Recorded,
    ScriptedAgent,
    compare,
    describe,
    export_session,
    open_test_hub,
    read_log,
    record_session,
    write_log,
)


async def record(**opening: Any) -> Recorded:
    """ann: hi, bob: hello, ann: bye, closed by ann."""
    async with open_test_hub() as net:
        await net.add(ScriptedAgent("bob", "hello", then="silence"))
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob", **opening)
        await session.send("hi")
        await net.idle()
        await trio.sleep(30)
        await session.send("bye")
        await net.idle()
        await session.close()
        return await record_session(net.hub, session.session_id)


class Short(SessionAdapter):
    """Over after two texts."""

    manifest = ConversationAdapter.manifest

    def initial_state(self, setup: Any) -> Any:
        return 0

    def fold(self, state: Any, envelope: Envelope) -> Any:
        return state + 1

    def auto_close_reason(self, state: Any) -> str | None:
        return "enough" if state >= 2 else None


class Polite(ConversationAdapter):
    """Nobody says bye."""

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        if envelope.text == "bye":
            raise TurnError("not yet")


class Fussy(ConversationAdapter):
    def fold(self, state: Any, envelope: Envelope) -> Any:
        raise KeyError(envelope.text)


class Crowd(ConversationAdapter):
    manifest = Manifest("conversation", participants=ParticipantSchema(3, None))


async def test_step_by_step() -> None:
    recorded = await record()
    lines = list(describe(recorded, ConversationAdapter()))
    assert lines[0] == f"session {recorded.setup.session_id}: conversation of ann, bob"
    assert [line.split("s  ", 1)[-1] for line in lines[4:]] == [
        'ann: "hi"  [active]',
        'bob: "hello"  [active]',
        'ann: "bye"  [active]',
        "hub: session.closed (explicit_close)  [closed as explicit_close]",
    ]
    assert lines[6].split()[1] == "+30.000s"


async def test_a_log_survives_its_file(tmp_path: Path) -> None:
    async with open_test_hub(DiskKnowledgeStore(tmp_path / "hub.db")) as net:
        await net.person("bob")
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob", labels={"ticket": 7})
        await session.send("grüße\n🎉")
        text = await export_session(net.hub, session.session_id)
        recorded = await record_session(net.hub, session.session_id)
        with pytest.raises(NotFoundError, match="there is no session 'nope'"):
            await record_session(net.hub, "nope")
    assert (read_log(text), write_log(recorded)) == (recorded, text)
    store = DiskKnowledgeStore(tmp_path / "hub.db")
    await store.open()
    assert await export_session(store, session.session_id) == text
    await store.close()


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"format": "other"}', '[1]\n{"format": "agorio-session"}'])
def test_what_is_no_log_is_refused(text: str) -> None:
    with pytest.raises(BadFrame, match="session"):
        read_log(text)


async def test_the_same_rules_make_the_same_of_it() -> None:
    recorded = await record()
    assert compare(recorded, ConversationAdapter(), ConversationAdapter()) == []
    assert compare(recorded, None, ConversationAdapter(), {"ann": Rule(), "bob": Rule()}) == []


async def test_a_refusal_is_named_with_its_step_and_its_error() -> None:
    (found,) = compare(await record(), ConversationAdapter(), Polite())
    assert (found.sequence, found.said, found.before) == (6, 'ann: "bye"', "accepted")
    assert found.after == "refused (not_your_turn): not yet"
    assert str(found) == 'step 6, ann: "bye": accepted then, refused (not_your_turn): not yet now'


async def test_another_end_is_named_with_its_step_and_its_reason() -> None:
    first, *rest = compare(await record(), ConversationAdapter(), Short())
    assert (first.sequence, first.said, first.before, first.after) == (5, 'bob: "hello"', "active", "closed as enough")
    assert rest[0].sequence == 6
    assert rest[0].after.startswith("refused (session_closed)")
    assert (rest[-1].before, rest[-1].after) == ("closed as explicit_close", "closed as enough")


async def test_an_end_that_does_not_come_any_more() -> None:
    async with open_test_hub(adapters=[]) as net:
        await net.add(ScriptedAgent("bob", "42"))
        ann = await net.person("ann")
        session = await ann.open("consulting", "bob")
        await session.send("what?")
        await net.closed(session.session_id)
        recorded = await record_session(net.hub, session.session_id)
    assert compare(recorded, ConsultingAdapter(), ConsultingAdapter()) == []
    for before in (ConsultingAdapter(), None):
        found = compare(recorded, before, ConversationAdapter())
        assert (found[-1].before, found[-1].after) == ("closed as consulting_complete", "active")
    turns = compare(recorded, ConsultingAdapter(), ConversationAdapter())
    assert (turns[0].before, turns[0].after) == ("active, next: ann", "active")


async def test_other_turns_are_named() -> None:
    recorded = await record()
    found = compare(recorded, ConversationAdapter(), DiscussionAdapter())
    assert (found[0].before, found[0].after) == ("active", "active, next: ann")


async def test_an_opening_that_is_refused() -> None:
    recorded = await record()
    (found,) = compare(recorded, ConversationAdapter(), Crowd())
    assert (found.sequence, found.said, found.before) == (0, "the opening", "opened")
    assert "2 take part; the session type takes 3 to any" in found.after


async def test_an_adapter_that_cannot_fold_refuses() -> None:
    found = compare(await record(), ConversationAdapter(), Fussy())
    assert found[0].after.startswith("refused (protocol_error)")
    with pytest.raises(ProtocolError, match=r"Fussy cannot fold step 4, ag2\.msg\.text: KeyError\('hi'\)"):
        list(describe(await record(), Fussy()))


@pytest.mark.parametrize(
    ("name", "rule", "step", "refusal"),
    [
        ("bob", Rule(AccessBlock(inbound_from=("cid",))), 0, "access_denied"),
        ("ann", Rule(AccessBlock(outbound_to=("cid",))), 0, "access_denied"),
        ("ann", Rule(AccessBlock(session_types=SessionTypes(initiate=("workflow",)))), 0, "initiate of 'ann'"),
        ("bob", Rule(AccessBlock(session_types=SessionTypes(accept=("workflow",)))), 0, "accept of 'bob'"),
        ("bob", Rule(AccessBlock(outbound_to=("cid",))), 5, "access_denied"),
        ("ann", Rule(rate=RateBlock(1, 1)), 6, "rate_limited"),
    ],
)
async def test_rules_that_were_not_in_force(name: str, rule: Rule, step: int, refusal: str) -> None:
    found = compare(await record(), ConversationAdapter(), ConversationAdapter(), {name: rule})
    assert found[0].sequence == step
    assert refusal in found[0].after


async def test_a_shorter_life() -> None:
    rules = {"ann": Rule(limits=LimitsBlock(session_ttl_default=10))}
    found = compare(await record(), ConversationAdapter(), ConversationAdapter(), rules)
    assert found[0].sequence == 6
    assert "refused (session_closed)" in found[0].after
    assert found[-1].after == "expired as ttl_expired"


async def test_a_longer_life() -> None:
    async with open_test_hub() as net:
        await net.person("bob")
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob", ttl=10)
        await trio.sleep(60)
        assert await net.closed(session.session_id) == "ttl_expired"
        recorded = await record_session(net.hub, session.session_id)
    assert compare(recorded, ConversationAdapter(), ConversationAdapter()) == []
    rules = {"ann": Rule(limits=LimitsBlock(session_ttl_default="1d"))}
    (found,) = compare(recorded, ConversationAdapter(), ConversationAdapter(), rules)
    assert (found.before, found.after) == ("expired as ttl_expired", "active")


async def test_a_delegation_that_is_too_deep() -> None:
    recorded = await record()
    deep = attrs.evolve(recorded, setup=attrs.evolve(recorded.setup, depth=3))
    rules = {"ann": Rule(limits=LimitsBlock(delegation_depth=2))}
    (found,) = compare(deep, ConversationAdapter(), ConversationAdapter(), rules)
    assert "limits.delegation_depth=2" in found.after


async def test_a_session_type_that_is_not_at_hand_stands_for_itself() -> None:
    rules = {"ann": Rule(rate=RateBlock(1, 1))}
    (found,) = compare(await record(), SessionAdapter(), SessionAdapter(), rules)
    assert (found.sequence, "rate_limited" in found.after) == (6, True)
