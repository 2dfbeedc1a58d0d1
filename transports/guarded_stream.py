"""The byte stream below one websocket, with the limits that the library lacks.

It sits between the transport (TLS included) and the library's parser: what breaks a limit is never passed on. After a
violation the rest is read and thrown away for a while, so that the closing handshake can still reach the peer: closing
a socket with unread bytes in it would reset the connection and take the reason with it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from .limits import Budget, Limits
from .metering import FrameMeter, Violation

READ_BYTES = 65_536


class GuardedStream(trio.abc.Stream):
    """Meters and paces what is read from `stream`."""

    def __init__(self, stream: trio.abc.Stream, limits: Limits) -> None:
        now = trio.current_time()
        self._stream = stream
        self._meter = FrameMeter(limits)
        self._messages = Budget(limits.messages_per_second, now)
        self._bytes = Budget(limits.bytes_per_second, now)
        self._owed = 0.0
        self._is_broken = False
        self._is_writing = False
        self._line = trio.lowlevel.ParkingLot()
        self.last_received = now
        self.ended = trio.Event()
        self.on_violation: Callable[[int, str], None] | None = None

    def charge(self, messages: int) -> None:
        """Count frames that shared one websocket message; reading pauses until they are paid for."""
        self._owed = max(self._owed, self._messages.spend(messages, trio.current_time()))

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Bytes within the limits, b"" at the end. If cancelled: what was read is lost with the connection."""
        while True:
            data = await self._receive()
            if self._owed > 0:
                owed, self._owed = self._owed, 0.0
                await trio.sleep(owed)
            if not data or not self._is_broken:
                return data

    async def _receive(self) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except BaseException:
            self.ended.set()
            raise
        if not data:
            self.ended.set()
            return data
        if not self._is_broken:
            self._account(data)
        return data

    def _account(self, data: bytes | bytearray) -> None:
        self.last_received = now = trio.current_time()
        try:
            count = self._meter.feed(data)
        except Violation as violation:
            self._break(violation)
            return
        self._owed = max(self._owed, self._messages.spend(count, now), self._bytes.spend(len(data), now))

    def _break(self, violation: Violation) -> None:
        self._is_broken = True
        if self.on_violation is None:
            self.ended.set()
        else:
            self.on_violation(violation.code, violation.reason)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream below, one caller at a time: the library writes here, and so do we, past it.

        If cancelled: part of it may have been sent.
        """
        while self._is_writing:  # a lock would do, at a turn of the loop for each message that nobody contends with
            await self._line.park()
        self._is_writing = True
        try:
            await self._stream.send_all(data)
        finally:
            self._is_writing = False
            self._line.unpark()

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream below. If cancelled: nothing has changed."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream below. If cancelled: it is closed all the same."""
        self.ended.set()
        await self._stream.aclose()
