"""`consulting`: one question, one reply, then the session closes by itself; at once where no reply will come."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.events import EV_TURN_SKIPPED
from ..metadata import Expectation, Manifest, ParticipantSchema, SessionSetup
from .base import SessionAdapter, is_text, require_text, wrong_turn
from .saving import load_record, save_record
from .turns import read_skip

NO_REPLY: Final = "no_reply"
TURN_FAILED: Final = "turn_failed"


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
    unanswered: str = ""
    """Why no answer will come; empty while one may."""


class ConsultingAdapter(SessionAdapter):
    """The initiator sends one text, the respondent one text, then the session closes as `consulting_complete`.

    Where the respondent has nothing to say it closes as `no_reply`, where its turn has failed for good, `turn_failed`.
    """

    state_format = 2
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
        if envelope.event_type == EV_TURN_SKIPPED:
            return self._fold_skip(state, envelope)
        if not is_text(envelope.event_type):
            return state
        return attrs.evolve(state, replied=True) if state.asked else attrs.evolve(state, asked=True)

    def _fold_skip(self, state: ConsultingState, envelope: Envelope) -> ConsultingState:
        agent_id, is_absent = read_skip(envelope)
        if agent_id != state.respondent or is_absent or not state.asked or state.replied:
            return state  # the hub itself closes a session that somebody has left
        failed = envelope.event_data.get("reason") != "silent"
        return attrs.evolve(state, unanswered=TURN_FAILED if failed else NO_REPLY)

    def auto_close_reason(self, state: ConsultingState) -> str | None:
        return "consulting_complete" if state.replied else state.unanswered or None

    def expected_next(self, state: ConsultingState) -> tuple[str, ...]:
        if state.replied or state.unanswered:
            return ()
        return (state.respondent,) if state.asked else (state.initiator,)
