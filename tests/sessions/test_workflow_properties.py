"""Random workflows: what is admitted folds, nobody speaks out of turn, and a limit is an end."""

from __future__ import annotations

import pickle
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from agorio.actors.sessions.adapters.workflow import WorkflowAdapter, WorkflowState
from agorio.actors.sessions.graph import Transition, TransitionGraph
from agorio.actors.sessions.graph_conditions import (
    Always,
    Condition,
    ContextCompare,
    ContextEquals,
    FromSpeaker,
    Not,
    ToolCalled,
)
from agorio.actors.sessions.graph_targets import (
    AgentTarget,
    RevertToInitiatorTarget,
    RoundRobinTarget,
    StayTarget,
    Target,
    TerminateTarget,
)
from agorio.actors.sessions.handoff import Handoff, build_packet
from agorio.actors.sessions.metadata import SessionSetup
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import ProtocolError
from agorio.mailbox.events import EV_CONTEXT_SET, EV_HANDOFF, EV_PACKET, EV_TEXT, EV_TURN_SKIPPED

ADAPTER = WorkflowAdapter()
MEMBERS = ("a", "b", "c")


def start(graph: TransitionGraph) -> WorkflowState:
    setup = SessionSetup("s", ADAPTER.manifest, "a", MEMBERS, 0.0, None, knobs={"graph": graph.to_dict()})
    ADAPTER.validate_create(setup)
    return ADAPTER.initial_state(setup)


def said(sender: str, data: Any = None, event_type: str = EV_TEXT) -> Envelope:
    return Envelope("s", sender, None, event_type, {"text": "hello"} if data is None else data)


def packet(sender: str, *args: Any, **kwargs: Any) -> Envelope:
    return said(sender, build_packet(*args, **kwargs), EV_PACKET)


def skip(agent_id: str, reason: str = "silent") -> Envelope:
    return said("a", {"agent_id": agent_id, "reason": reason}, EV_TURN_SKIPPED)


def context(sender: str, **variables: Any) -> Envelope:
    return said(sender, {"set": variables}, EV_CONTEXT_SET)


CONDITIONS: st.SearchStrategy[Condition] = st.sampled_from(
    [
        Always(),
        *map(FromSpeaker, MEMBERS),
        ToolCalled("t"),
        ContextEquals("x", 1),
        Not(ContextEquals("x", 1)),
        ContextCompare("x", ">", 0),
    ]
)
TARGETS: st.SearchStrategy[Target] = st.sampled_from(
    [*map(AgentTarget, MEMBERS), RoundRobinTarget(), StayTarget(), RevertToInitiatorTarget(), TerminateTarget()]
)
GRAPHS = st.builds(
    TransitionGraph,
    st.sampled_from(MEMBERS),
    st.lists(st.builds(Transition, CONDITIONS, TARGETS, st.integers(0, 2)), max_size=4),
    TARGETS,
    st.none() | st.integers(1, 12),
)
VALUES = st.sampled_from([None, 1, "x", [1], {"x": 1}, {"kind": "handoff", "target": "b"}, {"kind": "finish"}])
PAYLOADS = st.dictionaries(
    st.sampled_from(["text", "target", "routing", "context_updates", "body", "set", "delete", "key", "value"]),
    VALUES,
    max_size=3,
)
ENVELOPES = st.one_of(
    st.sampled_from(MEMBERS).map(said),
    st.builds(packet, st.sampled_from(MEMBERS), st.just("x"), tool=st.sampled_from([None, "t"])),
    st.builds(packet, st.sampled_from(MEMBERS), st.just("x"), st.builds(Handoff, st.sampled_from([*MEMBERS, "eve"]))),
    st.builds(context, st.sampled_from(MEMBERS), x=st.integers(0, 1)),
    st.builds(skip, st.sampled_from([*MEMBERS, "eve"]), st.sampled_from(["silent", "failed", "gone"])),
    st.builds(
        said, st.sampled_from(MEMBERS), PAYLOADS, st.sampled_from([EV_TEXT, EV_PACKET, EV_HANDOFF, EV_CONTEXT_SET])
    ),
)


@given(GRAPHS, st.lists(ENVELOPES, max_size=25))
@settings(max_examples=300)
def test_what_is_admitted_folds_and_nobody_speaks_out_of_turn(graph: TransitionGraph, moves: list[Envelope]) -> None:
    state, log = start(graph), []
    for envelope in moves:
        if envelope.event_type != EV_TURN_SKIPPED:
            before = pickle.dumps(state)
            try:
                ADAPTER.validate_send(state, envelope)
            except ProtocolError:
                assert pickle.dumps(state) == before
                continue
            assert envelope.event_type == EV_CONTEXT_SET or (envelope.sender_id,) == ADAPTER.expected_next(state)
        state = ADAPTER.fold(state, envelope)
        log.append(envelope)
        assert (state.expected is None) == (state.reason is not None)
        assert state.expected in (None, *MEMBERS)
        assert state.expected is None or state.expected not in state.attendance.gone
        if state.reason is not None:
            break
    replayed = start(graph)
    for envelope in log:
        replayed = ADAPTER.fold(replayed, envelope)
    assert replayed == state


@given(GRAPHS, st.integers(1, 10), st.lists(st.sampled_from(["say", "skip"]), min_size=1, max_size=5))
@settings(max_examples=200)
def test_any_graph_with_max_turns_ends(graph: TransitionGraph, limit: int, habit: list[str]) -> None:
    state = start(attrs.evolve(graph, max_turns=limit))
    patience = (limit + 1) * (len(MEMBERS) + len(graph.transitions) + 1)
    for number in range(patience):
        if state.expected is None:
            break
        move = habit[number % len(habit)]
        envelope = said(state.expected) if move == "say" else skip(state.expected)
        state = ADAPTER.fold(state, envelope)
    assert ADAPTER.auto_close_reason(state)
    assert state.turns <= limit
