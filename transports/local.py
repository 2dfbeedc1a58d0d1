"""`LocalLink`: both ends in one process. It passes frames by reference and adds nothing to them.

Each direction is a bounded mailbox that is drained in batches: one checkpoint per frame would cost more than everything
else on an envelope's way. A hub never waits for a client, so a client that does not read is cut off when its mailbox is
full; its mail stays with the hub.
"""

from __future__ import annotations

import trio

from ..mailbox.box import Mailbox
from ..mailbox.errors import ActorStopped, InboxFull, LinkClosed
from .frames import Frame
from .link import TURN, LinkHost

TO_HUB = 256
TO_CLIENT = 65_536


class Inflow:
    """The frames of one direction as an async iterator; it waits once per batch, at least once per 64 frames."""

    __slots__ = ("_batch", "_box")

    def __init__(self, box: Mailbox[Frame]) -> None:
        self._box = box
        self._batch: list[Frame] = []

    def __aiter__(self) -> Inflow:
        return self

    async def __anext__(self) -> Frame:
        if not self._batch:
            await self._box.wait()
            batch = self._box.drain_nowait(TURN)
            if not batch:
                raise StopAsyncIteration
            batch.reverse()
            self._batch = batch
        return self._batch.pop()

    def drain_nowait(self) -> list[Frame]:
        """The rest of the batch."""
        batch, self._batch = self._batch, []
        batch.reverse()
        return batch


class LocalLinkEndpoint:
    """The hub's end of a `LocalLink`."""

    kind = "local"
    __slots__ = ("_from_client", "_to_client", "close_reason")

    def __init__(self, to_client: Mailbox[Frame], from_client: Mailbox[Frame]) -> None:
        self._to_client = to_client
        self._from_client = from_client
        self.close_reason = ""

    def send_nowait(self, frame: Frame) -> None:
        """Queue one frame, in order. Raises `LinkClosed`, also when the client reads too slowly."""
        try:
            self._to_client.put_nowait(frame)
        except InboxFull:
            self.close_nowait("the client does not read")
            raise LinkClosed(f"the client left {TO_CLIENT} frames unread; the link is closed") from None
        except ActorStopped:
            raise LinkClosed("the client has closed the link") from None

    def frames(self) -> Inflow:
        """The frames that arrive, until the link closes."""
        return Inflow(self._from_client)

    def close_nowait(self, reason: str = "") -> None:
        """Close both directions at once; what is queued can still be read."""
        self.close_reason = self.close_reason or reason
        self._to_client.close()
        self._from_client.close()

    def note_identities(self, count: int) -> None:
        """A client in the same process is trusted with or without an identity."""


class LocalLinkClient:
    """The agents' end of a `LocalLink`."""

    __slots__ = ("_closed", "_from_hub", "_host", "_to_hub", "endpoint")

    def __init__(self, host: LinkHost) -> None:
        self._host = host
        self._to_hub: Mailbox[Frame] | None = None
        self._from_hub: Mailbox[Frame] | None = None
        self._closed = False
        self.endpoint: LocalLinkEndpoint | None = None

    async def open(self) -> None:
        """Connect to the hub; opening an open link does nothing. If cancelled: not connected."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise LinkClosed("this link was closed; make another with LocalLink(hub).client()")
        if self._to_hub is not None:
            return
        to_hub = Mailbox[Frame](TO_HUB, name="to the hub")
        from_hub = Mailbox[Frame](TO_CLIENT, name="to the client")
        endpoint = LocalLinkEndpoint(from_hub, to_hub)
        self._host.accept_link(endpoint)
        self._to_hub, self._from_hub, self.endpoint = to_hub, from_hub, endpoint

    async def send_frame(self, frame: Frame) -> None:
        """Send one frame; waits only while 256 frames are on their way. If cancelled: the frame was not sent."""
        box = self._to_hub
        if box is None:
            raise LinkClosed("the link is not open; await link.open() first")
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            if box.free:
                box.put_nowait(frame)
            else:
                await box.put(frame)
        except ActorStopped:
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
