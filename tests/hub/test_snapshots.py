"""A snapshot anywhere and the log after it fold to what the whole log folds to; a doubtful one counts for nothing."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.adapters.registry import default_adapters
from agorio.actors.sessions.graph import TransitionGraph
from agorio.actors.sessions.judging import Close, Command, Depart, Invite, Note, Post, step
from agorio.actors.sessions.lifecycle import Live, begin, fold
from agorio.actors.sessions.metadata import Manifest, SessionSetup
from agorio.hub.records import from_bytes, to_bytes
from agorio.hub.snapshots import SavedSession, live_of, saved_of
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import NetworkError, QuarantinedError
from agorio.mailbox.events import (
    EV_CONTEXT_SET,
    EV_PACKET,
    EV_SESSION_INVITE_ACK,
    EV_TASK_STARTED,
    EV_TEXT,
    EV_TURN_SKIPPED,
)
from agorio.mailbox.ids import IdGenerator

MEMBERS = ("ann", "bob", "cid")
KNOBS: dict[str, dict[str, Any]] = {
    "conversation": {"max_turns": 20},
    "consulting": {},
    "discussion": {"max_rounds": 5},
    "workflow": {"graph": TransitionGraph.round_robin(MEMBERS, max_turns=9).to_dict(), "context_vars": {"a": [1]}},
}
WHO = st.sampled_from(MEMBERS)
POSTS = st.one_of(
    st.tuples(st.just(EV_TEXT), st.just({"text": "hello"})),
    st.tuples(st.just(EV_PACKET), st.just({"body": "b", "context_updates": {"set": {"x": {"y": None}}}})),
    st.tuples(st.just(EV_CONTEXT_SET), st.just({"key": "k", "value": [1, {"z": 2.5}]})),
    st.tuples(st.just(EV_TASK_STARTED), st.just({"title": "t", "ttl": 60})),
    st.tuples(st.just("app.note"), st.just({"any": "thing"})),
)
COMMANDS = st.one_of(
    st.builds(lambda who, said: Post(Envelope("s", who, None, said[0], said[1])), WHO, POSTS),
    st.builds(lambda who: Note(EV_TURN_SKIPPED, {"agent_id": who, "reason": "silent"}), WHO),
    st.builds(Depart, WHO),
    st.just(Close("enough", "ann")),
)


def setup_of(kind: str) -> tuple[SessionSetup, SessionAdapter]:
    adapter = default_adapters().get(kind, None)
    most = adapter.manifest.participants.max
    members = MEMBERS if most is None else MEMBERS[:most]
    return SessionSetup("s", adapter.manifest, "ann", members, 0.0, None, knobs=KNOBS[kind]), adapter


def played(setup: SessionSetup, adapter: SessionAdapter, commands: list[Command]) -> list[Envelope]:
    """The log that the commands lead to; what is refused is left out."""
    mint = IdGenerator(lambda: 1, lambda bits: 0)
    live, log = begin(setup, adapter), list[Envelope]()
    acks = [Post(Envelope("s", who, None, EV_SESSION_INVITE_ACK)) for who in setup.invitees]
    for number, command in enumerate([Invite(), *acks, *commands]):
        try:
            result = step(live, adapter, command, float(number), mint)
        except NetworkError:
            continue
        live = result.live
        log += result.envelopes
    return log


def reloaded(live: Live, adapter: SessionAdapter) -> Live:
    saved = saved_of(live, adapter, "id", 0)
    assert saved is not None
    return live_of(from_bytes(to_bytes(saved), SavedSession), live.setup, adapter)


@pytest.mark.parametrize("kind", list(KNOBS))
@given(commands=st.lists(COMMANDS, max_size=25))
def test_a_fold_from_any_snapshot_is_the_fold_of_the_whole_log(kind: str, commands: list[Command]) -> None:
    setup, adapter = setup_of(kind)
    log = played(setup, adapter, commands)
    states = [begin(setup, adapter)]
    for envelope in log:
        states.append(fold(states[-1], adapter, envelope))
    for at, state in enumerate(states):
        live = reloaded(state, adapter)
        assert live == state
        for envelope in log[at:]:
            live = fold(live, adapter, envelope)
        assert live == states[-1]


def test_a_snapshot_of_other_rules_is_refused() -> None:
    setup, adapter = setup_of("discussion")
    saved = saved_of(begin(setup, adapter), adapter, "", 0)
    assert saved is not None
    changed = type("Changed", (type(adapter),), {"state_format": 2})()
    for wrong, rules in (
        (attrs.evolve(saved, format=0), adapter),
        (saved, changed),
        (attrs.evolve(saved, adapter_state={"order": "abc"}), adapter),
        (attrs.evolve(saved, state="asleep"), adapter),
    ):
        with pytest.raises(QuarantinedError):
            live_of(wrong, setup, rules)


def test_a_session_type_that_saves_nothing_has_no_snapshot() -> None:
    class Plain(SessionAdapter):
        manifest = Manifest("plain")

    setup = SessionSetup("s", Plain.manifest, "ann", MEMBERS, 0.0, None)
    assert saved_of(begin(setup, Plain()), Plain(), "", 0) is None
