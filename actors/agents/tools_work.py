"""The tool `tasks`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from msgspec import Meta

from ...mailbox.errors import InvalidInput
from ..sessions.tasks import TaskMetadata
from .tasks import Task, current_task
from .tools_scope import Scope


class Work(Scope):
    """Tasks that the agent may see."""

    __slots__ = ()

    async def tasks(
        self,
        action: Annotated[
            Literal["list", "status", "wait", "cancel", "progress", "complete"],
            Meta(description="`progress` and `complete` are about your own running task, the others about any."),
        ] = "list",
        task_id: Annotated[str | None, Meta(description="For `status`, `wait` and `cancel`: which.")] = None,
        session_id: Annotated[str | None, Meta(description="For `list`: only of this session.")] = None,
        state: Annotated[
            Literal["running", "ended", "completed", "failed", "expired", "cancelled"] | None,
            Meta(description="For `list`: only in this state."),
        ] = None,
        progress: Annotated[dict[str, Any] | None, Meta(description="For `progress`: the fields that changed.")] = None,
        result: Annotated[Any, Meta(description="For `complete`: any JSON value.")] = None,
        reason: Annotated[str, Meta(description="For `cancel`: why.")] = "",
        timeout: Annotated[float | None, Meta(description="For `wait`: seconds.")] = 300.0,  # noqa: ASYNC109
        limit: Annotated[int, Meta(description="At most so many results.", ge=1, le=1000)] = 20,
    ) -> Any:
        """Look at tasks, wait for the end of one, ask for its end, or tell how your own one goes.

        If cancelled: a request to cancel may have been taken.
        """
        client = self.client
        if action == "list":
            found = await client.list_tasks(session_id=session_id, state=state, limit=limit)
            return [await self._show(task) for task in found]
        if action == "progress":
            return await self._show(await self._mine(action).progress(progress or {}))
        if action == "complete":
            return await self._show(await self._mine(action).complete(result))
        if task_id is None:
            raise InvalidInput(f"tasks: `{action}` needs a task_id", field="task_id")
        if action == "wait":
            return await self._show(await client.wait_task(task_id, timeout))
        if action == "cancel":
            return await self._show(await client.cancel_task(task_id, reason))
        return await self._show(await client.get_task(task_id))

    def _mine(self, action: str) -> Task:
        task = current_task()
        if task is None or task.client is not self.client:
            raise InvalidInput(f"tasks: no task of yours runs here, so there is nothing to {action}", field="action")
        return task

    async def _show(self, task: TaskMetadata) -> dict[str, Any]:
        names = await self.client.hub_client.names([task.owner_id])
        return {
            "task_id": task.task_id,
            "title": task.spec.title,
            "owner": names.get(task.owner_id, task.owner_id),
            "state": str(task.state),
            "capability": task.spec.capability,
            "session_id": task.session_id,
            "progress": json.loads(json.dumps(task.progress)),
            "result": json.loads(json.dumps(task.result)),
            "error": task.error,
            "reason": task.reason,
        }
