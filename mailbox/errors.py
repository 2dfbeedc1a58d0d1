"""Every error agorio raises, each with a stable wire code.

Split by whose fault it is: a `NetworkError` is a refusal by the hub or by a rule of the network (the sender can mend
it), an `ActorError` comes from the kernel (an actor stopped, crashed or would deadlock), a `LinkError` from the way in
between. Only the codec and the hub's door translate between these classes and `(code, message, details)` on the wire;
`details` holds plain JSON values, so an error arrives over every link as the same type with the same fields.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AgorioError(Exception):
    """The base of all errors raised by agorio. `code` is stable across releases, `details` are plain JSON values."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class NetworkError(AgorioError):
    """The hub or a rule of the network refused; nothing was changed."""

    code = "network_error"


class ProtocolError(NetworkError):
    """The request is not legal here and now: wrong turn, wrong state, malformed.

    Read the message for the legal move.
    """

    code = "protocol_error"


class InvalidInput(ProtocolError, ValueError):
    """A value is outside its grammar or range. Correct the value that the message names; retrying as is cannot help."""

    code = "invalid"


class NameTaken(ProtocolError):
    """The name is registered already. Choose another, or pass `attach=True` to take up the stored identity."""

    code = "name_taken"


class SessionClosedError(ProtocolError):
    """The session is closed or expired and accepts nothing more. Open a new one."""

    code = "session_closed"


class TurnError(ProtocolError):
    """It is somebody else's turn. The message names whose; wait for their envelope, then send."""

    code = "not_your_turn"


class GraphError(ProtocolError, ValueError):
    """A transition graph is malformed or names somebody who is not in the session. `details["path"]` says where."""

    code = "bad_graph"


class NotFoundError(NetworkError, LookupError):
    """No such agent, session, task or session type. Check the id, or list what exists."""

    code = "not_found"

    def __str__(self) -> str:
        return self.message


class AccessDeniedError(NetworkError):
    """A rule or the arbiter forbids it. The message names the rule's field."""

    code = "access_denied"


class NotAMemberError(AccessDeniedError, ProtocolError):
    """The agent is not a participant of the session. Only members send to, read and close a session."""

    code = "not_a_member"


class ParkedError(AccessDeniedError):
    """The agent has used more than its rule's budget allows, or the operator has parked it.

    It gets no mail and begins nothing new until the hub's operator resumes it: `hub.resume_agent(name)`, or
    `agorio resume`. What it has in hand it may still answer.
    """

    code = "parked"


class AuthError(NetworkError):
    """The credentials do not prove the identity. Present those of the registered scheme."""

    code = "auth_failed"


class Superseded(AuthError):
    """Another connection has taken up the identity. Two programs must not act as one agent: give each its own name."""

    code = "superseded"


class InboxFull(NetworkError):
    """A recipient's inbox is at its cap. Wait until it has handled some mail, or raise `Rule.inbox.max_pending`."""

    code = "inbox_full"


class RateLimited(NetworkError):
    """The sender's token bucket is empty. Retry after `retry_after` seconds; `Rule.rate` sets the limit."""

    code = "rate_limited"

    @property
    def retry_after(self) -> float:
        """Seconds on the hub's clock until one envelope will be admitted."""
        return float(self.details.get("retry_after", 0.0))


class ConflictError(NetworkError):
    """Somebody else changed the record first. Read it again and retry."""

    code = "conflict"


class HubClosedError(NetworkError):
    """The hub is closed or closing and takes no new work. Open a new hub on the same store."""

    code = "hub_closed"


class StoreError(NetworkError):
    """The store could not commit; the change did not happen. See the cause for the disk's own error."""

    code = "store_error"


class QuarantinedError(StoreError):
    """A stored record of this stream is unreadable, or its session's type is unknown; the rest of the hub works."""

    code = "quarantined"


class TaskError(NetworkError):
    """A task cannot make this transition: it has ended, or somebody else owns it."""

    code = "task_error"


class LinkError(AgorioError):
    """The connection to the hub does not work."""

    code = "link_error"


class LinkClosed(LinkError):
    """The link is closed. Open a new one; what was accepted before is kept by the hub."""

    code = "link_closed"


class BadFrame(LinkError, ValueError):
    """Bytes or a record that are no legal frame of this protocol."""

    code = "bad_frame"


class ActorError(AgorioError):
    """The base of the kernel's errors."""

    code = "actor_error"


class ActorStopped(ActorError):
    """The actor has stopped for good; the message was not handled. Start it again or ask somebody else."""

    code = "actor_stopped"


class ActorCrashed(ActorError):
    """The handler of this question raised. The cause is chained; the supervisor has already been told."""

    code = "actor_crashed"


class AskCycle(ActorError):
    """The question would close a circle of actors that wait for each other; `details["cycle"]` names it."""

    code = "ask_cycle"


class RestartLimitExceeded(ActorError):
    """A child crashed more than `max_restarts` times within `within` seconds: its supervisor gave up."""

    code = "restart_limit"


class Refuse(ActorError):
    """Raised by a handler to answer an `ask` with a refusal: the asker gets it, the actor lives on."""

    code = "refused"


def _subclasses(cls: type[AgorioError]) -> list[type[AgorioError]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found.extend(_subclasses(sub))
    return found


def error_classes() -> dict[str, type[AgorioError]]:
    """Every error class of this module by its wire code."""
    return {cls.code: cls for cls in reversed(_subclasses(AgorioError)) if cls.__module__ == __name__}


_BY_CODE = error_classes()


def error_from_wire(code: str, message: str, details: dict[str, Any] | None = None) -> AgorioError:
    """The error that `(code, message, details)` stands for; an unknown code from a newer peer is a `NetworkError`."""
    cls = _BY_CODE.get(code)
    if cls is None:
        return NetworkError(message, **{**(details or {}), "code": code})
    return cls(message, **(details or {}))
