"""Tasks on the owner's side: a block whose body runs in a cancel scope of its own.

    async with client.task("translate", capability="translation") as task:
        await task.progress({"pages": 3})
        await task.complete({"text": text})

Leaving the block ends the task: completed, failed by the exception that leaves it, or cancelled. Its TTL, a member's
request, the end of its session and the hub's own decisions cancel the body; like `trio.move_on_after` the block then
just ends, and `task.state` says how. The body learns of it by one unanswered question to the hub per running task, so
whatever the agent is doing, and over every link.
"""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from ...mailbox.clock import parse_iso
from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError, RateLimited, SessionClosedError, TaskError
from ...mailbox.events import (
    EV_TASK_CANCELLED,
    EV_TASK_COMPLETED,
    EV_TASK_EXPIRED,
    EV_TASK_FAILED,
    EV_TASK_PROGRESS,
    EV_TASK_STARTED,
)
from ...transports.frames import AcceptFrame, ResponseFrame
from ..sessions.operations import CheckpointTask, GetTask, ObserveTask, ReadCheckpoint, UpdateTask, WaitTask
from ..sessions.task_payloads import MAX_ERROR, MAX_REASON
from ..sessions.tasks import (
    TTL_EXPIRED,
    TaskMetadata,
    TaskRequest,
    TaskSpec,
    TaskState,
    cut,
    end_data,
    fold_task,
)
from .correlation import Answer, as_error

if TYPE_CHECKING:
    from .inbound import Inbound

_log = logging.getLogger("agorio.agents")
_TASK: contextvars.ContextVar[Task | None] = contextvars.ContextVar("agorio_task", default=None)
_INTERRUPTED: Final = "interrupted"
_ABANDONED: Final = "abandoned"


def current_task() -> Task | None:
    """The task whose body is running; None outside of any."""
    return _TASK.get()


class Task:
    """A task in the hands of its owner. Made by `AgentClient.task`."""

    __slots__ = ("_cause", "_is_ending", "_missed", "client", "metadata", "on_interrupt", "resumed_state", "scope")

    def __init__(self, client: Inbound, metadata: TaskMetadata) -> None:
        self.client = client
        self.metadata = metadata
        self.resumed_state: Any = None
        self.scope = trio.CancelScope()
        self.on_interrupt: Callable[[str], None] | None = None
        self._cause: str | None = None
        self._is_ending = False
        self._missed: TaskMetadata | None = None

    def __repr__(self) -> str:
        return f"<Task {self.task_id} {self.metadata.spec.title!r} {self.state}>"

    @property
    def task_id(self) -> str:
        """The hub's id for it."""
        return self.metadata.task_id

    @property
    def state(self) -> TaskState:
        """Where it is in its life, as far as is known here."""
        return self.metadata.state

    @property
    def session_id(self) -> str | None:
        """The session that it belongs to."""
        return self.metadata.session_id

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.metadata.is_terminal()

    # What the body says.

    async def progress(self, progress: Mapping[str, Any]) -> TaskMetadata:
        """Tell how it goes; fields are merged into what was told before. Raises `TaskError` once it has ended.

        If cancelled: it may have been told.
        """
        self._check_running()
        await self._say(EV_TASK_PROGRESS, {"task_id": self.task_id, "progress": dict(progress)})
        return self.metadata

    async def complete(self, result: Any = None) -> TaskMetadata:
        """It is done, with a JSON value as its result. Raises `TaskError` where it has ended: the first end wins.

        If cancelled: it may be completed; leaving the block finds out.
        """
        return await self._end(EV_TASK_COMPLETED, result)

    async def fail(self, error: str | BaseException) -> TaskMetadata:
        """It has failed. Raises `TaskError` where it has ended already. If cancelled: it may have failed."""
        return await self._end(EV_TASK_FAILED, describe(error))

    def cancel(self, reason: str = "") -> None:
        """Cancel the body; leaving the block records the task as cancelled. One that has ended stays as it is."""
        if not self.is_terminal:
            self._interrupt(reason)

    async def checkpoint(self, state: Any, *, expected_version: int | None = None) -> int:
        """Save a JSON value for `resume_from`; returns its version, 1 for the first. The last one wins.

        Raises `ConflictError` where `expected_version` is not the newest (0: none), `TaskError` once it has ended.

        If cancelled: it may have been saved.
        """
        operation = CheckpointTask(self.client.agent_id, self.task_id, {"state": state}, expected_version)
        version: int = await self.client.connection.request(operation)
        return version

    async def info(self) -> TaskMetadata:
        """The task as the hub has it now. If cancelled: nothing has changed."""
        self.metadata = await self.client.connection.request(GetTask(self.client.agent_id, self.task_id))
        return self.metadata

    async def tell(self, event_type: str, data: Mapping[str, Any]) -> None:
        """Say any event of a task that is done elsewhere. If cancelled: it may have been said."""
        await self._say(event_type, {**data, "task_id": self.task_id})

    # Saying.

    def _check_running(self) -> None:
        if self.is_terminal:
            raise TaskError(f"task {self.task_id} has ended as {self.state}; that is for good", task_id=self.task_id)

    async def _end(self, event_type: str, outcome: Any) -> TaskMetadata:
        self._check_running()
        self._is_ending = True
        try:
            await self._say(event_type, end_data(event_type, self.task_id, outcome))
        finally:
            self._is_ending = False
            if self._missed is not None and not self.is_terminal:
                self._heed(self._missed)
        self.scope.deadline = math.inf
        return self.metadata

    async def _say(self, event_type: str, data: dict[str, Any]) -> None:
        client = self.client
        if self.session_id is None:
            self.metadata = await client.connection.request(UpdateTask(client.agent_id, event_type, data))
            return
        envelope = Envelope(self.session_id, client.agent_id, None, event_type, data, task_id=self.task_id)
        accepted = await client.connection.send(envelope)
        self.metadata = fold_task(self.metadata, accepted.envelope) or self.metadata

    # Being told.

    def watch(self) -> None:
        """Have the hub answer when somebody asks for the end, or it has come otherwise."""
        self.client.connection.post_request(
            WaitTask(self.client.agent_id, self.task_id, or_cancel=True), self._told, is_bounded=False
        )

    def _told(self, outcome: Answer | Exception) -> None:
        """Runs in the pump. Where the link has ended the body goes on: nobody has asked for its end."""
        if isinstance(outcome, ResponseFrame) and not self.is_terminal:
            told: TaskMetadata = outcome.result
            if self._is_ending:
                self._missed = told  # most likely the very end that is being said
            else:
                self._heed(told)

    def _heed(self, told: TaskMetadata) -> None:
        if told.is_terminal():
            self.metadata = told
        self._interrupt(told.reason or told.cancel_reason or "")

    def _interrupt(self, reason: str) -> None:
        if self._cause is None:
            self._cause = reason
            if self.on_interrupt is not None:
                self.on_interrupt(reason)
        self.scope.cancel()

    # Leaving the block.

    async def finish(self, exc: BaseException | None) -> None:
        """Say how the body has ended, unless it did itself. Errors of a body that failed anyway are only logged.

        If cancelled: it is said all the same, within the client's grace.
        """
        if self.is_terminal:
            return
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self.client.hub_client.grace) as limit:
                await self._finish(*self._outcome(exc))
            if limit.cancelled_caught:
                raise TimeoutError(f"the hub has not taken the end of task {self.task_id} in time")
        except (AgorioError, TimeoutError) as error:
            if exc is None and not self.scope.cancelled_caught:
                raise
            _log.warning("the end of %r could not be told; its TTL will end it: %s", self, error)

    def _outcome(self, exc: BaseException | None) -> tuple[str, Any]:
        failure = failure_of(exc)
        if failure is not None:
            return EV_TASK_FAILED, describe(failure)
        if exc is None and not self.scope.cancelled_caught:
            return EV_TASK_COMPLETED, None
        if self._cause is None and exc is None:  # nobody has cancelled the scope: its deadline did
            return EV_TASK_EXPIRED, TTL_EXPIRED
        return EV_TASK_CANCELLED, cut(_INTERRUPTED if self._cause is None else self._cause, MAX_REASON)

    async def _finish(self, event_type: str, outcome: Any) -> None:
        """Say it until the hub has taken it, or has ended the task otherwise, which then holds."""
        while not self.is_terminal:
            try:
                await self._say(event_type, end_data(event_type, self.task_id, outcome))
            except RateLimited as refusal:
                await trio.sleep(max(refusal.retry_after, 0.01))
            except (TaskError, SessionClosedError):
                if not (await self.info()).is_terminal():
                    if event_type == EV_TASK_EXPIRED:
                        raise
                    event_type, outcome = EV_TASK_EXPIRED, TTL_EXPIRED  # the only end that is left after the TTL


def failure_of(exc: BaseException | None) -> Exception | None:
    """The ordinary exception in what has left a body; None where it was only cancelled or interrupted."""
    if isinstance(exc, BaseExceptionGroup):
        rest = exc.split(trio.Cancelled)[1]
        return rest if isinstance(rest, Exception) else None
    return exc if isinstance(exc, Exception) else None


def describe(error: str | BaseException) -> str:
    """An error as a task's `error`."""
    return cut(error if isinstance(error, str) else f"{type(error).__name__}: {error}", MAX_ERROR)


# Starting.


class _Start:
    """A start under way. Where its caller has given up meanwhile, the task is cancelled as soon as there is one."""

    __slots__ = ("client", "error", "finished", "is_abandoned", "metadata")

    def __init__(self, client: Inbound) -> None:
        self.client = client
        self.metadata: TaskMetadata | None = None
        self.error: Exception | None = None
        self.finished = trio.Event()
        self.is_abandoned = False

    def then(self, outcome: Answer | Exception) -> None:
        """Runs in the pump."""
        if isinstance(outcome, AcceptFrame):
            self.metadata = fold_task(None, outcome.envelope)
        elif isinstance(outcome, ResponseFrame):
            self.metadata = outcome.result
        else:
            self.error = as_error(outcome)
        self.finished.set()
        if self.is_abandoned:
            self.take_back()

    async def wait(self) -> TaskMetadata:
        """The started task. If cancelled: it is cancelled as soon as it has started."""
        try:
            await self.finished.wait()
        except trio.Cancelled:
            self.is_abandoned = True
            self.take_back()
            raise
        if self.metadata is None:
            assert self.error is not None
            raise self.error
        return self.metadata

    def take_back(self) -> None:
        """Cancel what has started, if it has."""
        task, client = self.metadata, self.client
        if task is None:
            return
        data = end_data(EV_TASK_CANCELLED, task.task_id, _ABANDONED)
        if task.session_id is None:
            client.connection.post_request(UpdateTask(client.agent_id, EV_TASK_CANCELLED, data))
        else:
            envelope = Envelope(task.session_id, client.agent_id, None, EV_TASK_CANCELLED, data, task_id=task.task_id)
            client.connection.post_envelope(envelope, _unheard)


def _unheard(outcome: Answer | Exception) -> None:
    if not isinstance(outcome, AcceptFrame):
        _log.warning("a task that was given up could not be cancelled; its TTL will end it: %s", as_error(outcome))


async def start_task(client: Inbound, session_id: str | None, request: TaskRequest) -> Task:
    """Start a task and watch it. If cancelled: it is cancelled as soon as it has started."""
    connection = client.connection
    resumed = None
    if request.resume_from is not None:
        resumed = await connection.request(ReadCheckpoint(client.agent_id, request.resume_from))
    connection.check()
    start, began = _Start(client), trio.current_time()
    if session_id is None:
        connection.post_request(ObserveTask(client.agent_id, request), start.then)
    else:
        envelope = Envelope(session_id, client.agent_id, None, EV_TASK_STARTED, request.to_data())
        connection.post_envelope(envelope, start.then)
    task = Task(client, await start.wait())
    task.resumed_state = None if resumed is None else resumed.state
    if task.metadata.expires_at is not None:
        ttl = parse_iso(task.metadata.expires_at) - parse_iso(task.metadata.created_at)
        task.scope.deadline = began + ttl
    task.watch()
    return task


@asynccontextmanager
async def open_task(
    client: Inbound, session_id: str | None, spec: TaskSpec, ttl: str | float | None, resume_from: str | None
) -> AsyncIterator[Task]:
    """The block of `AgentClient.task`. If cancelled: the task is recorded as cancelled."""
    task = await start_task(client, session_id, TaskRequest(spec, ttl, resume_from))
    token = _TASK.set(task)
    try:
        with task.scope:
            yield task
    except BaseException as exc:
        await task.finish(exc)
        raise
    else:
        await task.finish(None)
    finally:
        _TASK.reset(token)
