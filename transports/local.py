"""`LocalLink`: both ends in one process. It passes frames by reference and adds nothing to them.

Each direction is a bounded mailbox that is drained in batches: one checkpoint per frame would cost more than everything
else on an envelope's way. A frame that would only wake an idle reader does not wake it: the hub's door is synchronous,
so the hub acts on it at once, in the sender's task, and the client takes what comes of it when the hub's step is over.
An envelope is accepted and in its recipient's hands after one turn of the event loop that way, not three. A hub never
waits for a client, so a client that does not read is cut off when its mailbox is full; its mail stays with the hub.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextlib import suppress

import trio

from ..mailbox.box import Mailbox
from ..mailbox.errors import ActorStopped, InboxFull, LinkClosed
from .frames import Frame
from .link import TURN, LinkHost

TO_HUB = 256
TO_CLIENT = 65_536


class Inflow:
    """The frames of one direction as an async iterator; it waits once per batch, at least once per 64 frames."""

    __slots__ = ("_batch", "_box", "_context", "_failure", "_receive")

    def __init__(self, box: Mailbox[Frame]) -> None:
        self._box = box
        self._batch: list[Frame] = []
        self._receive: Callable[[Frame], None] | None = None
        self._context = contextvars.Context()
        self._failure: Exception | None = None

    def attend(self, receive: Callable[[Frame], None]) -> None:
        """Whenever the reader is asleep, what arrives may be given to `receive` instead, in the caller's context."""
        self._receive, self._context = receive, contextvars.copy_context()

    def pass_through(self, frame: Frame) -> bool:
        """Have the reader's side act on a frame at once; False where others are before it, or nobody reads.

        Where that fails it is the reader that fails, as if it had read the frame.
        """
        if self._receive is None or not self._box.is_awaited:
            return False
        try:
            self._context.run(self._receive, frame)
        except Exception as exc:
            self._failure = exc
            self._box.close()
        return True

    def __aiter__(self) -> Inflow:
        return self

    async def __anext__(self) -> Frame:
        if not self._batch:
            await self._box.wait()
            if self._failure is not None:
                raise self._failure
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
    __slots__ = ("_from_client", "_held", "_inflow", "_to_client", "close_reason", "outflow")

    def __init__(self, to_client: Mailbox[Frame], from_client: Mailbox[Frame]) -> None:
        self._to_client = to_client
        self._from_client = from_client
        self._inflow = Inflow(from_client)
        self._held: list[Frame] | None = None
        self.outflow = Inflow(to_client)
        self.close_reason = ""

    def attend(self, receive: Callable[[Frame], None]) -> None:
        """Whenever the reader of `frames` is asleep, give a frame straight to `receive`."""
        self._inflow.attend(receive)

    def pass_through(self, frame: Frame) -> bool:
        """Have the hub act on a frame at once, and then the client on what the hub has said to it meanwhile."""
        held = self._held = []
        try:
            if not self._inflow.pass_through(frame):
                return False
        finally:
            self._held = None
        for answer in held:
            if not self.outflow.pass_through(answer):
                with suppress(LinkClosed):  # the hub has acted; a client that has just ended needs no answer
                    self._queue(answer)
        return True

    def send_nowait(self, frame: Frame) -> None:
        """Queue one frame, in order. Raises `LinkClosed`, also when the client reads too slowly."""
        if self._held is None or self._to_client.is_closed or not self._to_client.is_awaited:
            self._queue(frame)
        else:
            self._held.append(frame)

    def _queue(self, frame: Frame) -> None:
        try:
            self._to_client.put_nowait(frame)
        except InboxFull:
            self.close_nowait("the client does not read")
            raise LinkClosed(f"the client left {TO_CLIENT} frames unread; the link is closed") from None
        except ActorStopped:
            raise LinkClosed("the client has closed the link") from None

    def frames(self) -> Inflow:
        """The frames that arrive, until the link closes."""
        return self._inflow

    def close_nowait(self, reason: str = "") -> None:
        """Close both directions at once; what is queued can still be read."""
        while self._held:
            self._queue(self._held.pop(0))
        self.close_reason = self.close_reason or reason
        self._to_client.close()
        self._from_client.close()

    def note_identities(self, count: int) -> None:
        """A client in the same process is trusted with or without an identity."""


class LocalLinkClient:
    """The agents' end of a `LocalLink`."""

    __slots__ = ("_closed", "_from_hub", "_host", "_passed", "_to_hub", "endpoint")

    def __init__(self, host: LinkHost) -> None:
        self._host = host
        self._to_hub: Mailbox[Frame] | None = None
        self._from_hub: Mailbox[Frame] | None = None
        self._closed = False
        self._passed = 0
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
        box, endpoint = self._to_hub, self.endpoint
        if box is None or endpoint is None:
            raise LinkClosed("the link is not open; await link.open() first")
        await trio.lowlevel.checkpoint_if_cancelled()
        if endpoint.pass_through(frame):
            self._passed += 1
            if not self._passed % TURN:  # who only sends must let others run too
                await trio.lowlevel.cancel_shielded_checkpoint()
            return
        try:
            if box.free:
                box.put_nowait(frame)
            else:
                await box.put(frame)
        except ActorStopped:
            raise LinkClosed("the hub has closed the link") from None

    def frames(self) -> Inflow:
        """The frames that arrive, until the link closes."""
        if self.endpoint is None:
            raise LinkClosed("the link is not open; await link.open() first")
        return self.endpoint.outflow

    def attend(self, receive: Callable[[Frame], None]) -> None:
        """Whenever the reader of `frames` is asleep, give a frame straight to `receive`, between steps of the hub."""
        if self.endpoint is not None:
            self.endpoint.outflow.attend(receive)

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
