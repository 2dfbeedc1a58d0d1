"""Frames that wait to be written: bounded in bytes, several of them to a message."""

from __future__ import annotations

from collections import deque

import trio

from .limits import Limits


class Outflow:
    """Encoded frames of one direction; one task takes them out."""

    __slots__ = ("_frames", "_limits", "_queued", "_room", "_waiter", "is_closed")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._frames: deque[bytes] = deque()
        self._queued = 0
        self._waiter: trio.lowlevel.Task | None = None
        self._room: trio.Event | None = None
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def queued(self) -> int:
        """Bytes that wait."""
        return self._queued

    def put(self, data: bytes) -> bool:
        """Queue an encoded frame; False where the peer has left too many bytes unread."""
        if self._queued + len(data) > self._limits.max_queued and self._frames:
            return False
        self._frames.append(data)
        self._queued += len(data)
        self._wake()
        return True

    def close(self, *, drop: bool = False) -> None:
        """Take nothing more; what waits can still be taken, unless it is to be dropped."""
        self.is_closed = True
        if drop:
            self._frames.clear()
            self._queued = 0
        self._wake()
        self._let_in()

    def _wake(self) -> None:
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None

    def _let_in(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def wait(self) -> None:
        """Wait until something can be taken, or the flow is closed. If cancelled: nothing was taken."""
        if self._frames or self.is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abandon)

    def _abandon(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def wait_room(self, high_water: int) -> None:
        """Wait while more than `high_water` bytes are queued. If cancelled: nothing has changed."""
        while self._queued > high_water and not self.is_closed:
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()

    def take(self) -> bytes | None:
        """The next message: one frame, or an array of as many as fit. None where nothing waits."""
        frames = self._frames
        if not frames:
            return None
        batch, size = [frames.popleft()], 0
        size = len(batch[0])
        while frames and size + len(frames[0]) + 2 <= self._limits.batch and len(batch) < self._limits.max_frames:
            batch.append(frames.popleft())
            size += len(batch[-1]) + 1
        self._queued -= sum(map(len, batch))
        self._let_in()
        return batch[0] if len(batch) == 1 else b"[" + b",".join(batch) + b"]"
