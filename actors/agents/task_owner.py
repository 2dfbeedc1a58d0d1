"""What an agent does with tasks: start its own, look at others', wait for their ends and ask for them."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import TaskError
from ...mailbox.events import EV_TASK_CANCEL_REQUEST
from ..sessions.operations import CancelTask, GetTask, ListTasks, ReadCheckpoint, WaitTask
from ..sessions.task_payloads import MAX_REASON
from ..sessions.tasks import Checkpoint, TaskMetadata, TaskSpec, cut
from .inbound import Inbound
from .tasks import Task, open_task
from .turn_context import current_turn, turn_of

if TYPE_CHECKING:
    # The bool says that the block may swallow what leaves its body: the cancellation of the task itself.
    TaskBlock: TypeAlias = AbstractAsyncContextManager[Task, bool]


class TaskOwner(Inbound):
    """The tasks of an `AgentClient`."""

    __slots__ = ()

    def task(
        self,
        title: str,
        *,
        session_id: str | None = None,
        description: str = "",
        payload: dict[str, Any] | None = None,
        capability: str | None = None,
        ttl: str | float | None = None,
        resume_from: str | None = None,
    ) -> TaskBlock:
        """A block for a piece of work that the hub observes: `async with client.task("translate") as task:`.

        It belongs to a session and is told to its members: `session_id`, else that of the turn in hand; `""` is none.
        With a `capability` its outcome enters the track record. `ttl` is how long it may take, else the rule's
        `limits.task_ttl_default`. `resume_from` names an earlier task of this agent, whose newest checkpoint is then
        `task.resumed_state`; one that still runs is cancelled as `resumed`.

        Entering raises `AccessDeniedError` where `limits.max_concurrent_tasks` is reached; the body does not run then.
        Leaving ends the task: completed, or failed by the exception, which goes on, or cancelled. The TTL, a request to
        cancel and the end of the session cancel the body, after which the block just ends; `task.state` says how.

        If cancelled: so is the body, and the task is recorded as cancelled.
        """
        turn = turn_of(self)
        where = session_id if session_id is not None or turn is None else turn.envelope.session_id
        spec = TaskSpec(title, description, payload or {}, capability)
        return cast("TaskBlock", open_task(self, where or None, spec, ttl, resume_from))

    async def get_task(self, task_id: str) -> TaskMetadata:
        """A task of this agent, or of a session that it is in. Raises `NotFoundError` for all others.

        If cancelled: nothing has changed.
        """
        task: TaskMetadata = await self.connection.request(GetTask(self.agent_id, task_id))
        return task

    async def list_tasks(
        self,
        *,
        session_id: str | None = None,
        owner_id: str | None = None,
        state: str | None = None,
        capability: str | None = None,
        limit: int = 50,
    ) -> tuple[TaskMetadata, ...]:
        """Tasks that this agent may see, newest first; `state` may be `ended`. If cancelled: nothing has changed."""
        wanted = ListTasks(self.agent_id, session_id, owner_id, state, capability, limit)
        found: tuple[TaskMetadata, ...] = await self.connection.request(wanted)
        return found

    async def wait_task(
        self,
        task_id: str,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> TaskMetadata:
        """Wait until a task has ended. Raises `NotFoundError`, `TimeoutError`. If cancelled: nothing has changed."""
        with trio.move_on_after(math.inf if timeout is None else timeout):
            task: TaskMetadata = await self.connection.request(WaitTask(self.agent_id, task_id), is_bounded=False)
            return task
        raise TimeoutError(f"task {task_id} has not ended within {timeout:g} s")

    async def cancel_task(self, task_id: str, reason: str = "") -> TaskMetadata:
        """Ask for the end of a task: its body is cancelled wherever it runs. One that has ended stays as it is.

        Returns the task as it was when the request was taken; `wait_task` waits for its end.

        If cancelled: the request may have been taken.
        """
        reason = cut(reason, MAX_REASON)
        task = await self.get_task(task_id)
        if task.is_terminal():
            return task
        try:
            if task.session_id is None:
                cancelled: TaskMetadata = await self.connection.request(CancelTask(self.agent_id, task_id, reason))
                return cancelled
            data = {"task_id": task_id, "reason": reason}
            await self.connection.send(
                Envelope(task.session_id, self.agent_id, None, EV_TASK_CANCEL_REQUEST, data, task_id=task_id)
            )
        except TaskError:
            pass  # it has ended meanwhile, which is what was asked for
        return await self.get_task(task_id)

    async def read_checkpoint(self, task_id: str) -> Checkpoint | None:
        """The newest checkpoint of one of this agent's own tasks. If cancelled: nothing has changed."""
        saved: Checkpoint | None = await self.connection.request(ReadCheckpoint(self.agent_id, task_id))
        return saved


def task(title: str, **options: Any) -> TaskBlock:
    """`AgentClient.task` of the agent whose turn is in hand, for agents and tools that are not handed their client.

    Raises `TaskError` outside of a turn. If cancelled: so is the body, and the task is recorded as cancelled.
    """
    turn = current_turn()
    if turn is None or not isinstance(turn.client, TaskOwner):
        raise TaskError("no turn is in hand here; use the task() of an AgentClient")
    return turn.client.task(title, **options)
