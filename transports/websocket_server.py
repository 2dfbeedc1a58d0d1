"""Serves a hub over websockets. Nothing that happens on one connection reaches the listener or another connection.

The library's own server ends as a whole on one malformed handshake, on a port probe, or on an exception in a handler.
So every connection is accepted here and runs behind a guard of its own: admission first, then the handshake under a
deadline, then the frames; whatever it raises is counted and logged, and ends that connection only.
"""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from ..mailbox.errors import HubClosedError
from .codec import Codec, Records
from .frames import Frame, WelcomeFrame
from .guarded_stream import READ_BYTES, GuardedStream
from .limits import Limits
from .link import LinkHost
from .metering import POLICY
from .websocket import GOING_AWAY, SUBPROTOCOL, WebsocketEnd

TRY_LATER: Final = 1013

_log = logging.getLogger("agorio.transports")


@attrs.frozen
class ServerStatistics:
    """What a server has seen."""

    current_connections: int
    """Connections that are open, those that shake hands included."""
    total_connections: int
    """Connections that got as far as a link."""
    total_turned_away: int
    """Connections refused for their number before anything was read."""
    total_refused: int
    """Handshakes refused: foreign origin, other protocol, too slow, malformed."""
    total_faults: int
    """Connections that ended in an exception, malformed handshakes among them."""


class WebsocketEndpoint(WebsocketEnd):
    """The hub's end of a link."""

    kind = "websocket"

    def __init__(self, ws: WebSocketConnection, stream: GuardedStream, codec: Codec, limits: Limits) -> None:
        super().__init__(ws, stream, codec, limits)
        self._identities = 0
        self._greeted = trio.Event()

    def send_nowait(self, frame: Frame) -> None:
        """Queue one frame, in order. Raises `LinkClosed`, also when the peer reads too slowly, and `BadFrame`."""
        if type(frame) is WelcomeFrame:
            self._greeted.set()
            told = {"max_message": self._limits.max_message, "max_frames": self._limits.max_frames}
            frame = attrs.evolve(frame, limits={**frame.limits, **told})
        super().send_nowait(frame)

    def note_identities(self, count: int) -> None:
        """How many identities act over it now; one without any is closed when idle."""
        self._identities = count

    async def watch(self) -> None:
        """Keep the deadlines of the greeting, of silence and of idleness. If cancelled: nobody watches any more."""
        limits = self._limits
        with trio.move_on_after(limits.hello_timeout):
            await self._greeted.wait()
        if not self._greeted.is_set():
            self.close_nowait(f"no greeting within {limits.hello_timeout:g} s", POLICY)
        await self.beat(lambda quiet: not self._identities and quiet >= limits.idle_timeout)


class WebsocketServer:
    """A listening server; `serve_links` makes it."""

    def __init__(self, host: LinkHost, records: Records, limits: Limits, origins: Collection[str]) -> None:
        self._host = host
        self._codec = Codec(records, limits)
        self._limits = limits
        self._origins = frozenset(origins)
        self._peers: Counter[str] = Counter()
        self._endpoints: set[WebsocketEndpoint] = set()
        self._is_closing = False
        self._all_gone = trio.Event()
        self._connections = self._turned_away = self._refused = self._faults = 0
        self.addresses: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"<WebsocketServer on {self.addresses}, {self._peers.total()} connections>"

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        port: int = self.addresses[0][1]
        return port

    def statistics(self) -> ServerStatistics:
        """What it has seen."""
        return ServerStatistics(self._peers.total(), self._connections, self._turned_away, self._refused, self._faults)

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end; never raises for what the peer does. If cancelled: it is cut."""
        peer = _peer_of(stream)
        if not self._has_room(peer):
            self._turned_away += 1
            await trio.aclose_forcefully(stream)
            return
        self._peers[peer] += 1
        try:
            await self._serve(GuardedStream(stream, self._limits), stream)
        except Exception as exc:  # the guard: a group of ordinary exceptions is one as well
            self._faults += 1
            _log.info("a connection from %s ended: %s", peer, _named(exc))
        finally:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
            if not self._peers:
                self._all_gone.set()
            await trio.aclose_forcefully(stream)

    def _has_room(self, peer: str) -> bool:
        limits = self._limits
        if self._is_closing or self._peers.total() >= limits.max_connections:
            return False
        return self._peers[peer] < limits.max_per_peer

    async def _serve(self, guarded: GuardedStream, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            try:
                ws = await self._shake_hands(nursery, guarded, stream)
                if ws is None:
                    self._refused += 1
                else:
                    await self._run(nursery, WebsocketEndpoint(ws, guarded, self._codec, self._limits))
            finally:
                nursery.cancel_scope.cancel()

    async def _shake_hands(
        self, nursery: trio.Nursery, guarded: GuardedStream, stream: trio.abc.Stream
    ) -> WebSocketConnection | None:
        """The open websocket, or None where the peer is too slow, has gone, or is refused."""
        limits = self._limits
        with trio.move_on_after(limits.handshake_timeout) as scope:
            if isinstance(stream, trio.SSLStream):
                await stream.do_handshake()
            nursery.start_soon(_cancel_at_end, guarded, scope)
            request = await wrap_server_stream(
                nursery, guarded, max_message_size=limits.max_message, receive_buffer_size=READ_BYTES
            )
            refusal = self._refusal(request)
            if refusal is None:
                return await request.accept(subprotocol=SUBPROTOCOL)
            status, body = refusal
            await request.reject(status, body=body.encode())
        return None

    def _refusal(self, request: WebSocketRequest) -> tuple[int, str] | None:
        for name, value in request.headers:
            if name.lower() == b"origin" and value.decode("latin-1") not in self._origins:
                return 403, "this origin is not on the hub's list\n"
        if SUBPROTOCOL not in request.proposed_subprotocols:
            return 400, f"this hub speaks the websocket subprotocol {SUBPROTOCOL}\n"
        return None

    async def _run(self, nursery: trio.Nursery, endpoint: WebsocketEndpoint) -> None:
        try:
            self._host.accept_link(endpoint)
        except HubClosedError:
            endpoint.close_nowait("the hub is closed", TRY_LATER)
        self._connections += 1
        self._endpoints.add(endpoint)
        try:
            nursery.start_soon(endpoint.watch)
            await endpoint.write()
        finally:
            self._endpoints.discard(endpoint)
            endpoint.close_nowait("the connection has ended", drop=True)

    async def drain(self) -> None:
        """Take nobody in any more and say goodbye to everybody. If cancelled: those who are left are cut."""
        self._is_closing = True
        for endpoint in tuple(self._endpoints):
            endpoint.close_nowait("the server is closing", GOING_AWAY)
        if self._peers:
            self._all_gone = trio.Event()
            with trio.move_on_after(self._limits.close_timeout):
                await self._all_gone.wait()


async def _cancel_at_end(stream: GuardedStream, scope: trio.CancelScope) -> None:
    """A peer that has gone leaves no handshake waiting."""
    await stream.ended.wait()
    scope.cancel()


def _peer_of(stream: trio.abc.Stream) -> str:
    """The peer's address without its port; streams within one process have none."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(transport, trio.SocketStream):
        return "memory"
    try:
        return str(transport.socket.getpeername()[0])
    except OSError:
        return "gone"


def _named(exc: BaseException) -> str:
    """The classes of an exception; what a peer sent is not repeated in a log."""
    if isinstance(exc, BaseExceptionGroup):
        return ", ".join(_named(one) for one in exc.exceptions)
    return type(exc).__name__


Check = Callable[[Sequence[Any]], None]


@asynccontextmanager
async def serve_links(
    hub: LinkHost,
    records: Records,
    host: str | None,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    origins: Collection[str] = (),
    check_bound: Check = lambda addresses: None,
) -> AsyncIterator[WebsocketServer]:
    """Serve `hub` on an address while the block runs; port 0 takes a free one, see `server.port`.

    `check_bound` is shown the bound addresses before anybody is let in and may raise. If cancelled: everybody is cut.
    """
    server = WebsocketServer(hub, records, limits or Limits(), origins)
    listeners = await trio.open_tcp_listeners(port, host=host)
    try:
        server.addresses = tuple(one.socket.getsockname() for one in listeners)
        check_bound(server.addresses)
    except BaseException:
        for one in listeners:
            await trio.aclose_forcefully(one)
        raise
    async with _nursery() as nursery:
        accepting = trio.CancelScope()
        nursery.start_soon(_accept, accepting, server, _secured(listeners, ssl_context), nursery)
        try:
            yield server
        finally:
            accepting.cancel()
            await server.drain()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks never fail, so that an exception of the block comes out as it is and not in a group."""
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as exc:
                raised = exc
                raise
    except BaseExceptionGroup as group:
        if raised is not None and group.exceptions == (raised,):
            raise raised from raised.__cause__
        raise


def _secured(listeners: list[trio.SocketListener], context: ssl.SSLContext | None) -> list[Any]:
    if context is None:
        return list(listeners)
    return [trio.SSLListener(one, context, https_compatible=True) for one in listeners]


async def _accept(
    scope: trio.CancelScope, server: WebsocketServer, listeners: list[Any], nursery: trio.Nursery
) -> None:
    with scope:
        await trio.serve_listeners(server.handle, listeners, handler_nursery=nursery)
