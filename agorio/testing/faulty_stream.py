"""A websocket within one process: real framing, handshakes, heartbeats and reconnecting over streams that break.

Everything but the sockets is what runs on a network. What goes wrong here goes wrong with bytes: a connection ends in
the middle of a frame, stands still, or goes silent in both directions so that only heartbeats find it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import trio
import trio.testing

from ..actors.agents.websocket import WsLink
from ..actors.sessions.wire import WIRE
from ..transports.limits import Limits
from ..transports.link import LinkHost
from ..transports.reconnect import Reconnect
from ..transports.websocket_client import CLIENT_LIMITS
from ..transports.websocket_server import WebsocketServer
from .faulty_link import FaultyLink

URL: Final = "ws://hub.simulated/"
PATIENCE: Final[dict[str, Any]] = {
    "handshake_timeout": 3.0,
    "hello_timeout": 3.0,
    "idle_timeout": 60.0,
    "write_timeout": 3.0,
    "close_timeout": 0.5,
    "heartbeat": 2.0,
    "dead_after": 2.0,
}
RECONNECT: Final = Reconnect(initial=0.2, max_delay=2.0, give_up_after=20.0)


def open_server(host: LinkHost) -> WebsocketServer:
    """A server for streams within this process: `server.handle(stream)` serves one connection to its end."""
    return WebsocketServer(host, WIRE, attrs.evolve(Limits(), **PATIENCE), ())


class Wire:
    """One connection: two ends, and what happens to the bytes between them."""

    def __init__(self, link: FaultyWire) -> None:
        self.link = link
        self.is_cut = self.is_dark = False
        self._pairs = trio.testing.memory_stream_pair()
        self.near, self.far = (WireEnd(self, pair) for pair in self._pairs)

    @property
    def is_over(self) -> bool:
        """Whether neither end can be used any more."""
        return self.is_cut or (self.near.is_closed and self.far.is_closed)

    def cut(self) -> None:
        """Both ends break; what had arrived can still be read."""
        self.is_cut = True
        for pair in self._pairs:
            pair.send_stream.close()

    def go_dark(self) -> None:
        """Nothing crosses any more, and neither end is told."""
        self.is_dark = True


class WireEnd(trio.abc.Stream):
    """One end of a wire."""

    def __init__(self, wire: Wire, inner: Any) -> None:
        self._wire = wire
        self._inner = inner
        self.is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, late, in part or not at all. Raises `BrokenResourceError`.

        If cancelled: part of it may have been sent.
        """
        wire, link = self._wire, self._wire.link
        self._check()
        await trio.sleep(link.lateness_of_bytes())
        self._check()
        fate = None if wire.is_dark else link.fate_of_bytes()
        if fate == "half_open":
            link.count(fate)
            wire.go_dark()
        if wire.is_dark:
            return
        if fate is not None:
            link.count(fate)
            data = bytes(data)[: link.rng.randrange(len(data) + 1)]
        try:
            await self._inner.send_all(data)
        except trio.ClosedResourceError:
            raise trio.BrokenResourceError("the other end was closed") from None
        if fate is not None:
            wire.cut()
            self._check()

    def _check(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError("this end was closed")
        if self._wire.is_cut:
            raise trio.BrokenResourceError("the wire was cut")

    async def wait_send_all_might_not_block(self) -> None:
        """As any stream. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """A few bytes, or many. Raises `BrokenResourceError`. If cancelled: nothing is lost."""
        most = self._wire.link.rng.choice((3, 200, 65_536))
        data: bytes | bytearray = await self._inner.receive_some(most if max_bytes is None else min(most, max_bytes))
        if not data and self._wire.is_cut:
            raise trio.BrokenResourceError("the wire was cut")
        return data

    async def aclose(self) -> None:
        """Close this end; the other one is told, unless the wire is dark. If cancelled: closed all the same."""
        self.is_closed = True
        self._inner.receive_stream.close()
        if not self._wire.is_dark:
            self._inner.send_stream.close()
        await trio.lowlevel.checkpoint()


class _WireFactory(WsLink):
    """A `WsLink` whose streams lead to a server of this process."""

    def __init__(self, owner: FaultyWire) -> None:
        super().__init__(URL, reconnect=None, limits=attrs.evolve(CLIENT_LIMITS, **PATIENCE))
        self._owner = owner

    async def open_stream(self) -> trio.abc.Stream:
        """A fresh wire. Raises `OSError` where nobody listens. If cancelled: not connected."""
        await trio.lowlevel.checkpoint()
        return self._owner.connect()


class FaultyWire(FaultyLink):
    """A link over a websocket on wires that break; a client on it makes its connections good by itself.

    Its frames are whole or do not arrive: `torn` is the probability of a write to break the connection after some of
    its bytes, `half_open` that of nothing crossing any more from it on; `delay` and `stall` are those of a write.
    """

    def __init__(self, serve: Callable[[trio.abc.Stream], None], *, torn: float = 0.0, **options: Any) -> None:
        super().__init__(_WireFactory(self), **options)
        self.reconnect: Reconnect | None = RECONNECT
        self.odds = {"torn_frame": torn, "half_open": self.odds["half_open"]}
        self._serve = serve
        self._wires: list[Wire] = []

    def connect(self) -> trio.abc.Stream:
        """The near end of a fresh wire whose far end is served. Raises `OSError` where nobody listens."""
        wire = Wire(self)
        self._serve(wire.far)
        self._wires = [other for other in self._wires if not other.is_over] + [wire]
        return wire.near

    def fate(self, frames: int) -> None:
        """Nothing befalls a frame as such."""

    def lateness(self) -> float:
        """Bytes are late, not frames."""
        return 0.0

    def fate_of_bytes(self) -> str | None:
        """What befalls the next write."""
        return super().fate(0)

    def lateness_of_bytes(self) -> float:
        """Seconds that the next write takes."""
        return super().lateness()

    def cut_all(self, kind: str = "cut") -> int:
        """Cut every wire now; how many there were."""
        victims = [wire for wire in self._wires if not wire.is_over]
        for wire in victims:
            self.count(kind)
            wire.cut()
        return len(victims)

    def half_open_all(self) -> int:
        """From now on nothing crosses; how many wires that concerned."""
        victims = [wire for wire in self._wires if not wire.is_over and not wire.is_dark]
        for wire in victims:
            self.count("half_open")
            wire.go_dark()
        return len(victims)

    async def heal(self) -> None:
        """No more faults of its own accord; heartbeats find what is dark. If cancelled: nothing has changed."""
        self.odds = dict.fromkeys(self.odds, 0.0)
        self.delay, self.stall = 0.0, 0.0
        await trio.lowlevel.checkpoint()
