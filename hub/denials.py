"""What was refused and to whom: the audit record of a denial, and what listeners are told of a refused send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actors.sessions.operations import AuthChallenge, Register
from ..mailbox.errors import AccessDeniedError, AgorioError, AuthError, InboxFull, ParkedError, RateLimited
from ..mailbox.events import AUDIT_KIND_DENIED
from ..transports.frames import ReceiptFrame, RequestFrame, SendFrame, SubscribeFrame
from .connections import Connection
from .events import EnvelopeRefused

if TYPE_CHECKING:
    from .services import Services

MAX_TEXT = 500
_ACTORS = ("agent_id", "creator_id")


class Denials:
    """Takes note of refusals."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def note(self, connection: Connection, frame: Any, error: AgorioError) -> None:
        """A frame was refused. What governance refused is audited, with the actor as far as it is known."""
        if type(frame) is SendFrame:
            self._publish(frame, error)
        if not isinstance(error, AccessDeniedError | AuthError | InboxFull | RateLimited):
            return
        subject = _subject(frame)
        claimed = subject.pop("agent_id", None)
        entry = connection.bound.get(claimed) if claimed is not None else None
        if entry is not None:
            if isinstance(error, InboxFull | RateLimited | ParkedError):
                if entry.denied_for == error.code:
                    return  # one record per run of refusals; a flood must not flood the audit log
                entry.denied_for = error.code
            subject["name"] = entry.name
        elif claimed is not None:
            subject["claimed"] = claimed  # nobody has proven to be that
        self._services.audit.write(
            AUDIT_KIND_DENIED,
            agent_id=entry.agent_id if entry is not None else None,
            connection=connection.endpoint_id,
            code=error.code,
            reason=str(error)[:MAX_TEXT],
            **subject,
        )

    def _publish(self, frame: SendFrame, error: AgorioError) -> None:
        listeners, envelope = self._services.listeners, frame.envelope
        if listeners and listeners.wants(EnvelopeRefused):
            listeners.publish(
                EnvelopeRefused(
                    str(envelope.sender_id),
                    str(envelope.session_id),
                    str(envelope.event_type),
                    error.code,
                    str(error),
                )
            )


def _subject(frame: Any) -> dict[str, str]:
    """Who asked for what, from the fields that a frame has; nothing of credentials is among them."""
    if isinstance(frame, SendFrame):
        return _texts(op="send", agent_id=frame.envelope.sender_id, session_id=frame.envelope.session_id)
    if isinstance(frame, SubscribeFrame):
        return _texts(op="subscribe", agent_id=frame.agent_id, session_id=frame.session_id)
    if isinstance(frame, ReceiptFrame):
        return _texts(op="receipt", agent_id=frame.recipient_id, session_id=frame.session_id)
    if not isinstance(frame, RequestFrame):
        return {}
    params = frame.params
    if isinstance(params, Register):
        return _texts(op=frame.op, name=params.passport.name)
    if isinstance(params, AuthChallenge):
        return _texts(op=frame.op, name=params.name)
    actor = next((getattr(params, field) for field in _ACTORS if hasattr(params, field)), None)
    session_type = getattr(params, "type", None) if frame.op == "open_session" else None
    return _texts(op=frame.op, agent_id=actor, session_id=getattr(params, "session_id", None), type=session_type)


def _texts(**fields: Any) -> dict[str, str]:
    return {key: value[:MAX_TEXT] for key, value in fields.items() if isinstance(value, str) and value}
