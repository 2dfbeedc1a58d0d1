"""`conversation`: two participants, free order, open until somebody closes it or its TTL ends."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.errors import InvalidInput, TurnError
from ..metadata import Expectation, Manifest, ParticipantSchema, SessionSetup
from .base import SessionAdapter, Speaker, is_text, require_text
from .saving import load_record, save_record


@attrs.frozen
class ConversationState:
    """The fold of a conversation."""

    said: Speaker = Speaker()
    """Who spoke last."""
    max_turns: int | None = None
    """Close after so many texts; guards against two machines that answer each other for ever."""


_UNSAID: Final = Speaker()
_UNLIMITED: Final = ConversationState()


class ConversationAdapter(SessionAdapter):
    """Two participants, free order. The knob `max_turns` closes it after so many texts."""

    manifest = Manifest(
        type="conversation",
        participants=ParticipantSchema(2, 2, ("initiator", "respondent")),
        knobs=("max_turns",),
        default_view_policy="windowed",
        expectations=(Expectation("max_silence", "audit", {"seconds": 3600}),),
    )

    def validate_create(self, setup: SessionSetup) -> None:
        limit = setup.knobs.get("max_turns")
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise InvalidInput(f"knob max_turns={limit!r} must be a whole number of at least 1", field="max_turns")

    def initial_state(self, setup: SessionSetup) -> ConversationState:
        limit = setup.knobs.get("max_turns")
        return _UNLIMITED if limit is None else ConversationState(_UNSAID, limit)

    def save_state(self, state: ConversationState) -> Any:
        return save_record(state)

    def load_state(self, setup: SessionSetup, saved: Any) -> ConversationState:
        return load_record(ConversationState, saved)

    def validate_send(self, state: ConversationState, envelope: Envelope) -> None:
        require_text(envelope)
        if state.max_turns is not None and state.said.turns >= state.max_turns:
            raise TurnError(f"the conversation has had its {state.max_turns} turns", session_id=envelope.session_id)

    def fold(self, state: ConversationState, envelope: Envelope) -> ConversationState:
        if not is_text(envelope.event_type):
            return state
        return ConversationState(Speaker(state.said.turns + 1, envelope.sender_id), state.max_turns)

    def auto_close_reason(self, state: ConversationState) -> str | None:
        if state.max_turns is not None and state.said.turns >= state.max_turns:
            return "max_turns"
        return None

    def expected_next(self, state: Any) -> tuple[str, ...] | None:
        return None
