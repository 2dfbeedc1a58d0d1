"""Tasks as both ends see them: one table of legal moves, the fold of `ag2.task.*` events, and the track record.

A task is a piece of work that its owner announces; the hub observes it and never assigns it. One that belongs to a
session is said there, event by event, so its state is a fold of the session's log like everything else of the session;
the id of a task is the hub's. The same fold serves tasks without a session, whose events are not logged.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ...mailbox.clock import iso, parse_duration, parse_iso
from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput, TaskError
from ...mailbox.events import (
    EV_TASK_CANCEL_REQUEST,
    EV_TASK_CANCELLED,
    EV_TASK_COMPLETED,
    EV_TASK_EXPIRED,
    EV_TASK_FAILED,
    EV_TASK_PROGRESS,
    EV_TASK_STARTED,
)
from ...mailbox.frozen import EMPTY, FrozenDict, freeze, freeze_payload
from .identity import ObservedStat
from .task_payloads import MAX_PROGRESS, check_payload

WINDOW = 128

SESSION_CLOSED = "session_closed"
SESSION_EXPIRED = "session_expired"
TTL_EXPIRED = "ttl_expired"


class TaskState(enum.StrEnum):
    """Where a task is in its life; all but `running` are for good."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


RUNNING = TaskState.RUNNING

# (state, event) -> state; None is before the start. What is not in the table is refused: the first end wins.
TASK_TRANSITIONS: dict[tuple[TaskState | None, str], TaskState] = {
    (None, EV_TASK_STARTED): RUNNING,
    (RUNNING, EV_TASK_PROGRESS): RUNNING,
    (RUNNING, EV_TASK_CANCEL_REQUEST): RUNNING,
    (RUNNING, EV_TASK_COMPLETED): TaskState.COMPLETED,
    (RUNNING, EV_TASK_FAILED): TaskState.FAILED,
    (RUNNING, EV_TASK_EXPIRED): TaskState.EXPIRED,
    (RUNNING, EV_TASK_CANCELLED): TaskState.CANCELLED,
}


def _value(value: Any) -> Any:
    return freeze(value, "task")


@attrs.frozen
class TaskSpec:
    """What a task is about, as it was announced."""

    title: str
    """One line."""
    description: str = ""
    """More of it."""
    payload: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Free-form JSON."""
    capability: str | None = None
    """The capability that it shows; its outcome then enters the owner's track record."""


@attrs.frozen
class TaskRequest:
    """What an owner asks for when it starts a task."""

    spec: TaskSpec
    """What it is about."""
    ttl: str | float | None = None
    """How long it may take; None takes the owner's rule."""
    resume_from: str | None = None
    """The task that it goes on with."""

    def to_data(self) -> dict[str, Any]:
        """The payload with which a member starts a task in a session."""
        spec = self.spec
        data = {
            "title": spec.title,
            "description": spec.description,
            "payload": spec.payload,
            "capability": spec.capability,
            "ttl": self.ttl,
            "resume_from": self.resume_from,
        }
        return {key: value for key, value in data.items() if value not in (None, "", EMPTY) or key == "title"}


@attrs.frozen
class TaskMetadata:
    """A frozen snapshot of a task."""

    task_id: str
    """The task."""
    owner_id: str
    """The agent that does it."""
    spec: TaskSpec
    """What it is about."""
    state: TaskState = RUNNING
    """Where it is in its life."""
    session_id: str | None = None
    """The session that it belongs to; None where it belongs to none."""
    created_at: str = ""
    """ISO-8601 time of its start."""
    completed_at: str | None = None
    """ISO-8601 time of its end, whichever."""
    expires_at: str | None = None
    """ISO-8601 time at which its TTL ends."""
    last_progress_at: str | None = None
    """ISO-8601 time of the newest progress."""
    progress: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """All progress so far, merged."""
    result: Any = attrs.field(default=None, converter=_value)
    """What it came to."""
    error: str | None = None
    """Why it failed."""
    reason: str | None = None
    """Why it expired or was cancelled."""
    resumed_from: str | None = None
    """The task that it goes on with."""
    cancel_requested_by: str | None = None
    """Who asked first to cancel it."""
    cancel_reason: str | None = None
    """Why."""

    def is_terminal(self) -> bool:
        """Whether the task has ended for good."""
        return self.state is not RUNNING

    @property
    def started_at(self) -> str:
        """ISO-8601 time of its start: a task is created running."""
        return self.created_at

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds from its start to its end; None while it runs."""
        if self.completed_at is None:
            return None
        return round((parse_iso(self.completed_at) - parse_iso(self.created_at)) * 1000, 3)


@attrs.frozen
class Checkpoint:
    """What a task last saved of itself."""

    task_id: str
    """The task."""
    version: int
    """1 for the first, raised by one with each save."""
    state: Any = attrs.field(default=None, converter=_value)
    """What was saved, a JSON value."""


Tasks = Mapping[str, TaskMetadata]


def read_request(data: Mapping[str, Any]) -> TaskRequest:
    """The request that a member's `EV_TASK_STARTED` carries. Raises `InvalidInput`."""
    check_payload(EV_TASK_STARTED, data)
    spec = TaskSpec(
        data["title"], data.get("description") or "", data.get("payload") or EMPTY, data.get("capability") or None
    )
    return TaskRequest(spec, data.get("ttl"), data.get("resume_from") or None)


def start_data(request: TaskRequest, task_id: str, expires_at: str | None) -> dict[str, Any]:
    """The payload of `EV_TASK_STARTED` as it is logged: with the hub's id and the instant at which the TTL ends."""
    data = request.to_data()
    data.pop("ttl", None)
    return {"task_id": task_id, **data, "expires_at": expires_at}


def end_data(event_type: str, task_id: str, outcome: Any) -> dict[str, Any]:
    """The payload of an end."""
    field = {EV_TASK_COMPLETED: "result", EV_TASK_FAILED: "error"}.get(event_type, "reason")
    return {"task_id": task_id} if outcome is None else {"task_id": task_id, field: outcome}


def cut(text: str, most: int) -> str:
    """The text, cut where it is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


# Judging and folding.


def judge_task_event(
    tasks: Tasks, envelope: Envelope, now: float, mint: Callable[[], str], default_ttl: str | float | None
) -> Envelope | None:
    """A member's task event as it is to be logged, or None where it is no news. Raises `InvalidInput`, `TaskError`.

    A start gets the hub's id and the instant at which its TTL ends.
    """
    event, data = envelope.event_type, envelope.event_data
    if event == EV_TASK_STARTED:
        request = read_request(data)
        task_id = mint()
        return attrs.evolve(
            envelope, task_id=task_id, event_data=start_data(request, task_id, _expires_at(request, now, default_ttl))
        )
    check_payload(event, data)
    if not check_move(tasks, envelope, now):
        return None
    return attrs.evolve(envelope, task_id=data["task_id"])


def _expires_at(request: TaskRequest, now: float, default_ttl: str | float | None) -> str | None:
    ttl = parse_duration(request.ttl if request.ttl is not None else default_ttl, "ttl")
    return None if ttl is None else iso(now + ttl)


def check_move(tasks: Tasks, envelope: Envelope, now: float) -> bool:
    """Whether an event of a running task is news; False for a second request to cancel. Raises `TaskError`.

    Only the owner speaks of its task. After the TTL it can only be said to have expired, swept or not.
    """
    event, task_id = envelope.event_type, str(envelope.event_data.get("task_id"))
    task = tasks.get(task_id)
    if task is None:
        raise TaskError(f"no task {task_id!r} is running here; it has ended, or it never was", task_id=task_id)
    if event == EV_TASK_CANCEL_REQUEST:
        return task.cancel_requested_by is None
    if envelope.sender_id != task.owner_id:
        raise TaskError(
            f"task {task_id} is another agent's; only its owner speaks of it. Ask for its end with "
            f"{EV_TASK_CANCEL_REQUEST}",
            task_id=task_id,
        )
    if is_late(task, now) and event != EV_TASK_EXPIRED:
        raise TaskError(f"task {task_id} passed its TTL at {task.expires_at}; it has expired", task_id=task_id)
    if event == EV_TASK_PROGRESS:
        check_progress(task, envelope.event_data)
    return True


def is_late(task: TaskMetadata, now: float) -> bool:
    """Whether the task's TTL is over."""
    return task.expires_at is not None and now >= parse_iso(task.expires_at)


def check_progress(task: TaskMetadata, data: Mapping[str, Any]) -> None:
    """Refuse progress that would make the merged whole too large. Raises `InvalidInput`."""
    if len({**task.progress, **data["progress"]}) > MAX_PROGRESS:
        raise InvalidInput(
            f"the progress of task {task.task_id} would have more than {MAX_PROGRESS} fields; reuse their names",
            path="event_data.progress",
        )


def fold_tasks(tasks: Tasks, envelope: Envelope) -> Tasks:
    """The running tasks after one task event. One that says nothing new returns `tasks` itself."""
    task_id = str(envelope.event_data.get("task_id"))
    before = tasks.get(task_id)
    after = fold_task(before, envelope)
    if after is None or after is before:
        return tasks
    if after.is_terminal():
        return {key: task for key, task in tasks.items() if key != task_id}
    return {**tasks, task_id: after}


def fold_task(task: TaskMetadata | None, envelope: Envelope) -> TaskMetadata | None:
    """The task after one event; an illegal one changes nothing."""
    event, data = envelope.event_type, envelope.event_data
    state = TASK_TRANSITIONS.get((None if task is None else task.state, event))
    if state is None:
        return task
    if task is None:
        return _started(envelope)
    if event == EV_TASK_PROGRESS:
        progress = {**task.progress, **(data.get("progress") or {})}
        return attrs.evolve(task, progress=progress, last_progress_at=envelope.created_at)
    if event == EV_TASK_CANCEL_REQUEST:
        return attrs.evolve(task, cancel_requested_by=envelope.sender_id, cancel_reason=data.get("reason"))
    return attrs.evolve(
        task,
        state=state,
        completed_at=envelope.created_at,
        result=data.get("result"),
        error=data.get("error"),
        reason=data.get("reason"),
    )


def _started(envelope: Envelope) -> TaskMetadata:
    data = envelope.event_data
    return TaskMetadata(
        task_id=str(data.get("task_id")),
        owner_id=envelope.sender_id,
        spec=TaskSpec(
            str(data.get("title", "")),
            data.get("description") or "",
            data.get("payload") or EMPTY,
            data.get("capability"),
        ),
        session_id=envelope.session_id or None,
        created_at=envelope.created_at,
        expires_at=data.get("expires_at"),
        resumed_from=data.get("resume_from"),
    )


# The track record.


def observe(stat: ObservedStat, task: TaskMetadata) -> ObservedStat:
    """The track record after one more ended task; the median is that of the newest `WINDOW` completed ones."""
    outcome = str(task.state)
    window = stat.window
    if task.state is TaskState.COMPLETED and task.latency_ms is not None:
        window = (*window, task.latency_ms)[-WINDOW:]
    return attrs.evolve(
        stat,
        n=stat.n + 1,
        window=window,
        p50_latency_ms=statistics.median(window) if window else None,
        **{outcome: getattr(stat, outcome) + 1},
    )
