"""The control calls that cross a link: one record per operation. Each row of the hub's door takes one of them.

`op` is the operation's name on the wire. Ids are agent ids unless a field says `name or id`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload
from .identity import AuthBlock, Passport, Resume, ResumeExample, texts
from .metadata import Expectation
from .rule import Rule
from .tasks import TaskRequest


@attrs.frozen
class Operation:
    """The base of all control calls."""

    op: ClassVar[str] = ""


@attrs.frozen
class AuthChallenge(Operation):
    """Ask the hub for its question, before registering with a scheme that asks one. Result: `Challenge`."""

    op: ClassVar[str] = "auth_challenge"
    name: str
    """Who wants to prove itself."""
    scheme: str
    """The scheme whose adapter is to ask."""


@attrs.frozen
class Register(Operation):
    """Register an identity and bind it to this connection. Result: `Registered`."""

    op: ClassVar[str] = "register"
    passport: Passport
    """Who it is."""
    resume: Resume | None = None
    """What it claims; None leaves a stored one."""
    skill_md: str | None = None
    """Its skill in markdown."""
    rule: Rule | None = None
    """Its governance."""
    credentials: AuthBlock | None = None
    """Proof of identity; None takes the passport's."""
    attach: bool = False
    """Take up the stored identity where the name is known."""
    window: int | None = None
    """Unacknowledged deliveries to push at once; None is no limit, 0 only bookkeeping and sessions being watched."""


@attrs.frozen
class Registered:
    """An identity bound to this connection."""

    agent_id: str
    """The hub's id for it."""
    passport: Passport
    """As stamped by the hub."""
    resume: Resume
    """As stored."""
    rule: Rule
    """As stored."""
    attached: bool = False
    """Whether a stored identity was taken up."""


@attrs.frozen
class Unregister(Operation):
    """Remove an identity. Result: None."""

    op: ClassVar[str] = "unregister"
    agent_id: str
    """Whose."""


@attrs.frozen
class SetWindow(Operation):
    """Change how many deliveries are pushed at once. Result: None."""

    op: ClassVar[str] = "set_window"
    agent_id: str
    """Whose inbox."""
    window: int | None
    """As in `Register`."""


@attrs.frozen
class Watch(Operation):
    """Push this session's deliveries at once, whatever the window: somebody is waiting for them. Result: None."""

    op: ClassVar[str] = "watch"
    agent_id: str
    """Whose inbox."""
    session_id: str
    """Which session."""


@attrs.frozen
class OpenSession(Operation):
    """Open a session and wait until it is active. Result: `SessionMetadata`."""

    op: ClassVar[str] = "open_session"
    creator_id: str
    """Who opens it."""
    type: str
    """The session type."""
    participants: tuple[str, ...] = attrs.field(converter=texts)
    """Names or ids; the creator is put first where it is absent."""
    version: int | None = None
    """The adapter's version; None is the newest."""
    knobs: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The session type's parameters."""
    ttl: str | float | None = None
    """Lifetime; None takes the rule's or the session type's."""
    intent: str | None = None
    """What it is for; put into the labels."""
    labels: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Free-form JSON."""
    expectations: tuple[Expectation, ...] | None = None
    """Instead of the session type's."""
    required_acks: int | None = None
    """How many invitees must accept; None is all."""
    invite_ack_timeout: float | None = None
    """Seconds to wait for them; None takes the hub's."""
    causation_id: str | None = None
    """The envelope being handled when it was opened; the hub takes the delegation depth from it."""
    parent_session_id: str | None = None
    """That envelope's session."""


@attrs.frozen
class CloseSession(Operation):
    """Close a session. Result: `SessionMetadata`."""

    op: ClassVar[str] = "close_session"
    session_id: str
    """Which."""
    agent_id: str
    """The member that closes it."""
    reason: str = "explicit_close"
    """Why."""


@attrs.frozen
class GetSession(Operation):
    """Result: `SessionMetadata`."""

    op: ClassVar[str] = "get_session"
    session_id: str
    """Which."""


@attrs.frozen
class ListSessions(Operation):
    """Result: a tuple of `SessionMetadata`, newest first; the filter is applied before the limit."""

    op: ClassVar[str] = "list_sessions"
    agent_id: str | None = None
    """Sessions of this member; None is all that this connection's agents are in."""
    state: str | None = None
    """Only in this state; `open` is all that have not ended."""
    limit: int = 50
    """At most so many."""


@attrs.frozen
class ReadWal(Operation):
    """Result: a tuple of envelopes in log order, those that the reader may see."""

    op: ClassVar[str] = "read_wal"
    session_id: str
    """Which."""
    agent_id: str | None = None
    """The reader; None is any of this connection's agents that are members."""
    after: int = 0
    """Only after this sequence."""
    before: int | None = None
    """Only before this sequence."""
    limit: int | None = None
    """At most so many; the hub may return fewer, read on after the last."""
    tail: bool = False
    """Take the newest instead of the oldest where the limit cuts."""


@attrs.frozen
class CanSend(Operation):
    """Result: whether the hub would accept such an envelope now."""

    op: ClassVar[str] = "can_send"
    session_id: str
    """Which."""
    agent_id: str
    """The sender."""
    event_type: str = "ag2.msg.text"
    """What kind."""


@attrs.frozen
class FindByCausation(Operation):
    """Result: the newest envelope of that sender with that cause, or None."""

    op: ClassVar[str] = "find_by_causation"
    session_id: str
    """Which."""
    agent_id: str
    """The sender."""
    causation_id: str
    """The cause."""


@attrs.frozen
class GetAgent(Operation):
    """Result: the `Passport`."""

    op: ClassVar[str] = "get_agent"
    name_or_id: str
    """Name or id."""


@attrs.frozen
class GetResume(Operation):
    """Result: the `Resume`."""

    op: ClassVar[str] = "get_resume"
    agent_id: str
    """Name or id."""


@attrs.frozen
class GetRule(Operation):
    """Result: the `Rule`; only one's own."""

    op: ClassVar[str] = "get_rule"
    agent_id: str
    """Name or id."""


@attrs.frozen
class GetSkill(Operation):
    """Result: the skill in markdown, rendered from passport and résumé where none was set."""

    op: ClassVar[str] = "get_skill"
    agent_id: str
    """Name or id."""


@attrs.frozen
class NamesFor(Operation):
    """Result: a dict of id to name; unknown ids are left out."""

    op: ClassVar[str] = "names_for"
    agent_ids: tuple[str, ...] = attrs.field(converter=texts)
    """Which."""


@attrs.frozen
class ListAgents(Operation):
    """Result: a tuple of `Passport`; filter and sort are applied before the limit."""

    op: ClassVar[str] = "list_agents"
    capability: str | None = None
    """Only those that claim or have shown it."""
    query: str | None = None
    """Only those whose name, capabilities, domains, summary or skill contain every word."""
    kind: str | None = None
    """Only this kind."""
    sort_by: str = "name"
    """`name`, `created_at` or `track_record`."""
    limit: int = 50
    """At most so many."""


@attrs.frozen
class SetResume(Operation):
    """Replace one's résumé; `observed` stays the hub's. Result: the `Resume` as stored."""

    op: ClassVar[str] = "set_resume"
    agent_id: str
    """Whose."""
    resume: Resume
    """The new one."""
    expected_version: int | None = None
    """Refuse with `ConflictError` unless the stored version is this."""


@attrs.frozen
class AddExample(Operation):
    """Append one example to one's résumé. Result: the `Resume` as stored."""

    op: ClassVar[str] = "add_example"
    agent_id: str
    """Whose."""
    example: ResumeExample
    """The new one."""


@attrs.frozen
class SetSkill(Operation):
    """Replace one's skill. Result: None."""

    op: ClassVar[str] = "set_skill"
    agent_id: str
    """Whose."""
    skill_md: str | None
    """The new markdown; None removes it."""


@attrs.frozen
class SetRule(Operation):
    """Tighten one's own rule; loosening is the operator's. Result: the `Rule` as stored."""

    op: ClassVar[str] = "set_rule"
    agent_id: str
    """Whose."""
    rule: Rule
    """The new one."""


@attrs.frozen
class ReportTurnFailure(Operation):
    """Tell the hub that a turn failed; it is audited. Result: None."""

    op: ClassVar[str] = "report_turn_failure"
    agent_id: str
    """Whose turn."""
    session_id: str
    """In which session."""
    envelope_id: str
    """On which envelope."""
    exc_type: str
    """The exception's class."""
    exc_message: str
    """What it said."""
    incarnation: int = 0
    """The incarnation of the agent's actor that crashed."""


@attrs.frozen
class SkipTurn(Operation):
    """Give up one's turn; the hub records it and the next speaker goes on.

    Not one's turn: nothing happens. Result: None.
    """

    op: ClassVar[str] = "skip_turn"
    agent_id: str
    """Whose turn."""
    session_id: str
    """In which session."""
    reason: str = "silent"
    """Why."""


@attrs.frozen
class AwaitReply(Operation):
    """A turn of this agent begins to wait for the other member of a session. Result: None.

    Refused with `AskCycle` where that member waits, directly or through others, for this very agent.
    """

    op: ClassVar[str] = "await_reply"
    agent_id: str
    """Who waits."""
    session_id: str
    """In which session."""
    after: int | None = None
    """The question's sequence: where anything was logged after it, it may be answered, and nobody waits."""


@attrs.frozen
class AwaitOver(Operation):
    """The turn waits no longer, whether it got its reply or gave up. Result: None."""

    op: ClassVar[str] = "await_over"
    agent_id: str
    """Who waited."""
    session_id: str
    """In which session."""


@attrs.frozen
class ReadContext(Operation):
    """Result: the context variables of a session as a dict, for members; empty where its type has none."""

    op: ClassVar[str] = "read_context"
    session_id: str
    """Which."""
    agent_id: str
    """The reader."""


@attrs.frozen
class ObserveTask(Operation):
    """Start a task that belongs to no session; one of a session is started there. Result: `TaskMetadata`."""

    op: ClassVar[str] = "observe_task"
    agent_id: str
    """The owner."""
    request: TaskRequest
    """What it is about."""


@attrs.frozen
class UpdateTask(Operation):
    """Tell how a task without a session goes on, or that it has ended. Result: `TaskMetadata`."""

    op: ClassVar[str] = "update_task"
    agent_id: str
    """The owner."""
    event_type: str
    """`EV_TASK_PROGRESS`, or one of its ends."""
    event_data: FrozenDict = attrs.field(converter=freeze_payload)
    """The payload that the event would have in a session."""


@attrs.frozen
class CancelTask(Operation):
    """Ask for the end of one's own task without a session. Result: `TaskMetadata`."""

    op: ClassVar[str] = "cancel_task"
    agent_id: str
    """The owner."""
    task_id: str
    """Which."""
    reason: str = ""
    """Why."""


@attrs.frozen
class GetTask(Operation):
    """Result: `TaskMetadata`, for the owner and the members of its session."""

    op: ClassVar[str] = "get_task"
    agent_id: str
    """The reader."""
    task_id: str
    """Which."""


@attrs.frozen
class ListTasks(Operation):
    """Result: a tuple of `TaskMetadata`, newest first: those that the reader may see; filters come before the limit."""

    op: ClassVar[str] = "list_tasks"
    agent_id: str
    """The reader."""
    session_id: str | None = None
    """Only of this session."""
    owner_id: str | None = None
    """Only of this owner."""
    state: str | None = None
    """Only in this state; `ended` is all but `running`."""
    capability: str | None = None
    """Only of this capability."""
    limit: int = 50
    """At most so many."""


@attrs.frozen
class WaitTask(Operation):
    """Wait for the end of a task. Result: `TaskMetadata`."""

    op: ClassVar[str] = "wait_task"
    agent_id: str
    """The reader."""
    task_id: str
    """Which."""
    or_cancel: bool = False
    """Also answer when somebody asks to cancel it."""


@attrs.frozen
class CheckpointTask(Operation):
    """Save a running task's state. Result: the checkpoint's version."""

    op: ClassVar[str] = "checkpoint_task"
    agent_id: str
    """The owner."""
    task_id: str
    """Which."""
    state: FrozenDict = attrs.field(converter=freeze_payload)
    """An object whose `state` is what is saved."""
    expected_version: int | None = None
    """Refuse with `ConflictError` unless the newest version is this; 0 is none; None overwrites any."""


@attrs.frozen
class ReadCheckpoint(Operation):
    """Result: the newest `Checkpoint` of one's own task, running or ended, or None."""

    op: ClassVar[str] = "read_checkpoint"
    agent_id: str
    """The owner."""
    task_id: str
    """Which."""


@attrs.frozen
class ReportMirrorFailure(Operation):
    """Tell the hub that a task of a wrapped agent could not be mirrored; it is audited. Result: None."""

    op: ClassVar[str] = "report_mirror_failure"
    agent_id: str
    """Whose."""
    session_id: str
    """In which session."""
    event_type: str
    """What could not be said."""
    exc_message: str
    """Why."""


@attrs.frozen
class ActorCall(Operation):
    """From the hub to the agents' side: put a message to the agent itself. Result: its reply, or None for a tell."""

    op: ClassVar[str] = "actor_call"
    agent_id: str
    """The agent."""
    message: Any
    """A JSON value."""


@attrs.frozen
class ActorAsk(Operation):
    """Ask the actor of a registered agent. Result: its reply."""

    op: ClassVar[str] = "actor_ask"
    agent_id: str
    """Who asks."""
    name: str
    """The name of the agent that is asked."""
    message: Any
    """A JSON value."""
    timeout: float | None = None
    """Seconds that the asker will wait; None is no limit."""


@attrs.frozen
class ActorSend(Operation):
    """Tell the actor of a registered agent something. Result: None."""

    op: ClassVar[str] = "actor_send"
    agent_id: str
    """Who tells."""
    name: str
    """The name of the agent that is told."""
    message: Any
    """A JSON value."""
    wait: bool = True
    """Wait for a free slot; otherwise a full mailbox refuses."""


@attrs.frozen
class ActorStoppedWait(Operation):
    """Wait until the actor of an agent has stopped for good. Result: why it did."""

    op: ClassVar[str] = "actor_stopped"
    agent_id: str
    """Who waits."""
    name: str
    """The agent's name."""


@attrs.frozen
class CancelRequest(Operation):
    """The caller of another request has given up: stop working on it. Result: None."""

    op: ClassVar[str] = "cancel_request"
    request_id: int
    """That request."""


@attrs.frozen
class IdentityLost(Operation):
    """From the hub to the agents' side: this connection does not act as the agent any more. Not answered."""

    op: ClassVar[str] = "identity_lost"
    agent_id: str
    """The agent."""
    code: str
    """The stable code of the error that says why: `superseded` where another connection has taken it up."""
    message: str
    """That error's message."""


def operations() -> dict[str, type[Operation]]:
    """Every operation by its name on the wire."""
    return {cls.op: cls for cls in Operation.__subclasses__()}


Result = Any
