"""`discussion`: two or more in turn, round and round; one that is silent, failed or gone is passed over."""

from __future__ import annotations

from typing import Any

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.errors import InvalidInput
from ....mailbox.events import EV_HANDOFF, EV_PACKET, EV_TURN_SKIPPED
from ..handoff import read_handoff, read_packet, render_routed
from ..metadata import Expectation, Manifest, ParticipantSchema, SessionSetup
from .base import SessionAdapter, is_text, require_text, wrong_turn
from .saving import load_record, save_record
from .turns import ALL_SILENT, Attendance, limit_knob, read_skip

ORDERINGS = ("round_robin",)


@attrs.frozen
class DiscussionState:
    """The fold of a discussion."""

    order: tuple[str, ...]
    """The ring, the creator first."""
    place: int = 0
    """Whose turn it is, as a place in the ring."""
    turns: int = 0
    """Texts so far."""
    rounds: int = 0
    """Times that the ring was gone through."""
    last_speaker: str | None = None
    """Who said the newest."""
    attendance: Attendance = Attendance()
    """Who was passed over."""
    max_turns: int | None = None
    """Close after so many texts."""
    max_rounds: int | None = None
    """Close after so many rounds."""

    @property
    def speaker(self) -> str:
        """Whose turn it is."""
        return self.order[self.place]


class DiscussionAdapter(SessionAdapter):
    """Everybody in turn, the creator first. The knobs `max_turns` and `max_rounds` close it."""

    manifest = Manifest(
        type="discussion",
        participants=ParticipantSchema(2, None, ("initiator", "respondent", "participant")),
        knobs=("ordering", "max_turns", "max_rounds"),
        default_view_policy="named_windowed",
        expectations=(
            Expectation("turn_within", "warn", {"seconds": 120}),
            Expectation("turn_within", "hide", {"seconds": 600}),
        ),
    )

    def validate_create(self, setup: SessionSetup) -> None:
        ordering = setup.knobs.get("ordering", ORDERINGS[0])
        if ordering not in ORDERINGS:
            raise InvalidInput(f"knob ordering={ordering!r} is unknown; use {', '.join(ORDERINGS)}", field="ordering")
        limit_knob(setup, "max_turns")
        limit_knob(setup, "max_rounds")

    def initial_state(self, setup: SessionSetup) -> DiscussionState:
        return DiscussionState(
            order=(setup.creator_id, *setup.invitees),
            max_turns=limit_knob(setup, "max_turns"),
            max_rounds=limit_knob(setup, "max_rounds"),
        )

    def save_state(self, state: DiscussionState) -> Any:
        return save_record(state)

    def load_state(self, setup: SessionSetup, saved: Any) -> DiscussionState:
        return load_record(DiscussionState, saved)

    def validate_send(self, state: DiscussionState, envelope: Envelope) -> None:
        require_text(envelope)
        if not is_text(envelope.event_type):
            return
        if envelope.sender_id not in self.expected_next(state):
            raise wrong_turn(envelope.session_id, envelope.sender_id, self.expected_next(state))
        if envelope.event_type == EV_HANDOFF:
            read_handoff(envelope.event_data)
        elif envelope.event_type == EV_PACKET:
            read_packet(envelope.event_data)

    def fold(self, state: DiscussionState, envelope: Envelope) -> DiscussionState:
        if envelope.event_type == EV_TURN_SKIPPED:
            return _skip(state, *read_skip(envelope))
        if not is_text(envelope.event_type):
            return state
        spoken = attrs.evolve(
            state,
            turns=state.turns + 1,
            last_speaker=envelope.sender_id,
            attendance=state.attendance.spoke(),
        )
        return _advance(spoken)

    def auto_close_reason(self, state: DiscussionState) -> str | None:
        if state.max_turns is not None and state.turns >= state.max_turns:
            return "max_turns"
        if state.max_rounds is not None and state.rounds >= state.max_rounds:
            return "max_rounds"
        return ALL_SILENT if state.attendance.all_silent(state.order) else None

    def expected_next(self, state: DiscussionState) -> tuple[str, ...]:
        return () if self.auto_close_reason(state) else (state.speaker,)

    def render(self, envelope: Envelope) -> str:
        return render_routed(envelope) if envelope.event_type in (EV_HANDOFF, EV_PACKET) else super().render(envelope)


def _skip(state: DiscussionState, agent_id: str, for_good: bool) -> DiscussionState:
    """A notice about somebody whose turn it is not is news only if it says that they are gone."""
    attendance = state.attendance.left(agent_id) if for_good else state.attendance
    if agent_id != state.speaker:
        return attrs.evolve(state, attendance=attendance)
    return _advance(attrs.evolve(state, attendance=attendance.passed(agent_id)))


def _advance(state: DiscussionState) -> DiscussionState:
    """To the next one who is still there; with nobody left, to the next."""
    place, rounds, size = state.place, state.rounds, len(state.order)
    for _ in range(size):
        place = (place + 1) % size
        rounds += place == 0
        if state.order[place] not in state.attendance.gone:
            break
    return attrs.evolve(state, place=place, rounds=rounds)
