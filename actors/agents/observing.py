"""Observing a session or a task: its events as they happen, from a sequence on, without being delivered to.

The log is the truth, so an observer may be slow: what it does not take is not kept for it beyond a bound, but read from
the log again once it has caught up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError
from ...mailbox.events import SESSION_END, TASK_ENDS
from ...transports.frames import SubscribeFrame, UnsubscribeFrame
from .correlation import again

if TYPE_CHECKING:
    from .connection import Connection
    from .inbound import Inbound

MAX_KEPT: Final = 1024


class Observation:
    """The events of one subscription, in order and without a gap: `async for envelope in observation`.

    It ends after the end of what is observed. One that falls more than 1,024 events behind reads the rest later.
    """

    def __init__(self, connection: Connection, frame: SubscribeFrame) -> None:
        self._connection = connection
        self._frame = frame
        self._kept: deque[Envelope] = deque()
        self._newest = frame.after
        self._is_paused = False
        self._is_over = False
        self._fault: AgorioError | None = None
        self._news = trio.Event()

    @property
    def agent_id(self) -> str:
        """In whose name it looks."""
        return self._frame.agent_id

    def begin(self) -> None:
        """Ask for the events, from the first one that was not seen."""
        self._is_paused = False
        number = self._connection.observe(self)
        self._frame = attrs.evolve(self._frame, subscription_id=number, after=self._newest)
        self._connection.post(self._frame)

    def end(self) -> None:
        """Ask for no more."""
        if self._connection.forget_observation(self._frame.subscription_id) and not self._connection.is_ended:
            self._connection.post(UnsubscribeFrame(self._frame.subscription_id))

    def arrive(self, envelope: Envelope) -> None:
        """An event has come."""
        if envelope.sequence <= self._newest:
            return
        if len(self._kept) >= MAX_KEPT:
            self._is_paused = True
            self.end()
            return
        self._newest = envelope.sequence
        wanted = self._frame.event_types
        if wanted is None or envelope.event_type in wanted:  # the end of a session is shown whatever was asked for
            self._kept.append(envelope)
        is_task_over = self._frame.task_id is not None and envelope.event_type in TASK_ENDS
        if is_task_over or envelope.event_type in SESSION_END:
            self._is_over = True
            self.end()
        self._wake()

    def fail(self, error: AgorioError) -> None:
        """Nothing comes any more."""
        self._fault = self._fault or error
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def __aiter__(self) -> Observation:
        return self

    async def __anext__(self) -> Envelope:
        """The next event. Raises why there are no more, where that is no end. If cancelled: nothing is lost."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._kept:
            if self._is_over:
                raise StopAsyncIteration
            if self._fault is not None:
                raise again(self._fault)
            if self._is_paused:
                self.begin()
            await self._news.wait()
        return self._kept.popleft()


@asynccontextmanager
async def observe(
    client: Inbound, session_id: str, after: int, event_types: Collection[str] | None, task_id: str | None
) -> AsyncIterator[Observation]:
    """The block of `AgentClient.observe`. If cancelled: the subscription is ended."""
    wanted = None if event_types is None else tuple(event_types)
    connection = client.connection
    connection.check()
    frame = SubscribeFrame(0, session_id, client.agent_id, after, wanted, task_id)
    observation = Observation(connection, frame)
    observation.begin()
    try:
        yield observation
    finally:
        observation.end()
