"""One end of one websocket, on either side: a writer, a heartbeat and an iterator of frames.

The iterator reads from the library's own queue of one message, so a peer is read no faster than its frames are handled.
What is to be written waits in a bounded queue; a task of its own writes it, because a write that was cut short would
leave half a message on the wire.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable
from typing import Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from ..mailbox.errors import LinkClosed
from .codec import Codec, Unreadable
from .frames import ErrorFrame, Frame
from .guarded_stream import GuardedStream
from .limits import Limits
from .link import TURN
from .messages import text_message
from .metering import POLICY
from .outflow import Outflow

SUBPROTOCOL: Final = "agorio.v1"
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
MAX_REASON: Final = 120

_log = logging.getLogger("agorio.transports")


class WebsocketEnd:
    """Frames in, frames out."""

    def __init__(self, ws: WebSocketConnection, stream: GuardedStream, codec: Codec, limits: Limits) -> None:
        self._ws = ws
        self._stream = stream
        self._codec = codec
        self._limits = limits
        self._batch: deque[Frame] = deque()
        self._in_a_row = 0
        self._code = NORMAL
        self._received = trio.current_time()
        self.outflow = Outflow(limits)
        self.close_reason = ""
        self.total_unreadable = 0
        self.on_unreadable: Callable[[Unreadable], None] = self._answer_unreadable
        stream.on_violation = self._violated

    # Out.

    def send_nowait(self, frame: Frame) -> None:
        """Queue one frame, in order. Raises `LinkClosed`, also when the peer reads too slowly, and `BadFrame`."""
        if self.outflow.is_closed:
            raise LinkClosed(f"the link is closed: {self.close_reason or 'it has ended'}")
        if not self.outflow.put(self._codec.encode(frame)):
            self.close_nowait("the peer does not read", POLICY, drop=True)
            raise LinkClosed(f"the peer left {self._limits.max_queued} bytes unread; the link is closed")

    async def write(self) -> None:
        """Write what is queued until the link is closed, then close the websocket. If cancelled: it is cut."""
        with trio.CancelScope() as scope:  # one for all messages: each sets its deadline and takes it back
            try:
                await self._write_all(scope)
            except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                self._note_end()
        if scope.cancelled_caught:
            self.close_nowait("the peer does not read", POLICY, drop=True)
            await trio.aclose_forcefully(self._stream)
        with trio.move_on_after(self._limits.close_timeout):
            await self._ws.aclose(self._code, self.close_reason[:MAX_REASON] or None)

    async def _write_all(self, scope: trio.CancelScope) -> None:
        outflow, timeout = self.outflow, self._limits.write_timeout
        while True:
            await outflow.wait()
            message = outflow.take()
            if message is not None:
                scope.deadline = trio.current_time() + timeout
                if self._ws.closed is not None:
                    raise ConnectionClosed(self._ws.closed)
                await self._stream.send_all(text_message(message, os.urandom(4) if self._ws.is_client else None))
                scope.deadline = math.inf
            elif outflow.is_closed:
                break

    # In.

    def __aiter__(self) -> WebsocketEnd:
        return self

    def frames(self) -> WebsocketEnd:
        """The frames that arrive, until the link closes. One reader at a time."""
        return self

    async def __anext__(self) -> Frame:
        if self._in_a_row >= TURN:
            await trio.lowlevel.checkpoint()
            self._in_a_row = 0
        while not self._batch:
            self._in_a_row = 0
            try:
                message = await self._ws.get_message()
            except ConnectionClosed:
                self._note_end()
                return self._last_word()
            self._take_in(message)
        self._in_a_row += 1
        return self._batch.popleft()

    def drain_nowait(self) -> list[Frame]:
        """What came in the same message as the frame before, as far as it is this reader's turn."""
        batch = self._batch
        count = min(len(batch), TURN - self._in_a_row)
        self._in_a_row += count
        return [batch.popleft() for _ in range(count)]

    def _last_word(self) -> Frame:
        """What the reader is told at the end."""
        raise StopAsyncIteration

    def _take_in(self, message: str | bytes) -> None:
        self._received = trio.current_time()
        items = self._codec.decode(message)
        if len(items) > 1:
            self._stream.charge(len(items) - 1)
        for item in items:
            if isinstance(item, Unreadable):
                self.total_unreadable += 1
                self.on_unreadable(item)
            else:
                self._batch.append(item)

    def _answer_unreadable(self, item: Unreadable) -> None:
        error = item.error
        if not self.outflow.is_closed:
            try:
                self.send_nowait(ErrorFrame(error.code, str(error), item.request_id, error.details))
            except LinkClosed:
                return

    # The end.

    def close_nowait(self, reason: str = "", code: int = NORMAL, *, drop: bool = False) -> None:
        """Close both directions; what is queued is written first, unless it is to be dropped."""
        if not self.outflow.is_closed:
            self.close_reason, self._code = reason, code
        self.outflow.close(drop=drop)

    def _violated(self, code: int, reason: str) -> None:
        _log.info("a peer has broken a limit: %s", reason)
        self.close_nowait(reason, code, drop=True)

    def _note_end(self) -> None:
        """The peer has closed, or the stream has ended."""
        closed = self._ws.closed
        reason = (closed.reason or f"code {closed.code}") if closed is not None else ""
        self.close_nowait(reason, drop=True)

    async def beat(self, is_idle: Callable[[float], bool] = lambda quiet: False) -> None:
        """Ping a silent peer and cut one that is dead or idle. If cancelled: nobody watches any more."""
        limits = self._limits
        while not self.outflow.is_closed:
            await trio.sleep(limits.heartbeat)
            now = trio.current_time()
            if is_idle(now - self._received):
                self.close_nowait(f"idle for {limits.idle_timeout:g} s without an identity", POLICY)
            elif now - self._stream.last_received >= limits.heartbeat and not await self._is_alive():
                self.close_nowait(f"no answer to a ping within {limits.dead_after:g} s", GOING_AWAY, drop=True)
                await trio.aclose_forcefully(self._stream)

    async def _is_alive(self) -> bool:
        with trio.move_on_after(self._limits.dead_after):
            try:
                await self._ws.ping()
            except ConnectionClosed:
                return True  # it has said that it goes
            return True
        return False
