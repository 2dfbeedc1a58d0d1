"""Event types: the names of what an envelope may say, in the `ag2.` namespace, and of what the audit log records."""

from __future__ import annotations

from typing import Final

EV_TEXT: Final = "ag2.msg.text"
EV_SESSION_INVITE: Final = "ag2.session.invite"
EV_SESSION_INVITE_ACK: Final = "ag2.session.invite.ack"
EV_SESSION_INVITE_REJECT: Final = "ag2.session.invite.reject"
EV_SESSION_OPENED: Final = "ag2.session.opened"
EV_SESSION_CLOSED: Final = "ag2.session.closed"
EV_SESSION_EXPIRED: Final = "ag2.session.expired"
EV_HANDOFF: Final = "ag2.handoff"
EV_PACKET: Final = "ag2.packet"
EV_CONTEXT_SET: Final = "ag2.context.set"
EV_TASK_STARTED: Final = "ag2.task.started"
EV_TASK_PROGRESS: Final = "ag2.task.progress"
EV_TASK_COMPLETED: Final = "ag2.task.completed"
EV_TASK_FAILED: Final = "ag2.task.failed"
EV_TASK_EXPIRED: Final = "ag2.task.expired"
EV_TASK_CANCELLED: Final = "ag2.task.cancelled"
EV_TASK_CANCEL_REQUEST: Final = "ag2.task.cancel_request"
EV_EXPECTATION_VIOLATED: Final = "ag2.expectation.violated"
EV_TURN_SKIPPED: Final = "ag2.turn.skipped"
EV_TURN_DUE: Final = "ag2.turn.due"

SESSION_PREFIX: Final = "ag2.session."
TASK_PREFIX: Final = "ag2.task."
RESERVED_PREFIX: Final = "ag2."

INVITE_ANSWERS: Final = frozenset({EV_SESSION_INVITE_ACK, EV_SESSION_INVITE_REJECT})
SESSION_END: Final = frozenset({EV_SESSION_CLOSED, EV_SESSION_EXPIRED})
TASK_EVENTS: Final = frozenset(
    {
        EV_TASK_STARTED,
        EV_TASK_PROGRESS,
        EV_TASK_COMPLETED,
        EV_TASK_FAILED,
        EV_TASK_EXPIRED,
        EV_TASK_CANCELLED,
        EV_TASK_CANCEL_REQUEST,
    }
)
# Each task has one end, which its start was admitted for: an end needs no slot of an inbox and no token.
TASK_ENDS: Final = frozenset({EV_TASK_COMPLETED, EV_TASK_FAILED, EV_TASK_EXPIRED, EV_TASK_CANCELLED})
# Only the hub itself may say these; a member that tries is refused, so no peer can forge a close or a violation.
HUB_EVENTS: Final = frozenset(
    {
        EV_SESSION_INVITE,
        EV_SESSION_OPENED,
        EV_SESSION_CLOSED,
        EV_SESSION_EXPIRED,
        EV_EXPECTATION_VIOLATED,
        EV_TURN_SKIPPED,
        EV_TURN_DUE,
    }
)
# After these it may be somebody's turn who has not heard what was said last.
TURN_NOTICES: Final = frozenset({EV_TURN_SKIPPED, EV_TURN_DUE})
# Bookkeeping of a session: it always gets through a full inbox and never starts a turn.
LIFECYCLE_EVENTS: Final = HUB_EVENTS | INVITE_ANSWERS
# The reserved names that members may use; anything else under `ag2.` is refused.
RESERVED_TYPES: Final = frozenset({EV_TEXT, EV_HANDOFF, EV_PACKET, EV_CONTEXT_SET}) | TASK_EVENTS | INVITE_ANSWERS
MAX_EVENT_TYPE_LENGTH: Final = 128
TURN_EVENTS: Final = frozenset({EV_TEXT, EV_HANDOFF, EV_PACKET})

AUDIT_KIND_AGENT_REGISTERED: Final = "agent_registered"
AUDIT_KIND_AGENT_ATTACHED: Final = "agent_attached"
AUDIT_KIND_AGENT_UNREGISTERED: Final = "agent_unregistered"
AUDIT_KIND_RESUME_SET: Final = "resume_set"
AUDIT_KIND_SKILL_SET: Final = "skill_set"
AUDIT_KIND_RULE_SET: Final = "rule_set"
AUDIT_KIND_SESSION_CREATED: Final = "session_created"
AUDIT_KIND_SESSION_CLOSED: Final = "session_closed"
AUDIT_KIND_SESSION_EXPIRED: Final = "session_expired"
AUDIT_KIND_TASK_TERMINATED: Final = "task_terminated"
AUDIT_KIND_TASK_MIRROR_FAILED: Final = "task_mirror_failed"
AUDIT_KIND_EXPECTATION_VIOLATED: Final = "expectation_violated"
AUDIT_KIND_TURN_FAILED: Final = "turn_failed"
AUDIT_KIND_DEAD_LETTER: Final = "dead_letter"
AUDIT_KIND_ACTOR_RESTARTED: Final = "actor_restarted"
AUDIT_KIND_DENIED: Final = "denied"
AUDIT_KIND_QUARANTINED: Final = "quarantined"
AUDIT_KIND_AGENT_PARKED: Final = "agent_parked"
AUDIT_KIND_AGENT_RESUMED: Final = "agent_resumed"
AUDIT_KIND_REDELIVERED: Final = "redelivered"
AUDIT_KIND_ARCHIVED: Final = "archived"
AUDIT_KIND_LOOP_BROKEN: Final = "loop_broken"

__all__ = [name for name in dir() if name.startswith(("EV_", "AUDIT_KIND_"))]
