"""Control calls about tasks: those without a session, reading, waiting and checkpoints."""

from __future__ import annotations

from typing import ClassVar

import attrs

from ...mailbox.frozen import FrozenDict, freeze_payload
from .operations_base import Operation
from .tasks import TaskRequest


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
