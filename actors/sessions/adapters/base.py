"""What a session type is to the hub: pure rules over a frozen state.

An adapter judges before the log is written (`validate_create`, `validate_send`) and folds what the log holds (`fold`).
It has no state of its own, reads no clock and does no I/O: folding the same log gives the same state on every machine
and after every restart, and the client asks the same rules that the hub refuses by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.errors import InvalidInput, TurnError
from ....mailbox.events import EV_CONTEXT_SET, EV_HANDOFF, EV_PACKET, EV_TEXT, TASK_PREFIX
from ....mailbox.frozen import EMPTY
from ..metadata import Manifest, SessionSetup


class SessionAdapter:
    """The base of every session type; a subclass sets `manifest` and overrides what differs.

    The base is a free conversation: anybody may speak at any time and nothing closes the session. The state may be any
    immutable value with `==`; an exception from `fold` of an envelope that `validate_send` admitted refuses the
    envelope before it is logged.
    """

    manifest: Manifest
    state_format: int = 1
    """Raised when `save_state` writes something else than before, or `fold` comes to another state."""

    def validate_create(self, setup: SessionSetup) -> None:
        """Refuse an opening: raise `InvalidInput` or `GraphError`. The participants' number is checked already."""

    def initial_state(self, setup: SessionSetup) -> Any:
        """The state before the first envelope."""
        return None

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        """Refuse an envelope: raise `TurnError` or another `ProtocolError`.

        Lifecycle and task events do not come here.
        """

    def fold(self, state: Any, envelope: Envelope) -> Any:
        """The state after an envelope. Called for every logged one but invitations and their answers, in log order."""
        return state

    def auto_close_reason(self, state: Any) -> str | None:
        """Why the session is over in this state, or None while it goes on."""
        return None

    def expected_next(self, state: Any) -> tuple[str, ...] | None:
        """Whose turn it is; None where anybody may speak, `()` where nobody may."""
        return None

    def summary(self, state: Any) -> str:
        """What the session came to, for its closing notice; empty where it says nothing."""
        return ""

    def context(self, state: Any) -> Mapping[str, Any]:
        """The session's context variables; empty where the type has none."""
        return EMPTY

    def save_state(self, state: Any) -> Any:
        """The state as JSON values, so that a snapshot spares folding a long log; None where the type has no such form.

        A type that saves its state raises `state_format` or its manifest's version whenever its rules change.
        """
        return None

    def load_state(self, setup: SessionSetup, saved: Any) -> Any:
        """The state that `save_state` gave. Whatever this raises leads to a fold of the whole log."""
        raise NotImplementedError

    def resolve_knobs(self, knobs: Mapping[str, Any], resolve: Callable[[str], str]) -> dict[str, Any]:
        """The knobs with agents that they name, by name or id, replaced by their ids."""
        return dict(knobs)

    def render(self, envelope: Envelope) -> str:
        """The envelope as text for a reader; empty where it says nothing to one."""
        if envelope.event_type == EV_HANDOFF and not envelope.text:
            reason = envelope.event_data.get("reason")
            return f"[Handed off] {reason}" if isinstance(reason, str) and reason else "[Handed off]"
        return envelope.text if envelope.event_type in (EV_TEXT, EV_HANDOFF) else ""


@attrs.frozen
class Speaker:
    """Who spoke last, folded from the log by the simple session types."""

    turns: int = 0
    """Texts so far."""
    last_speaker: str | None = None
    """Who said the newest."""


def is_content(event_type: str) -> bool:
    """Whether the event is something said, as opposed to bookkeeping about tasks or context."""
    return not event_type.startswith(TASK_PREFIX) and event_type != EV_CONTEXT_SET


def is_text(event_type: str) -> bool:
    """Whether the event takes a turn where turns are kept."""
    return event_type in (EV_TEXT, EV_HANDOFF, EV_PACKET)


def require_text(envelope: Envelope) -> None:
    """Refuse a text event without a text."""
    if envelope.event_type == EV_TEXT and not isinstance(envelope.event_data.get("text"), str):
        raise InvalidInput("a text envelope needs event_data {'text': '...'} with a string", path="event_data.text")


def wrong_turn(session_id: str, sender_id: str, expected: tuple[str, ...]) -> TurnError:
    """The error for speaking out of turn; it says whose turn it is."""
    whose = " or ".join(expected) if expected else "nobody's"
    return TurnError(
        f"it is not {sender_id}'s turn in session {session_id}; it is {whose}",
        session_id=session_id,
        expected=list(expected),
    )
