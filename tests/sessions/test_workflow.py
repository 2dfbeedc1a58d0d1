"""Workflows: the graph rules, nobody speaks out of turn, and nothing that is admitted can fail to fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import pytest

from agorio.actors.sessions.adapters.check import check_adapter
from agorio.actors.sessions.adapters.workflow import WorkflowAdapter, WorkflowState
from agorio.actors.sessions.graph import Transition, TransitionGraph
from agorio.actors.sessions.graph_codec import GraphRegistry
from agorio.actors.sessions.graph_conditions import (
    Always,
    Condition,
    ContextEquals,
    FromSpeaker,
    Moment,
    ToolCalled,
)
from agorio.actors.sessions.graph_targets import (
    AgentTarget,
    Decision,
    RevertToInitiatorTarget,
    RoundRobinTarget,
    StayTarget,
    Target,
    TerminateTarget,
)
from agorio.actors.sessions.handoff import Finish, Handoff, build_packet
from agorio.actors.sessions.metadata import SessionSetup
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import GraphError, InvalidInput, TurnError
from agorio.mailbox.events import EV_CONTEXT_SET, EV_HANDOFF, EV_PACKET, EV_SESSION_OPENED, EV_TEXT, EV_TURN_SKIPPED

ADAPTER = WorkflowAdapter()
MEMBERS = ("a", "b", "c")


def setup(graph: Any, members: Sequence[str] = MEMBERS, **knobs: Any) -> SessionSetup:
    data = graph.to_dict() if isinstance(graph, TransitionGraph) else graph
    return SessionSetup("s", ADAPTER.manifest, members[0], members, 0.0, None, knobs={"graph": data, **knobs})


def start(graph: TransitionGraph, **knobs: Any) -> WorkflowState:
    ADAPTER.validate_create(setup(graph, **knobs))
    return ADAPTER.initial_state(setup(graph, **knobs))


def said(sender: str, data: Any = None, event_type: str = EV_TEXT) -> Envelope:
    return Envelope("s", sender, None, event_type, {"text": "hello"} if data is None else data)


def packet(sender: str, *args: Any, **kwargs: Any) -> Envelope:
    return said(sender, build_packet(*args, **kwargs), EV_PACKET)


def skip(agent_id: str, reason: str = "silent") -> Envelope:
    return said("a", {"agent_id": agent_id, "reason": reason}, EV_TURN_SKIPPED)


def play(state: WorkflowState, *moves: str | Envelope) -> WorkflowState:
    """A bare name is a text of that member."""
    for move in moves:
        envelope = said(move) if isinstance(move, str) else move
        if envelope.event_type != EV_TURN_SKIPPED:
            ADAPTER.validate_send(state, envelope)
        state = ADAPTER.fold(state, envelope)
    return state


def context(sender: str, **variables: Any) -> Envelope:
    return said(sender, {"set": variables}, EV_CONTEXT_SET)


TALK = TransitionGraph("a", default_target=RoundRobinTarget())


def test_it_keeps_its_promises() -> None:
    graphs = [TALK, TransitionGraph.sequence("a b a".split()), TransitionGraph("a", default_target=StayTarget())]
    names = {"a": "agent0", "b": "agent1"}
    for graph in graphs:
        knobs = {"graph": graph.renamed(lambda _, agent: names[agent]).to_dict(), "context_vars": {"x": 0}}
        check_adapter(ADAPTER, knobs=knobs, runs=8)
    check_adapter(ADAPTER, knobs=lambda ids: {"graph": TransitionGraph.round_robin(ids, max_turns=9).to_dict()}, runs=8)


@pytest.mark.parametrize(
    ("graph", "path"),
    [
        (None, ""),
        ([], ""),
        ({}, "initial_speaker"),
        (TransitionGraph("ghost"), "initial_speaker"),
        (TransitionGraph("a", [Transition(Always(), AgentTarget("ghost"))]), "transitions[0].then.args.agent_id"),
        ({"initial_speaker": "a", "transitions": [{"when": {"name": "always", "args": {}}}]}, "transitions[0].then"),
    ],
)
def test_a_bad_graph_is_refused_at_open_with_its_path(graph: Any, path: str) -> None:
    with pytest.raises(GraphError) as caught:
        ADAPTER.validate_create(setup(graph))
    assert caught.value.details["path"] == path


@pytest.mark.parametrize("knobs", [{"context_vars": [1]}, {"context_vars": "x"}, {"context_writers": "nobody"}])
def test_bad_knobs_are_refused_at_open(knobs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ADAPTER.validate_create(setup(TALK, **knobs))


def test_only_the_expected_speaker_may_speak() -> None:
    state = start(TALK)
    for envelope in (said("b"), packet("b", "x"), said("b", {"target": "a"}, EV_HANDOFF)):
        with pytest.raises(TurnError, match="it is a"):
            ADAPTER.validate_send(state, envelope)
    assert ADAPTER.expected_next(play(state, "a")) == ("b",)


def test_a_sequence_may_name_an_agent_twice() -> None:
    state = start(TransitionGraph.sequence("a b a a c".split()))
    for speaker in "abaa":
        assert ADAPTER.expected_next(state) == (speaker,)
        state = play(state, speaker)
    state = play(state, "c")
    assert ADAPTER.auto_close_reason(state) == "sequence_complete"
    assert ADAPTER.expected_next(state) == ()


def test_a_sequence_goes_on_past_a_silent_step() -> None:
    state = play(start(TransitionGraph.sequence("a b a c".split())), "a", skip("b"))
    assert ADAPTER.expected_next(state) == ("a",)
    assert ADAPTER.auto_close_reason(play(state, "a", "c")) == "sequence_complete"


def test_round_robin_goes_round_the_given_list() -> None:
    state = start(TransitionGraph.round_robin("c a".split(), max_turns=4))
    state = play(state, "c", "a", "c", "a")
    assert ADAPTER.auto_close_reason(state) == "round_robin_complete"
    moderated = start(TransitionGraph.round_robin("a b a c".split()))
    assert play(moderated, *"abacab").expected == "a"


def test_the_graphs_reason_beats_max_turns() -> None:
    graph = TransitionGraph("a", default_target=TerminateTarget("mine"), max_turns=1)
    assert ADAPTER.auto_close_reason(play(start(graph), "a")) == "mine"
    graph = TransitionGraph("a", default_target=StayTarget(), max_turns=2)
    assert ADAPTER.auto_close_reason(play(start(graph), "a", "a")) == "max_turns"


def test_nobody_is_expected_then_nobody_may_speak() -> None:
    over = play(start(TransitionGraph("a")), "a")
    assert ADAPTER.auto_close_reason(over) == "after_work"
    for member in MEMBERS:
        for envelope in (said(member), packet(member, "x"), context(member, x=1)):
            with pytest.raises(TurnError, match="nobody"):
                ADAPTER.validate_send(over, envelope)


def test_a_finish_closes_with_its_reason_and_keeps_its_summary() -> None:
    state = play(start(TALK), packet("a", "bye", Finish("it is done", "solved")))
    assert ADAPTER.auto_close_reason(state) == "solved"
    assert state.summary == "it is done"
    assert ADAPTER.auto_close_reason(play(start(TALK), packet("a", "", Finish()))) == "finished"


@pytest.mark.parametrize(
    "envelope", [packet("a", "yours", Handoff("c", "why")), said("a", {"target": "c", "text": "yours"}, EV_HANDOFF)]
)
def test_a_handoff_beats_the_graph(envelope: Envelope) -> None:
    assert ADAPTER.expected_next(play(start(TALK), envelope)) == ("c",)


@pytest.mark.parametrize(
    ("envelope", "path"),
    [
        (packet("a", "x", Handoff("eve")), "event_data.routing.target"),
        (said("a", {"target": "eve"}, EV_HANDOFF), "event_data.target"),
    ],
)
def test_a_handoff_to_a_stranger_is_refused_before_it_is_logged(envelope: Envelope, path: str) -> None:
    with pytest.raises(GraphError, match="hand off to one of a, b, c") as caught:
        ADAPTER.validate_send(start(TALK), envelope)
    assert caught.value.details["path"] == path


def test_a_handoff_to_somebody_who_is_gone_is_refused() -> None:
    state = play(start(TALK), skip("c", "gone"))
    with pytest.raises(GraphError, match="'c' is not there"):
        ADAPTER.validate_send(state, packet("a", "x", Handoff("c")))


def test_a_static_route_waits_for_its_tool() -> None:
    graph = TransitionGraph("a", [Transition(ToolCalled("done"), TerminateTarget("by tool"))], StayTarget())
    state = play(start(graph), "a")
    assert state.expected == "a"
    assert ADAPTER.auto_close_reason(play(state, packet("a", "x", tool="done"))) == "by tool"


def test_the_graph_sees_what_the_packet_has_just_set() -> None:
    graph = TransitionGraph("a", [Transition(ContextEquals("x", 1), AgentTarget("c"))], RoundRobinTarget())
    assert play(start(graph), packet("a", "", context_set={"x": 1})).expected == "c"
    deleted = play(start(graph, context_vars={"x": 1}), packet("a", "", context_delete=["x"]))
    assert deleted.expected == "b"
    assert deleted.context == {}


def test_any_participant_may_set_variables_without_taking_a_turn() -> None:
    state = play(
        start(TALK, context_vars={"x": 1, "y": 2}), context("b", x=5), said("c", {"delete": ["y"]}, EV_CONTEXT_SET)
    )
    assert state.context == {"x": 5}
    assert (state.expected, state.turns) == ("a", 0)


def test_variables_can_be_left_to_the_speaker() -> None:
    state = start(TALK, context_writers="speaker")
    with pytest.raises(TurnError, match="context_writers"):
        ADAPTER.validate_send(state, context("b", x=1))
    assert play(state, context("a", x=1)).context == {"x": 1}


@pytest.mark.parametrize(
    "envelope",
    [
        said("a", {"set": [1]}, EV_CONTEXT_SET),
        said("a", {}, EV_CONTEXT_SET),
        said("a", {"routing": 1}, EV_PACKET),
        said("a", {"context_updates": {"set": 3}}, EV_PACKET),
        said("a", {"context_set": {"x": 1}}, EV_PACKET),
        said("a", {}, EV_HANDOFF),
        said("a", {}),
        said("a", {"text": 3}),
    ],
)
def test_a_payload_that_cannot_be_folded_is_refused_before_it_is_logged(envelope: Envelope) -> None:
    state = start(TALK)
    with pytest.raises(InvalidInput):
        ADAPTER.validate_send(state, envelope)
    assert state == start(TALK)


def test_the_graph_is_read_once_for_a_session() -> None:
    state = start(TALK)
    assert play(state, "a", "b", skip("c")).graph is state.graph


def test_a_silent_speaker_is_passed_over_as_the_graph_says() -> None:
    graph = TransitionGraph("a", [Transition(FromSpeaker("b"), AgentTarget("a"))], RoundRobinTarget())
    state = play(start(graph), "a", skip("b", "failed"))
    assert (state.expected, state.turns, state.step) == ("a", 1, 2)
    stale = play(start(graph), skip("b"))
    assert stale == start(graph)


def test_who_is_gone_is_passed_over_from_then_on() -> None:
    state = play(start(TALK), "a", skip("b", "gone"))
    assert state.expected == "c"
    assert play(state, "c", "a").expected == "c"
    early = play(start(TALK), skip("b", "gone"))
    assert early.expected == "a"
    assert play(early, "a").expected == "c"


def test_a_sequence_with_a_gone_agent_still_completes() -> None:
    state = play(start(TransitionGraph.sequence("a b b b b b c".split())), skip("b", "gone"), "a")
    assert state.expected == "c"
    assert ADAPTER.auto_close_reason(play(state, "c")) == "sequence_complete"


@pytest.mark.parametrize("target", [StayTarget(), RevertToInitiatorTarget(), AgentTarget("a"), RoundRobinTarget()])
def test_skips_in_a_row_end_it(target: Target) -> None:
    state = start(TransitionGraph("a", default_target=target))
    for _ in range(10):
        if state.reason is None:
            assert state.expected is not None
            state = play(state, skip(state.expected))
    assert ADAPTER.auto_close_reason(state) == "all_silent"


@pytest.mark.parametrize("target", [StayTarget(), RevertToInitiatorTarget(), AgentTarget("a")])
def test_a_graph_that_insists_on_somebody_gone_ends(target: Target) -> None:
    state = play(start(TransitionGraph("a", default_target=target)), skip("a", "gone"))
    assert ADAPTER.auto_close_reason(state) == "all_silent"


def test_a_text_in_between_breaks_the_silence() -> None:
    state = play(start(TALK), skip("a"), *"bca", skip("b"), skip("c"))
    assert ADAPTER.auto_close_reason(state) is None


def test_everybody_gone_ends_it() -> None:
    state = play(start(TALK), skip("c", "gone"), skip("b", "gone"), skip("a", "gone"))
    assert ADAPTER.auto_close_reason(state) == "all_silent"


def test_other_events_change_nothing() -> None:
    state = start(TALK)
    for event_type in (EV_SESSION_OPENED, "app.note", "ag2.task.progress"):
        assert ADAPTER.fold(state, said("b", {"x": 1}, event_type)) == state


def test_routing_is_shown_to_the_next_reader() -> None:
    assert "it works" in ADAPTER.render(packet("a", "bye", Finish("it works")))
    assert ADAPTER.render(said("a")) == "hello"


@attrs.frozen
class Elsewhere(Target):
    """Sends the word out of the session."""

    wire_name: ClassVar[str] = "elsewhere"

    def choose(self, moment: Moment) -> Decision:
        return Decision("nobody we know")


@attrs.frozen
class Keyword(Condition):
    """Holds after a text with a word in it."""

    wire_name: ClassVar[str] = "keyword"
    word: str

    def holds(self, moment: Moment) -> bool:
        return self.word in moment.text


def test_types_of_ones_own_work_where_they_are_registered() -> None:
    adapter = WorkflowAdapter(GraphRegistry(Keyword, Elsewhere))
    graph = TransitionGraph("a", [Transition(Keyword("stop"), TerminateTarget("asked"))], Elsewhere())
    adapter.validate_create(setup(graph))
    state = adapter.initial_state(setup(graph))
    assert adapter.auto_close_reason(adapter.fold(state, said("a", {"text": "please stop"}))) == "asked"
    assert adapter.auto_close_reason(adapter.fold(state, said("a"))) == "unknown_speaker"


def test_names_in_the_graph_become_ids_by_the_adapters_own_registry() -> None:
    adapter = WorkflowAdapter(GraphRegistry(Keyword))
    graph = TransitionGraph("alice", [Transition(Keyword("stop"), AgentTarget("bob"))])
    knobs = adapter.resolve_knobs(
        {"graph": graph.to_dict(), "context_vars": {}}, {"alice": "a", "bob": "b"}.__getitem__
    )
    adapter.validate_create(setup(knobs["graph"]))
    assert adapter.resolve_knobs({"context_vars": {}}, str) == {"context_vars": {}}


def test_without_them_only_that_session_fails() -> None:
    graph = TransitionGraph("a", [Transition(Keyword("stop"), TerminateTarget())])
    with pytest.raises(GraphError, match="keyword"):
        ADAPTER.initial_state(setup(graph))
    assert ADAPTER.initial_state(setup(TALK)).expected == "a"
