"""What clients ask about tasks: the rows of the door for tasks without a session, reading, waiting and checkpoints.

A task is visible to its owner and to the members of its session; to others it does not exist.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from ..actors.sessions import operations as ops
from ..actors.sessions.tasks import Checkpoint, TaskMetadata, TaskState
from ..mailbox.errors import AgorioError, ConflictError, InvalidInput, NotFoundError, TaskError
from ..mailbox.events import AUDIT_KIND_TASK_MIRROR_FAILED, EV_TASK_CANCEL_REQUEST, EV_TASK_STARTED, TASK_EVENTS
from .audit import AuditLog
from .connections import Connection
from .directory import Directory
from .door import Row
from .log_writer import LogWriter
from .records import StoredSession, from_bytes, to_bytes
from .sessions import Sessions
from .stores.protocol import Put
from .tasks import Done, RunningTask, TaskTable

MAX_CHECKPOINT = 1_048_576
MAX_LISTED = 1000
MAX_MESSAGE = 500
PAGE = 1024
ENDED = "ended"
STATES = (*(str(state) for state in TaskState), ENDED)


class TaskCalls:
    """Reading and telling."""

    def __init__(
        self, table: TaskTable, *, directory: Directory, sessions: Sessions, writer: LogWriter, audit: AuditLog
    ) -> None:
        self._table = table
        self._directory = directory
        self._sessions = sessions
        self._writer = writer
        self._audit = audit

    def rows(self) -> tuple[Row, ...]:
        """The operations on tasks."""
        return (
            Row(ops.ObserveTask, self._start),
            Row(ops.UpdateTask, self._update),
            Row(ops.CancelTask, self._cancel),
            Row(ops.GetTask, self._get),
            Row(ops.ListTasks, self._list),
            Row(ops.WaitTask, self._wait, is_vigil=True),
            Row(ops.CheckpointTask, self._save),
            Row(ops.ReadCheckpoint, self._read_checkpoint),
            Row(ops.ReportMirrorFailure, self._mirror_failed),
        )

    # Reading.

    async def get(self, task_id: str) -> TaskMetadata:
        """A task, running or ended. Raises `NotFoundError`. If cancelled: nothing has changed."""
        running = self._table.running(task_id)
        if running is not None:
            await trio.lowlevel.checkpoint()
            return running.live
        document = await self._writer.store.get(f"task/{task_id}")
        if document is None:
            raise _unknown(task_id)
        return from_bytes(document.body, TaskMetadata)

    async def get_as(self, task_id: str, agent_id: str) -> TaskMetadata:
        """A task as an agent may see it. Raises `NotFoundError`. If cancelled: nothing has changed."""
        task = await self.get(task_id)
        if task.owner_id != agent_id and agent_id not in await self._members(task.session_id, {}):
            raise _unknown(task_id)
        return task

    async def check_own(self, task_id: str, agent_id: str) -> TaskMetadata:
        """A task of the agent's own. Raises `NotFoundError`. If cancelled: nothing has changed."""
        task = await self.get(task_id)
        if task.owner_id != agent_id:
            raise _unknown(task_id)
        return task

    async def _members(self, session_id: str | None, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
        if session_id is None:
            return ()
        held = self._sessions.held(session_id)
        if held is not None:
            return held.participants
        if session_id not in known:
            document = await self._writer.store.get(f"session/{session_id}")
            stored = None if document is None else from_bytes(document.body, StoredSession)
            known[session_id] = () if stored is None else stored.setup.participants
        return known[session_id]

    async def list(self, op: ops.ListTasks, *, everything: bool = False) -> list[TaskMetadata]:
        """Tasks, newest first. The filters come before the limit. If cancelled: nothing has changed."""
        if op.state is not None and op.state not in STATES:
            raise InvalidInput(f"state={op.state!r} is unknown; use one of {', '.join(STATES)}", field="state")
        limit = max(0, min(op.limit, MAX_LISTED))
        known: dict[str, tuple[str, ...]] = {}
        running = [task for task in self._table.all_running() if _fits(op, task)]
        ended = await self._ended(op, limit, known, everything) if op.state != TaskState.RUNNING else []
        found = {task.task_id: task for task in ended}
        for task in running:
            if everything or await self._sees(op.agent_id, task, known):
                found[task.task_id] = task
        return sorted(found.values(), key=lambda task: task.task_id, reverse=True)[:limit]

    async def _sees(self, agent_id: str, task: TaskMetadata, known: dict[str, tuple[str, ...]]) -> bool:
        return task.owner_id == agent_id or agent_id in await self._members(task.session_id, known)

    async def _ended(
        self, op: ops.ListTasks, limit: int, known: dict[str, tuple[str, ...]], everything: bool
    ) -> deque[TaskMetadata]:
        """The newest ended ones, oldest first; ids sort by time."""
        found: deque[TaskMetadata] = deque(maxlen=limit)
        after = ""
        while page := await self._writer.store.scan("task/", after, PAGE):
            after = page[-1].key
            for document in page:
                task = from_bytes(document.body, TaskMetadata)
                if (
                    task.is_terminal()
                    and _fits(op, task)
                    and (everything or await self._sees(op.agent_id, task, known))
                ):
                    found.append(task)
        return found

    async def wait(self, task_id: str, agent_id: str, or_cancel: bool = False) -> TaskMetadata:
        """The task once it has ended, or somebody asks to cancel it. If cancelled: nothing has changed."""
        task = await self.get_as(task_id, agent_id)
        running = self._table.running(task_id)
        if running is None:
            return task if task.is_terminal() else await self.get(task_id)
        await (running.disturbed if or_cancel else running.ended).wait()
        return running.live

    # The rows.

    def _start(self, connection: Connection, op: ops.ObserveTask) -> Any:
        return self._start_later(op)

    async def _start_later(self, op: ops.ObserveTask) -> TaskMetadata:
        if op.request.resume_from is not None:
            await self.check_own(op.request.resume_from, op.agent_id)
        owner = self._directory.entry(op.agent_id)
        return await _outcome(lambda done: self._table.start(owner, op.request, done))

    async def _update(self, connection: Connection, op: ops.UpdateTask) -> TaskMetadata:
        if op.event_type not in TASK_EVENTS or op.event_type in (EV_TASK_STARTED, EV_TASK_CANCEL_REQUEST):
            raise InvalidInput(f"{op.event_type!r} does not tell how a task goes on", field="event_type")
        return await self._tell(op.agent_id, str(op.event_data.get("task_id")), op.event_type, dict(op.event_data))

    async def _cancel(self, connection: Connection, op: ops.CancelTask) -> TaskMetadata:
        data = {"task_id": op.task_id, "reason": op.reason}
        return await self._tell(op.agent_id, op.task_id, EV_TASK_CANCEL_REQUEST, data)

    async def _tell(self, agent_id: str, task_id: str, event_type: str, data: dict[str, Any]) -> TaskMetadata:
        running = await self._own_running(agent_id, task_id)
        owner = self._directory.entry(agent_id)
        return await _outcome(lambda done: self._table.update(owner, running, event_type, data, done))

    async def _own_running(self, agent_id: str, task_id: str) -> RunningTask:
        """One's own running task. Raises `NotFoundError`, and `TaskError` where it has ended."""
        task = await self.check_own(task_id, agent_id)
        running = self._table.running(task_id)
        if running is None:
            raise TaskError(f"task {task_id} has ended as {task.state}; that is for good", task_id=task_id)
        return running

    async def _get(self, connection: Connection, op: ops.GetTask) -> TaskMetadata:
        return await self.get_as(op.task_id, op.agent_id)

    async def _list(self, connection: Connection, op: ops.ListTasks) -> tuple[TaskMetadata, ...]:
        return tuple(await self.list(op))

    async def _wait(self, connection: Connection, op: ops.WaitTask) -> TaskMetadata:
        return await self.wait(op.task_id, op.agent_id, op.or_cancel)

    def _mirror_failed(self, connection: Connection, op: ops.ReportMirrorFailure) -> None:
        self._audit.write(
            AUDIT_KIND_TASK_MIRROR_FAILED,
            agent_id=op.agent_id,
            session_id=op.session_id,
            event_type=op.event_type[:MAX_MESSAGE],
            exc_message=op.exc_message[:MAX_MESSAGE],
        )

    # Checkpoints.

    async def _save(self, connection: Connection, op: ops.CheckpointTask) -> int:
        body = msgspec.json.encode(op.state.get("state"))
        if len(body) > MAX_CHECKPOINT:
            raise InvalidInput(f"a checkpoint takes at most {MAX_CHECKPOINT} bytes, not {len(body)}", field="state")
        running = await self._own_running(op.agent_id, op.task_id)
        before = running.version
        if op.expected_version is not None and op.expected_version != before:
            raise ConflictError(
                f"task {op.task_id} is at checkpoint {before}, not {op.expected_version}; read it again", version=before
            )
        running.version = version = before + 1
        try:
            await self._writer.write(
                Put(f"checkpoint/{op.task_id}", to_bytes(Checkpoint(op.task_id, version, op.state.get("state"))))
            )
        except AgorioError:
            if running.version == version:
                running.version = before
            raise
        return version

    async def _read_checkpoint(self, connection: Connection, op: ops.ReadCheckpoint) -> Checkpoint | None:
        await self.check_own(op.task_id, op.agent_id)
        return await self.checkpoint(op.task_id)

    async def checkpoint(self, task_id: str) -> Checkpoint | None:
        """A task's newest checkpoint. If cancelled: nothing has changed."""
        document = await self._writer.store.get(f"checkpoint/{task_id}")
        return None if document is None else from_bytes(document.body, Checkpoint)


async def _outcome(submit: Callable[[Done], None]) -> TaskMetadata:
    """What becomes of a submitted move. If cancelled: it is made all the same."""
    finished = trio.Event()
    outcomes: list[TaskMetadata | AgorioError] = []

    def done(outcome: TaskMetadata | AgorioError) -> None:
        outcomes.append(outcome)
        finished.set()

    submit(done)
    await finished.wait()
    if isinstance(outcomes[0], AgorioError):
        raise outcomes[0]
    return outcomes[0]


def _fits(op: ops.ListTasks, task: TaskMetadata) -> bool:
    return (
        (op.session_id is None or task.session_id == op.session_id)
        and (op.owner_id is None or task.owner_id == op.owner_id)
        and (op.capability is None or task.spec.capability == op.capability)
        and (op.state is None or task.state == op.state or (op.state == ENDED and task.is_terminal()))
    )


def _unknown(task_id: str) -> NotFoundError:
    return NotFoundError(f"there is no task {task_id!r}; list_tasks() shows those that you may see", task=task_id)
