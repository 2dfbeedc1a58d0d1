"""A byte stream that can be muted: from then on nothing crosses, and neither end is told. For `FaultyLink`."""

from __future__ import annotations

import trio


class MutedStream(trio.abc.Stream):
    """Wraps a stream; what is sent or arrives while it is muted is gone."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self._closed = trio.Event()
        self.is_muted = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or pretend to. If cancelled: an unknown part was sent."""
        if self.is_muted:
            await trio.lowlevel.checkpoint()
        else:
            await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there may be room. If cancelled: nothing has changed."""
        if self.is_muted:
            await trio.lowlevel.checkpoint()
        else:
            await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What arrives; nothing ever does once it is muted. If cancelled: nothing was read."""
        data = await self._inner.receive_some(max_bytes)
        if self.is_muted:
            await self._closed.wait()
            raise trio.ClosedResourceError("this stream was closed while it was muted")
        return data

    async def aclose(self) -> None:
        """Close. If cancelled: closed without a goodbye."""
        self._closed.set()
        await self._inner.aclose()
