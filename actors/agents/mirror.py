"""The point at which the tasks of a wrapped agent are reported to the hub.

An agent framework with tasks of its own tells of them on the stream of its turn (`MemoryStream.emit`). The mirror says
each of these events in the session, in order, from an actor beside the turn: a slow hub does not hold up the agent, and
what cannot be said is reported and never fails the turn. A turn without such events costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from ...mailbox.errors import ActorStopped, AgorioError, InboxFull, TaskError
from ...mailbox.events import EV_TASK_CANCELLED, TASK_PREFIX
from ..runtime.actor import Actor, Context
from ..runtime.child import Child
from ..runtime.ref import Ref
from ..sessions.operations import ReportMirrorFailure
from ..sessions.tasks import read_request
from .stream import MemoryStream, TaskEvent
from .tasks import Task, start_task

if TYPE_CHECKING:
    from .agent_client import AgentClient

CAPACITY: Final = 1000
_TURN_ENDED: Final = "turn_ended"
_END: Final = object()
_log = logging.getLogger("agorio.agents")


class TaskMirror:
    """Attached by the default handler for the length of a turn."""

    __slots__ = ("_ref", "_unsubscribe", "client", "session_id")

    def __init__(self, client: AgentClient, session_id: str) -> None:
        self.client = client
        self.session_id = session_id
        self._ref: Ref | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there was anything to mirror, so that `flush` has something to wait for."""
        return self._ref is not None

    def attach(self, stream: MemoryStream) -> None:
        """A turn begins: mirror what the stream is told."""
        self._unsubscribe = stream.subscribe(self._hear)

    def detach(self) -> None:
        """The turn is over: hear no more."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    async def flush(self) -> None:
        """Wait until everything is said; tasks that have no end by now are cancelled as `turn_ended`.

        If cancelled: it is said all the same, within the client's grace.
        """
        if self._ref is None:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.client.hub_client.grace):
            try:
                self._ref.tell(_END)
            except (ActorStopped, InboxFull) as error:
                self.report(_TURN_ENDED, error)
            else:
                await self._ref.stopped()

    def _hear(self, event: TaskEvent) -> None:
        try:
            if self._ref is None:
                hub_client = self.client.hub_client
                name = hub_client.child_name(f"{self.client.name}-mirror")
                child = Child(
                    name, lambda: MirrorActor(self), restart="temporary", capacity=CAPACITY, grace=hub_client.grace
                )
                self._ref = hub_client.start_child(child)
            self._ref.tell(event)
        except (ActorStopped, InboxFull) as error:
            self.report(event.kind, error)

    def report(self, kind: str, error: Exception) -> None:
        """Tell the operator that something could not be mirrored."""
        client = self.client
        _log.warning("the task event %s of %s could not be mirrored: %s", kind, client.name, error)
        client.connection.post_request(
            ReportMirrorFailure(client.agent_id, self.session_id, f"{TASK_PREFIX}{kind}", str(error))
        )


class MirrorActor(Actor):
    """Says the events of one turn in order."""

    def __init__(self, mirror: TaskMirror) -> None:
        self._mirror = mirror
        self._tasks: dict[str, Task] = {}

    async def receive(self, message: Any, ctx: Context) -> None:
        """Say one event; a refusal is reported. If cancelled: the tasks' TTLs end them."""
        if message is _END:
            await self._end_all()
            ctx.stop()
            return
        event: TaskEvent = message
        try:
            await self._say(event)
        except (AgorioError, TimeoutError) as error:
            self._mirror.report(event.kind, error)

    async def _say(self, event: TaskEvent) -> None:
        if event.kind == "started":
            task = await start_task(self._mirror.client, self._mirror.session_id, read_request(event.data))
            task.on_interrupt = event.cancel
            self._tasks[event.key] = task
            return
        found = self._tasks.get(event.key)
        if found is None:
            raise TaskError(f"no task {event.key!r} was started in this turn")
        await found.tell(f"{TASK_PREFIX}{event.kind}", dict(event.data))
        if found.is_terminal:
            del self._tasks[event.key]

    async def _end_all(self) -> None:
        for task in self._tasks.values():
            if not task.is_terminal:
                try:
                    await task.tell(EV_TASK_CANCELLED, {"reason": _TURN_ENDED})
                except (AgorioError, TimeoutError) as error:
                    self._mirror.report("cancelled", error)
