"""A network that can be broken: a TCP proxy between programs of agorio, with as many ways to fail as a real one."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import trio

RST = (1).to_bytes(4, sys.byteorder) + bytes(4)  # struct linger: on, for 0 s
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.define(eq=False)
class Proxy:
    """One stretch of network: it forwards to a port of this machine what arrives at its own."""

    target: int
    """The port behind it, which may be bound by one process after the other."""
    port: int = 0
    """Its own port."""
    delay: float = 0.0
    """Seconds by which everything is late."""
    total_connections: int = 0
    """Connections that it has forwarded."""
    total_stalled: int = 0
    """Pieces that have waited in it while it was stalled."""
    is_down: bool = False
    """Whether it resets whoever connects."""
    _flows: trio.Event = attrs.Factory(trio.Event)
    _pairs: list[tuple[trio.SocketStream, trio.SocketStream]] = attrs.Factory(list)

    @property
    def url(self) -> str:
        """Where a program reaches the hub through it."""
        return f"ws://127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Everything flows again, what was held back first."""
        self.is_down, self.delay = False, 0.0
        self._flows.set()

    def stall(self) -> None:
        """Accept everything and forward nothing: half-open, as when a cable is out and nobody has been told."""
        self._flows = trio.Event()

    async def cut(self) -> None:
        """Reset every connection; what was under way is lost. If cancelled: some are reset."""
        pairs, self._pairs = self._pairs, []
        for stream in (one for pair in pairs for one in pair):
            await reset(stream)

    async def forward(self, near: trio.SocketStream) -> None:
        """One connection, to its end. If cancelled: it is reset."""
        if self.is_down:
            await reset(near)
            return
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            await reset(near)
            return
        self.total_connections += 1
        pair = (near, far)
        self._pairs.append(pair)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, nursery.cancel_scope)
        finally:
            for stream in pair:
                await reset(stream)
            if pair in self._pairs:
                self._pairs.remove(pair)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(*GONE):
            while data := await source.receive_some(65536):
                if not self._flows.is_set():
                    self.total_stalled += 1
                    await self._flows.wait()
                if self.delay:
                    await trio.sleep(self.delay)
                await sink.send_all(data)
        scope.cancel()


async def reset(stream: trio.SocketStream) -> None:
    """End a connection without a word. If cancelled: ended all the same."""
    if stream.socket.fileno() != -1:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port while the block runs. If cancelled: every connection is reset."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(target)
        proxy.heal()
        (listener, *_) = await nursery.start(partial(trio.serve_tcp, proxy.forward, 0, host="127.0.0.1"))
        proxy.port = listener.socket.getsockname()[1]
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
