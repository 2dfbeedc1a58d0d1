"""`consulting`: one question, one reply, then the session closes by itself."""

from __future__ import annotations

from typing import Any

import attrs

from ....mailbox.envelope import Envelope
from ..metadata import Expectation, Manifest, ParticipantSchema, SessionSetup
from .base import SessionAdapter, is_text, require_text, wrong_turn
from .saving import load_record, save_record


@attrs.frozen
class ConsultingState:
    """The fold of a consultation."""

    initiator: str
    """Who asks."""
    respondent: str
    """Who replies."""
    asked: bool = False
    """Whether the question was put."""
    replied: bool = False
    """Whether it was answered."""


class ConsultingAdapter(SessionAdapter):
    """The initiator sends one text, the respondent one text, then the session closes as `consulting_complete`."""

    manifest = Manifest(
        type="consulting",
        participants=ParticipantSchema(2, 2, ("initiator", "respondent")),
        default_view_policy="full",
        # No acks_within: `Hub.open(invite_ack_timeout=...)` closes an unanswered invitation already.
        expectations=(Expectation("reply_within", "auto_close", {"seconds": 600}),),
    )

    def initial_state(self, setup: SessionSetup) -> ConsultingState:
        return ConsultingState(setup.creator_id, setup.invitees[0])

    def save_state(self, state: ConsultingState) -> Any:
        return save_record(state)

    def load_state(self, setup: SessionSetup, saved: Any) -> ConsultingState:
        return load_record(ConsultingState, saved)

    def validate_send(self, state: ConsultingState, envelope: Envelope) -> None:
        require_text(envelope)
        if is_text(envelope.event_type) and envelope.sender_id not in self.expected_next(state):
            raise wrong_turn(envelope.session_id, envelope.sender_id, self.expected_next(state))

    def fold(self, state: ConsultingState, envelope: Envelope) -> ConsultingState:
        if not is_text(envelope.event_type):
            return state
        return attrs.evolve(state, replied=True) if state.asked else attrs.evolve(state, asked=True)

    def auto_close_reason(self, state: ConsultingState) -> str | None:
        return "consulting_complete" if state.replied else None

    def expected_next(self, state: ConsultingState) -> tuple[str, ...]:
        if state.replied:
            return ()
        return (state.respondent,) if state.asked else (state.initiator,)
