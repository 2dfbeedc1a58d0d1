"""Websockets over in-memory streams: everything but the sockets, under the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import memory_stream_pair

from agorio.actors.agents.websocket import WsLink
from agorio.actors.sessions.wire import WIRE
from agorio.transports.limits import Limits
from agorio.transports.link import LinkHost
from agorio.transports.websocket_server import WebsocketServer

URL = "ws://hub.test/"


class MemoryWsLink(WsLink):
    """A `WsLink` whose streams end in a server of this process. `cut` breaks those that are open."""

    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        super().__init__(URL, **options)
        self.server: WebsocketServer | None = None
        self.opened = 0
        self.mute_after: int | None = None
        self._nursery = nursery
        self._streams: list[Any] = []

    async def open_stream(self) -> trio.abc.Stream:
        """A fresh pair; without a server nobody listens."""
        await trio.lowlevel.checkpoint()
        if self.server is None:
            raise ConnectionRefusedError("nobody listens")
        near, far = memory_stream_pair()
        self._streams.append((near, far))
        if self.mute_after is not None:
            far.send_stream.send_all_hook = _Mute(self.mute_after, far.send_stream.send_all_hook)
        self.opened += 1
        self._nursery.start_soon(self.server.handle, far)
        return near

    async def cut(self) -> None:
        """Break every open connection, as a network does: without a word."""
        streams, self._streams = self._streams, []
        for near, far in streams:
            await trio.aclose_forcefully(near)
            await trio.aclose_forcefully(far)

    def freeze(self) -> None:
        """Nothing crosses any more, and nobody is told: a half-open peer."""
        for near, far in self._streams:
            for stream in (near, far):
                stream.send_stream.send_all_hook = trio.sleep_forever

    def freeze_answers(self) -> None:
        """What the hub says on open connections does not arrive any more."""
        for _, far in self._streams:
            far.send_stream.send_all_hook = trio.sleep_forever


class _Mute:
    """Lets so many writes pass; what is said after them does not arrive."""

    def __init__(self, left: int, carry: Any) -> None:
        self._left = left
        self._carry = carry

    async def __call__(self) -> None:
        self._left -= 1
        if self._left < 0:
            await trio.sleep_forever()
        await self._carry()


@asynccontextmanager
async def open_memory_link(
    hub: LinkHost, *, limits: Limits | None = None, **options: Any
) -> AsyncIterator[MemoryWsLink]:
    """A server on `hub` and a link to it."""
    async with trio.open_nursery() as nursery:
        link = MemoryWsLink(nursery, **options)
        server = link.server = WebsocketServer(hub, WIRE, limits or Limits(), ())
        try:
            yield link
        finally:
            await server.drain()
            nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait, in virtual time, until the condition holds."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)
