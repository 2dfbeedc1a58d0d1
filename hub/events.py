"""What listeners are told, after the fact: one frozen record per kind of event.

Everything that the audit log records is published from the very record that was committed, so each event comes exactly
once and never before it is true; the kinds that are no matter of governance (an envelope, a full inbox) come beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import attrs

from ..mailbox import events as kinds
from ..mailbox.envelope import Envelope


def _texts(value: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(value or ())


@attrs.frozen
class EnvelopeAccepted:
    """An envelope is durable; the hub's own are among them."""

    envelope: Envelope
    """As it stands in the log."""


@attrs.frozen
class EnvelopeRefused:
    """A send was refused; nothing has changed."""

    sender_id: str
    """Who sent it, as the connection claims."""
    session_id: str
    """Where to."""
    event_type: str
    """What kind."""
    code: str
    """The error's code."""
    reason: str
    """The error's message."""


@attrs.frozen
class Denied:
    """A rule, the arbiter or an auth adapter has refused something."""

    agent_id: str | None
    """Who, where it is known."""
    code: str
    """The error's code."""
    reason: str
    """The error's message."""


@attrs.frozen
class SessionCreated:
    """A session was opened and its invitations are out."""

    session_id: str
    """The session."""
    type: str
    """Its type."""
    creator_id: str
    """Who opened it."""
    participants: tuple[str, ...] = attrs.field(converter=_texts)
    """Its members."""


@attrs.frozen
class SessionOpened:
    """A session is active."""

    session_id: str
    """The session."""


@attrs.frozen
class SessionClosed:
    """A session was closed."""

    session_id: str
    """The session."""
    reason: str | None
    """Why."""
    by: str | None = None
    """The member that closed it; None is the hub."""


@attrs.frozen
class SessionExpired:
    """A session's time has run out."""

    session_id: str
    """The session."""
    reason: str | None
    """Why."""


@attrs.frozen
class AgentRegistered:
    """A new identity is in the directory."""

    agent_id: str
    """Its id."""
    name: str
    """Its name."""


@attrs.frozen
class AgentAttached:
    """A stored identity was taken up."""

    agent_id: str
    """Its id."""
    name: str
    """Its name."""


@attrs.frozen
class AgentUnregistered:
    """An identity was struck off."""

    agent_id: str
    """Its id."""
    name: str
    """Its name."""


@attrs.frozen
class ResumeSet:
    """A résumé has changed."""

    agent_id: str
    """Whose."""
    source: str | None = None
    """`tenant` or `observed`."""
    version: int | None = None
    """The new version."""


@attrs.frozen
class SkillSet:
    """A skill has changed."""

    agent_id: str
    """Whose."""
    removed: bool = False
    """Whether it was removed."""


@attrs.frozen
class RuleSet:
    """A rule has changed and is in force."""

    agent_id: str
    """Whose."""
    version: int | None = None
    """The new version."""
    by: str | None = None
    """`operator`, or the agent itself."""


@attrs.frozen
class AgentParked:
    """An agent is beyond its budget, or was parked by the operator: its mail waits."""

    agent_id: str
    """Its id."""
    name: str
    """Its name."""
    session_id: str | None = None
    """In which session only; None is everywhere."""
    limit: str = ""
    """The field of its rule; empty where the operator has parked it."""
    reason: str = ""
    """In words."""


@attrs.frozen
class AgentResumed:
    """An agent gets its mail again."""

    agent_id: str
    """Its id."""
    name: str
    """Its name."""
    session_id: str | None = None
    """In which session only; None is everywhere."""


@attrs.frozen
class ExpectationFired:
    """An expectation was violated."""

    session_id: str
    """Where."""
    expectation: str
    """Its name."""
    on_violation: str
    """The reaction."""
    violators: tuple[str, ...] = attrs.field(converter=_texts)
    """Who is being waited for."""
    detail: str = ""
    """In words."""


@attrs.frozen
class TurnFailed:
    """An agent's turn has failed."""

    agent_id: str
    """Whose."""
    session_id: str
    """In which session."""
    envelope_id: str
    """On which envelope."""
    exc_type: str
    """The exception's class."""
    exc_message: str
    """What it said."""


@attrs.frozen
class DeadLettered:
    """A delivery was given up."""

    agent_id: str
    """The recipient."""
    session_id: str
    """The session."""
    envelope_id: str
    """The envelope; it stays in its session's log."""
    reason: str
    """Why."""
    attempts: int = 0
    """How often it was tried."""


@attrs.frozen
class Redelivered:
    """The operator has put a dead letter back into its recipient's inbox."""

    agent_id: str
    """The recipient."""
    session_id: str
    """The session."""
    envelope_id: str
    """The envelope."""


@attrs.frozen
class InboxPressure:
    """An inbox has filled up to its high-water mark; told once per rise."""

    agent_id: str
    """Whose."""
    name: str
    """Its name."""
    pending: int
    """Deliveries that hold a slot."""
    max_pending: int | None
    """The cap."""


@attrs.frozen
class ActorRestarted:
    """An actor has crashed and is started again."""

    actor: str
    """Its path or the agent's name."""
    incarnation: int
    """The new incarnation."""


@attrs.frozen
class TaskEnded:
    """A task has reached a terminal state."""

    task_id: str
    """The task."""
    owner_id: str | None
    """Whose."""
    session_id: str | None
    """In which session."""
    outcome: str | None
    """`completed`, `failed`, `expired` or `cancelled`."""
    capability: str | None = None
    """What it was for."""
    reason: str | None = None
    """Why it ended so."""


@attrs.frozen
class EventsMissed:
    """This listener was too slow: so many events were dropped since the last one it got. Told whatever its kinds."""

    count: int
    """How many."""


HubEvent: TypeAlias = (
    EnvelopeAccepted
    | EnvelopeRefused
    | Denied
    | SessionCreated
    | SessionOpened
    | SessionClosed
    | SessionExpired
    | AgentRegistered
    | AgentAttached
    | AgentUnregistered
    | ResumeSet
    | SkillSet
    | RuleSet
    | AgentParked
    | AgentResumed
    | ExpectationFired
    | TurnFailed
    | DeadLettered
    | Redelivered
    | InboxPressure
    | ActorRestarted
    | TaskEnded
    | EventsMissed
)
EVENTS: tuple[type, ...] = HubEvent.__args__

AUDITED: dict[str, type] = {
    kinds.AUDIT_KIND_DENIED: Denied,
    kinds.AUDIT_KIND_SESSION_CREATED: SessionCreated,
    kinds.AUDIT_KIND_SESSION_CLOSED: SessionClosed,
    kinds.AUDIT_KIND_SESSION_EXPIRED: SessionExpired,
    kinds.AUDIT_KIND_AGENT_REGISTERED: AgentRegistered,
    kinds.AUDIT_KIND_AGENT_ATTACHED: AgentAttached,
    kinds.AUDIT_KIND_AGENT_UNREGISTERED: AgentUnregistered,
    kinds.AUDIT_KIND_RESUME_SET: ResumeSet,
    kinds.AUDIT_KIND_SKILL_SET: SkillSet,
    kinds.AUDIT_KIND_RULE_SET: RuleSet,
    kinds.AUDIT_KIND_AGENT_PARKED: AgentParked,
    kinds.AUDIT_KIND_AGENT_RESUMED: AgentResumed,
    kinds.AUDIT_KIND_EXPECTATION_VIOLATED: ExpectationFired,
    kinds.AUDIT_KIND_TURN_FAILED: TurnFailed,
    kinds.AUDIT_KIND_DEAD_LETTER: DeadLettered,
    kinds.AUDIT_KIND_REDELIVERED: Redelivered,
    kinds.AUDIT_KIND_ACTOR_RESTARTED: ActorRestarted,
    kinds.AUDIT_KIND_TASK_TERMINATED: TaskEnded,
}
_FIELDS = {
    cls: tuple((field.name, None if field.default is attrs.NOTHING else field.default) for field in attrs.fields(cls))
    for cls in AUDITED.values()
}


def event_of(record: dict[str, Any]) -> Any:
    """The event that a committed audit record tells of; None for a kind that has none."""
    cls = AUDITED.get(str(record.get("kind")))
    if cls is None:
        return None
    return cls(**{name: record.get(name, default) for name, default in _FIELDS[cls]})
