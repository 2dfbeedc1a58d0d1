"""`LocalLink`: both ends in one process. It passes frames by reference and adds nothing to them.

Each direction is a bounded memory channel that is drained in batches: one checkpoint per frame would cost more than
everything else on an envelope's way. A hub never waits for a client, so a client that does not read is cut off when its
channel is full; its mail stays with the hub.
"""

from __future__ import annotations

import trio

from ..mailbox.errors import LinkClosed
from .frames import Frame
from .link import LinkHost

TO_HUB = 256
TO_CLIENT = 65_536
BATCH = 64


class Inflow:
    """The frames of one direction as an async iterator; it waits once per batch, at least once per 64 frames."""

    __slots__ = ("_batch", "_channel")

    def __init__(self, channel: trio.MemoryReceiveChannel[Frame]) -> None:
        self._channel = channel
        self._batch: list[Frame] = []

    def __aiter__(self) -> Inflow:
        return self

    async def __anext__(self) -> Frame:
        if not self._batch:
            await self._fill()
        return self._batch.pop()

    async def _fill(self) -> None:
        try:
            batch = [await self._channel.receive()]
            while len(batch) < BATCH:
                batch.append(self._channel.receive_nowait())
        except trio.WouldBlock:
            pass  # the channel is empty: the batch is what there was
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None
        batch.reverse()
        self._batch = batch


class LocalLinkEndpoint:
    """The hub's end of a `LocalLink`."""

    kind = "local"
    __slots__ = ("_from_client", "_to_client", "close_reason")

    def __init__(
        self, to_client: trio.MemorySendChannel[Frame], from_client: trio.MemoryReceiveChannel[Frame]
    ) -> None:
        self._to_client = to_client
        self._from_client = from_client
        self.close_reason = ""

    def send_nowait(self, frame: Frame) -> None:
        try:
            self._to_client.send_nowait(frame)
        except trio.WouldBlock:
            self.close_nowait("the client does not read")
            raise LinkClosed(f"the client left {TO_CLIENT} frames unread; the link is closed") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkClosed("the client has closed the link") from None

    def frames(self) -> Inflow:
        return Inflow(self._from_client)

    def close_nowait(self, reason: str = "") -> None:
        self.close_reason = self.close_reason or reason
        self._to_client.close()
        self._from_client.close()


class LocalLinkClient:
    """The agents' end of a `LocalLink`."""

    __slots__ = ("_closed", "_from_hub", "_host", "_to_hub", "endpoint")

    def __init__(self, host: LinkHost) -> None:
        self._host = host
        self._to_hub: trio.MemorySendChannel[Frame] | None = None
        self._from_hub: trio.MemoryReceiveChannel[Frame] | None = None
        self._closed = False
        self.endpoint: LocalLinkEndpoint | None = None

    async def open(self) -> None:
        """Connect to the hub; opening an open link does nothing. If cancelled: not connected."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise LinkClosed("this link was closed; make another with LocalLink(hub).client()")
        if self._to_hub is not None:
            return
        to_hub, from_client = trio.open_memory_channel[Frame](TO_HUB)
        to_client, from_hub = trio.open_memory_channel[Frame](TO_CLIENT)
        endpoint = LocalLinkEndpoint(to_client, from_client)
        self._host.accept_link(endpoint)
        self._to_hub, self._from_hub, self.endpoint = to_hub, from_hub, endpoint

    async def send_frame(self, frame: Frame) -> None:
        """Send one frame; waits only while 256 frames are on their way. If cancelled: the frame was not sent."""
        channel = self._to_hub
        if channel is None:
            raise LinkClosed("the link is not open; await link.open() first")
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            try:
                channel.send_nowait(frame)
            except trio.WouldBlock:
                await channel.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkClosed("the hub has closed the link") from None

    def frames(self) -> Inflow:
        """The frames that arrive, until the link closes."""
        if self._from_hub is None:
            raise LinkClosed("the link is not open; await link.open() first")
        return Inflow(self._from_hub)

    async def close(self) -> None:
        """Close both directions; closing again does nothing. If cancelled: closed all the same."""
        self._closed = True
        if self._to_hub is not None and self._from_hub is not None:
            self._to_hub.close()
            self._from_hub.close()
        await trio.lowlevel.checkpoint()


class LocalLink:
    """A transport factory bound to a hub in this process."""

    def __init__(self, hub: LinkHost) -> None:
        self.hub = hub

    def client(self) -> LocalLinkClient:
        """A fresh, unopened pair of ends; `open` connects it."""
        return LocalLinkClient(self.hub)
