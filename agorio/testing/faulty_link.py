"""`FaultyLink`: a link that is slow, stalls, breaks or goes half-open, as often as a seed says. Over any link.

A link is ordered, and every transport underneath finds out when a frame is missing, doubled or out of place: what it
does then is to give up. So `drop`, `duplicate` and `reorder` end in a cut, and the frame concerned does not arrive.
With `datagram=True` they happen for real, which no transport of agorio does: a hub has to survive such a peer, but it
owes it no order.

A websocket link is wrapped below its websocket as well: a cut breaks the stream without a goodbye, and over a half-open
one no heartbeat gets through either, so that both ends find out as they do when a cable is pulled.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Literal

import trio

from ..mailbox.errors import LinkClosed
from ..transports.frames import Frame
from ..transports.link import Link, LinkClient
from ..transports.reconnect import Reconnect
from ..transports.websocket_client import WebsocketLink
from .chance import Chance
from .faulty_store import Delay, _draw
from .muted_stream import MutedStream

Direction = Literal["out", "in"]
DAMAGE = ("drop", "duplicate", "reorder")


class FaultyLink:
    """Wraps a link, or one link client; `HubClient(FaultyLink(LocalLink(hub), seed=1, cut=0.01))`.

    `delay` is seconds per frame, or `(least, most)`, and keeps the order; `stall` the probability of a frame to take
    `stall_seconds` more. `drop`, `duplicate`, `reorder`, `cut` and `half_open` are probabilities per frame; `cut_at`
    cuts at the n-th frame of each client (1 is the greeting). `slow_reader` is seconds that this side takes over each
    frame that arrives, reading nothing meanwhile, so that the other side meets its back pressure. `tap` is called with
    every frame that really passes, `on_fault` with the kind of every fault; `injected` counts them. A client makes lost
    connections good as it does over the link inside; `reconnect=Reconnect()` has it do so over any.
    """

    def __init__(
        self,
        link: Link | LinkClient,
        *,
        seed: int | str = 0,
        rng: random.Random | None = None,
        delay: Delay = 0.0,
        stall: float = 0.0,
        stall_seconds: float = 5.0,
        slow_reader: Delay = 0.0,
        drop: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        cut: float = 0.0,
        half_open: float = 0.0,
        cut_at: int | None = None,
        datagram: bool = False,
        reconnect: Reconnect | None = None,
        tap: Callable[[Direction, Frame], None] | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> None:
        self._link = link
        self.rng = rng or Chance(seed).of("link")
        self.delay = delay
        self.stall = stall
        self.stall_seconds = stall_seconds
        self.slow_reader = slow_reader
        self.odds = {"drop": drop, "duplicate": duplicate, "reorder": reorder, "cut": cut, "half_open": half_open}
        self.cut_at = cut_at
        self.datagram = datagram
        self.reconnect: Reconnect | None = reconnect or getattr(link, "reconnect", None)
        self.tap = tap
        self.on_fault = on_fault
        self.injected: Counter[str] = Counter()
        self.clients: list[FaultyLinkClient] = []

    def client(self) -> FaultyLinkClient:
        """A fresh, unopened agents' end."""
        client = self._client()
        self.clients = [other for other in self.clients if not other.is_over] + [client]
        return client

    def _client(self) -> FaultyLinkClient:
        if isinstance(self._link, WebsocketLink):
            link = copy.copy(self._link)
            client = FaultyLinkClient(self, link.client())
            client.wrap_streams(link)
            return client
        return FaultyLinkClient(self, self._link.client() if isinstance(self._link, Link) else self._link)

    def cut_all(self, kind: str = "cut") -> int:
        """Cut every connection now; how many there were."""
        victims = [client for client in self.clients if client.is_open]
        for client in victims:
            client.cut(kind)
        return len(victims)

    def half_open_all(self) -> int:
        """From now on nothing crosses, and neither side is told; how many connections that concerned."""
        victims = [client for client in self.clients if client.is_open and not client.is_half_open]
        for client in victims:
            client.go_half_open()
        return len(victims)

    async def heal(self) -> None:
        """No more faults of its own accord; hubs are told of the half-open connections that were given up here.

        If cancelled: some of them are not told yet.
        """
        self.odds = dict.fromkeys(self.odds, 0.0)
        self.delay, self.stall, self.slow_reader, self.cut_at = 0.0, 0.0, 0.0, None
        for client in self.clients:
            await client.heal()

    def count(self, kind: str) -> None:
        """Take note of a fault."""
        self.injected[kind] += 1
        if self.on_fault is not None:
            self.on_fault(kind)

    def fate(self, frames: int) -> str | None:
        """What befalls the next frame; None lets it pass."""
        if self.cut_at is not None and frames == self.cut_at:
            return "cut"
        for kind, odds in self.odds.items():
            if odds and self.rng.random() < odds:
                return kind
        return None

    def dawdling(self) -> float:
        """Seconds that this side takes before it reads on."""
        seconds = _draw(self.slow_reader, self.rng) if self.slow_reader else 0.0
        if seconds:
            self.injected["slow_reader"] += 1
        return seconds

    def lateness(self) -> float:
        """Seconds that the next frame takes."""
        seconds = _draw(self.delay, self.rng)
        if self.stall and self.rng.random() < self.stall:
            self.count("stall")
            seconds += self.stall_seconds
        return seconds


class FaultyLinkClient:
    """The agents' end of a `FaultyLink`."""

    def __init__(self, link: FaultyLink, inner: LinkClient) -> None:
        self._link = link
        self._inner = inner
        self._inner_frames: AsyncIterator[Frame] | None = None
        self._line = trio.Lock()
        self._due = 0.0
        self._frames = 0
        self._cut = ""
        self._held: Frame | None = None
        self._late: list[Frame] = []
        self._reading: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._closed = False
        self._stream: MutedStream | None = None
        self.is_half_open = False
        self.is_open = False

    def wrap_streams(self, link: WebsocketLink) -> None:
        """Have the byte stream that `link` opens for this client wrapped, so that it can be cut and muted."""
        open_stream = link.open_stream

        async def wrapped() -> trio.abc.Stream:
            self._stream = MutedStream(await open_stream())
            return self._stream

        vars(link)["open_stream"] = wrapped

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do about it, not even telling the hub."""
        return self._closed and not self.is_half_open

    async def wait_ended(self) -> None:
        """Wait until the link has ended for this side. If cancelled: nothing has changed."""
        await self._ended.wait()

    # What the client calls.

    async def open(self) -> None:
        """Connect. Raises `LinkError`. If cancelled: not connected."""
        await self._inner.open()
        self.is_open = True

    async def send_frame(self, frame: Frame) -> None:
        """Send one frame, or not. Raises `LinkClosed`. If cancelled: the frame was not sent."""
        self._check()
        fate = self._next_fate()
        await self._travel()
        self._check()
        if self.is_half_open:
            return
        for one in self._befall(fate, frame):
            if self._link.tap is not None:
                self._link.tap("out", one)
            try:
                await self._inner.send_frame(one)
            except LinkClosed:
                self._closed = True
                self._end()
                raise

    def frames(self) -> FaultyLinkClient:
        """The frames that arrive, until the link closes."""
        self._inner_frames = self._inner.frames()
        return self

    def __aiter__(self) -> FaultyLinkClient:
        return self

    async def __anext__(self) -> Frame:
        """The next frame that gets through. If cancelled: it is lost with its connection."""
        try:
            while not self._cut and not self._closed:
                if self._late:
                    return self._late.pop(0)
                frame = await self._receive()
                if frame is not None and not self._cut and not self.is_half_open:
                    self._late += self._arrived(frame)
        except StopAsyncIteration:
            self._closed = True
            self._end()
            raise
        await self._hang_up()
        raise StopAsyncIteration

    def _arrived(self, frame: Frame) -> list[Frame]:
        try:
            through = self._befall(self._next_fate(), frame)
        except LinkClosed:
            return []
        for one in through:
            if self._link.tap is not None:
                self._link.tap("in", one)
        return through

    async def _receive(self) -> Frame | None:
        """The next frame of the link underneath, late; None where the link has changed meanwhile."""
        assert self._inner_frames is not None
        with trio.CancelScope() as self._reading:
            if self.is_half_open:
                await trio.sleep_forever()
            frame = await anext(self._inner_frames)
            await trio.sleep(self._link.lateness() + self._link.dawdling())
            return frame
        return None

    async def close(self) -> None:
        """Close. A half-open link tells the hub nothing of it. If cancelled: closed all the same."""
        self._closed = True
        self._end()
        self._wake()
        if not self.is_half_open:
            await self._inner.close()
        await trio.lowlevel.checkpoint()

    # What the test calls.

    def cut(self, kind: str = "cut") -> None:
        """Cut it: nothing arrives any more on this side, and the hub is told as soon as this side notices."""
        if not self._cut and not self._closed:
            self._cut = kind
            self.is_half_open = False
            self._link.count(kind)
            self._end()
            self._wake()

    def go_half_open(self) -> None:
        """Nothing crosses any more, and nobody is told."""
        if not self._cut and not self._closed and not self.is_half_open:
            self.is_half_open = True
            if self._stream is not None:
                self._stream.is_muted = True
            self._link.count("half_open")
            self._wake()

    async def heal(self) -> None:
        """Tell the hub of a half-open end. If cancelled: it may not be told."""
        if self.is_half_open:
            self.is_half_open = False
            self._cut = self._cut or "half_open"
            self._end()
            self._wake()
            await self._break_stream()
            await self._inner.close()

    # Inside.

    def _check(self) -> None:
        if self._cut or self._closed:
            raise LinkClosed(f"the link was cut ({self._cut or 'closed'})")

    def _next_fate(self) -> str | None:
        self._frames += 1
        return self._link.fate(self._frames)

    def _befall(self, fate: str | None, frame: Frame) -> list[Frame]:
        """What of the frame gets through. Raises `LinkClosed` where the link breaks over it."""
        held, self._held = self._held, None
        through = [frame] if held is None else [frame, held]
        if fate is None:
            return through
        if fate == "half_open":
            self.go_half_open()
            return []
        if fate not in DAMAGE or not self._link.datagram:
            self.cut(fate)
            self._check()
        self._link.count(fate)
        if fate == "duplicate":
            return [frame, *through]
        if fate == "reorder":
            self._held = frame
        return through[1:]

    async def _travel(self) -> None:
        self._due = max(self._due, trio.current_time() + self._link.lateness())
        due = self._due
        async with self._line:  # first come, first served: what is late keeps its place
            if due > trio.current_time():
                await trio.sleep_until(due)

    def _wake(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def _end(self) -> None:
        self.is_open = False
        self._ended.set()

    async def _hang_up(self) -> None:
        with trio.CancelScope(shield=True):
            if not self.is_half_open:
                if self._cut:
                    await self._break_stream()
                await self._inner.close()

    async def _break_stream(self) -> None:
        """Break it without a goodbye, where there is one."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
