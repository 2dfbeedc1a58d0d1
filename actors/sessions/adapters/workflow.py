"""`workflow`: a transition graph says who speaks; one that is silent, failed or gone is passed over by the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.errors import GraphError, InvalidInput, TurnError
from ....mailbox.events import EV_CONTEXT_SET, EV_HANDOFF, EV_PACKET, EV_TURN_SKIPPED
from ....mailbox.frozen import EMPTY, FrozenDict, freeze
from ..graph import TransitionGraph, resolve_names
from ..graph_codec import GraphRegistry
from ..graph_conditions import Moment
from ..graph_targets import Decision
from ..handoff import (
    DEFAULT_FINISH,
    Packet,
    Routing,
    read_context_set,
    read_handoff,
    read_packet,
    render_routed,
    target_path,
)
from ..metadata import Expectation, Manifest, ParticipantSchema, SessionSetup
from .base import SessionAdapter, is_text, require_text, wrong_turn
from .saving import load_record, save_record
from .turns import ALL_SILENT, Attendance, read_skip

CONTEXT_WRITERS = ("anyone", "speaker")
TERMINATED = "workflow_terminated"


@attrs.frozen
class WorkflowState:
    """The fold of a workflow."""

    graph: TransitionGraph
    """Who speaks when; read once, when the session starts or is rebuilt."""
    order: tuple[str, ...]
    """The participants, the creator first."""
    expected: str | None
    """Whose turn it is; None when it is over."""
    context: FrozenDict = EMPTY
    """The context variables."""
    turns: int = 0
    """Turns taken."""
    step: int = 0
    """Turns taken or passed over."""
    last_speaker: str | None = None
    """Who took the newest turn."""
    reason: str | None = None
    """Why it is over."""
    summary: str = ""
    """The outcome that `Finish` gave."""
    attendance: Attendance = Attendance()
    """Who was passed over."""
    context_writers: str = "anyone"
    """Who may set context variables outside a packet: `anyone` or the `speaker`."""


class WorkflowAdapter(SessionAdapter):
    """A `TransitionGraph` in the knob `graph` rules who speaks; `context_vars` are its first variables.

    A graph with conditions or targets of the user's own needs the `GraphRegistry` that knows them; a session whose
    graph names one that is not registered raises `GraphError` for itself alone.
    """

    manifest = Manifest(
        type="workflow",
        participants=ParticipantSchema(2, None, ("initiator", "respondent", "participant")),
        knobs=("graph", "context_vars", "context_writers"),
        default_view_policy="named_windowed",
        expectations=(
            Expectation("turn_within", "warn", {"seconds": 120}),
            Expectation("turn_within", "auto_close", {"seconds": 600}),
        ),
    )

    def __init__(self, graphs: GraphRegistry | None = None) -> None:
        self.graphs = graphs or GraphRegistry()

    def resolve_knobs(self, knobs: Mapping[str, Any], resolve: Callable[[str], str]) -> dict[str, Any]:
        """The knobs with the agents that the graph names, by name or by id, replaced by their ids."""
        if knobs.get("graph") is None:
            return dict(knobs)
        return {**knobs, "graph": resolve_names(knobs["graph"], resolve, self.graphs)}

    def validate_create(self, setup: SessionSetup) -> None:
        self.initial_state(setup).graph.check_participants(setup.participants)

    def initial_state(self, setup: SessionSetup) -> WorkflowState:
        data = setup.knobs.get("graph")
        if data is None:
            raise GraphError("a workflow needs knobs={'graph': graph.to_dict()}", path="")
        graph = TransitionGraph.from_dict(data, self.graphs)
        writers = setup.knobs.get("context_writers", CONTEXT_WRITERS[0])
        if writers not in CONTEXT_WRITERS:
            options = ", ".join(CONTEXT_WRITERS)
            raise InvalidInput(f"knob context_writers={writers!r} is unknown; use {options}", field="context_writers")
        return WorkflowState(
            graph=graph,
            order=(setup.creator_id, *setup.invitees),
            expected=graph.initial_speaker,
            context=_first_context(setup),
            context_writers=writers,
        )

    def save_state(self, state: WorkflowState) -> Any:
        return save_record(state, without=("graph",))

    def load_state(self, setup: SessionSetup, saved: Any) -> WorkflowState:
        return load_record(WorkflowState, saved, graph=self.initial_state(setup).graph)

    def validate_send(self, state: WorkflowState, envelope: Envelope) -> None:
        require_text(envelope)
        if envelope.event_type == EV_CONTEXT_SET:
            _check_context_set(state, envelope)
        elif is_text(envelope.event_type):
            if envelope.sender_id not in self.expected_next(state):
                raise wrong_turn(envelope.session_id, envelope.sender_id, self.expected_next(state))
            _check_target(state, envelope.event_type, _read(envelope).routing.target)

    def fold(self, state: WorkflowState, envelope: Envelope) -> WorkflowState:
        if envelope.event_type == EV_CONTEXT_SET:
            return attrs.evolve(state, context=read_context_set(envelope.event_data).apply(state.context))
        if envelope.event_type == EV_TURN_SKIPPED:
            return _skip(state, *read_skip(envelope))
        return _turn(state, envelope.sender_id, _read(envelope)) if is_text(envelope.event_type) else state

    def auto_close_reason(self, state: WorkflowState) -> str | None:
        return state.reason

    def expected_next(self, state: WorkflowState) -> tuple[str, ...]:
        return () if state.expected is None else (state.expected,)

    def summary(self, state: WorkflowState) -> str:
        return state.summary

    def context(self, state: WorkflowState) -> FrozenDict:
        return state.context

    def render(self, envelope: Envelope) -> str:
        return render_routed(envelope) if envelope.event_type in (EV_HANDOFF, EV_PACKET) else super().render(envelope)


def _first_context(setup: SessionSetup) -> FrozenDict:
    variables = setup.knobs.get("context_vars")
    if variables is None:
        return EMPTY
    if not isinstance(variables, Mapping):
        raise InvalidInput("knob context_vars must be an object of variables", field="context_vars")
    frozen: FrozenDict = freeze(variables, "context_vars")
    return frozen


def _check_context_set(state: WorkflowState, envelope: Envelope) -> None:
    if state.expected is None:
        raise wrong_turn(envelope.session_id, envelope.sender_id, ())
    if state.context_writers == "speaker" and envelope.sender_id != state.expected:
        raise TurnError(
            f"knob context_writers='speaker': only {state.expected}, whose turn it is, may set variables now",
            session_id=envelope.session_id,
            expected=[state.expected],
        )
    read_context_set(envelope.event_data)


def _check_target(state: WorkflowState, event_type: str, target: str | None) -> None:
    present = [agent_id for agent_id in state.order if agent_id not in state.attendance.gone]
    if target is not None and target not in present:
        path = target_path(event_type)
        raise GraphError(f"{path}: {target!r} is not there; hand off to one of {', '.join(present)}", path=path)


def _read(envelope: Envelope) -> Packet:
    if envelope.event_type == EV_PACKET:
        return read_packet(envelope.event_data)
    if envelope.event_type == EV_HANDOFF:
        return read_handoff(envelope.event_data)
    return Packet(body=envelope.text)


def _turn(state: WorkflowState, speaker: str, packet: Packet) -> WorkflowState:
    """Context first, then the count, then the routing: the graph sees what the packet has just set."""
    taken = attrs.evolve(
        state,
        context=packet.updates.apply(state.context),
        turns=state.turns + 1,
        step=state.step + 1,
        last_speaker=speaker,
        attendance=state.attendance.spoke(),
        summary=packet.routing.summary or state.summary,
    )
    decision = _route(packet.routing) or taken.graph.decide(_moment(taken, speaker, packet.routing.tool, packet.body))
    settled = _settle(taken, decision)
    limit = settled.graph.max_turns
    if settled.reason is None and limit is not None and settled.turns >= limit:
        return attrs.evolve(settled, expected=None, reason="max_turns")
    return settled


def _route(routing: Routing) -> Decision | None:
    if routing.kind == "finish":
        return Decision(None, routing.reason or DEFAULT_FINISH)
    return Decision(routing.target) if routing.target is not None else None


def _moment(state: WorkflowState, speaker: str, tool: str | None = None, text: str = "") -> Moment:
    return Moment(
        speaker=speaker,
        order=state.order,
        initiator=state.order[0],
        turns=state.turns,
        step=state.step,
        tool=tool,
        text=text,
        context=state.context,
    )


def _skip(state: WorkflowState, agent_id: str, for_good: bool) -> WorkflowState:
    """A notice about somebody whose turn it is not is news only if it says that they are gone."""
    attendance = state.attendance.left(agent_id) if for_good else state.attendance
    if agent_id != state.expected:
        noted = attrs.evolve(state, attendance=attendance)
        return _over(noted, ALL_SILENT) if state.reason is None and attendance.all_silent(state.order) else noted
    return _pass_over(attrs.evolve(state, attendance=attendance.passed(agent_id)), agent_id)


def _pass_over(state: WorkflowState, agent_id: str) -> WorkflowState:
    """The graph decides as if the agent had said nothing, unless nobody is left who could say something."""
    passed = attrs.evolve(state, step=state.step + 1)
    if passed.attendance.all_silent(state.order) or len(passed.attendance.skipped) >= _patience(state):
        return _over(passed, ALL_SILENT)
    return _settle(passed, passed.graph.decide(_moment(passed, agent_id)))


def _patience(state: WorkflowState) -> int:
    """Skips in a row before the session gives up: a graph may come back to one agent several times in a line."""
    return len(state.order) + len(state.graph.transitions)


def _settle(state: WorkflowState, decision: Decision) -> WorkflowState:
    """To the one decided on; whoever is gone is passed over here and now, for as long as the skips last."""
    for _ in range(_patience(state)):
        speaker = decision.speaker
        if speaker is None:
            return _over(state, decision.reason or TERMINATED)
        if speaker not in state.order:
            return _over(state, "unknown_speaker")
        if speaker not in state.attendance.gone:
            return attrs.evolve(state, expected=speaker)
        state = attrs.evolve(state, step=state.step + 1)
        decision = state.graph.decide(_moment(state, speaker))
    return _over(state, ALL_SILENT)


def _over(state: WorkflowState, reason: str) -> WorkflowState:
    return attrs.evolve(state, expected=None, reason=reason)
