"""The agents' end of a link over a websocket."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import attrs
import trio
from trio_websocket import ConnectionRejected, HandshakeError, wrap_client_stream

from ..mailbox.errors import InvalidInput, LinkClosed, LinkError
from .codec import Codec, Records
from .frames import ErrorFrame, Frame, WelcomeFrame
from .guarded_stream import READ_BYTES, GuardedStream
from .limits import MIB, Limits
from .reconnect import RECONNECT, Reconnect
from .websocket import SUBPROTOCOL, WebsocketEnd

HIGH_WATER: Final = MIB
PORTS: Final = {"ws": 80, "wss": 443}
# What a hub sends may be larger than what it takes: it adds its stamps.
CLIENT_LIMITS: Final = Limits(max_message=4 * MIB, max_outgoing=MIB, messages_per_second=1e6, bytes_per_second=1e12)


class WebsocketLinkClient:
    """One connection. It runs in a task of its own from `open` to `close`.

    A link is opened and closed by calls, not as a block, so its task cannot belong to a nursery of the caller's. It is
    a system task of trio's that lets nothing out, ends with `close`, and at the latest with the program's main task.
    """

    def __init__(self, link: WebsocketLink) -> None:
        self._link = link
        self._limits = link.limits
        self._scope = trio.CancelScope()
        self._opened = trio.Event()
        self._ended = trio.Event()
        self._end: _ClientEnd | None = None
        self._fault: LinkError | None = None
        self._is_started = False

    async def open(self) -> None:
        """Connect. Raises `LinkError` when the hub cannot be reached. If cancelled: not connected."""
        await trio.lowlevel.checkpoint()
        if self._is_started:
            if self._end is None or self._end.outflow.is_closed:
                raise LinkClosed("this link was closed; make another with link.client()")
            return
        self._is_started = True
        trio.lowlevel.spawn_system_task(self._run, name=f"websocket link to {self._link.url}")
        try:
            await self._opened.wait()
        finally:
            if self._end is None:
                await self.close()
        if self._fault is not None:
            raise self._fault

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._connected()
        except Exception as exc:  # a system task must let nothing out: it would take the whole program with it
            self._fault = _link_error(_first(exc), self._link)
        finally:
            if self._end is not None:
                self._end.close_nowait("the link has ended", drop=True)
            self._opened.set()
            self._ended.set()

    async def _connected(self) -> None:
        stream: trio.abc.Stream | None = None
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(self._limits.handshake_timeout) as scope:
                    stream = await self._link.open_stream()
                    guarded = GuardedStream(stream, self._limits)
                    nursery.start_soon(_cancel_at_end, guarded, scope)
                    end = await self._shake_hands(nursery, guarded)
                self._end = end
                self._opened.set()
                nursery.start_soon(end.beat)
                await end.write()
                nursery.cancel_scope.cancel()
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    async def _shake_hands(self, nursery: trio.Nursery, guarded: GuardedStream) -> _ClientEnd:
        link = self._link
        stream: Any = guarded  # the library asks for a socket and needs only a stream
        ws = await wrap_client_stream(
            nursery,
            stream,
            link.host_header,
            link.resource,
            subprotocols=[SUBPROTOCOL],
            extra_headers=list(link.headers),
            max_message_size=self._limits.max_message,
            receive_buffer_size=READ_BYTES,
        )
        if ws.subprotocol != SUBPROTOCOL:
            raise LinkError(f"{link.url} speaks websocket, but not the subprotocol {SUBPROTOCOL}; is it a hub?")
        return _ClientEnd(ws, guarded, Codec(link.records, self._limits), self._limits)

    async def send_frame(self, frame: Frame) -> None:
        """Send one frame, in order; waits while a mebibyte is on its way. Raises `LinkClosed`.

        If cancelled: the frame was not sent.
        """
        end = self._opened_end()
        await trio.lowlevel.checkpoint_if_cancelled()
        if end.outflow.queued > HIGH_WATER:
            await end.outflow.wait_room(HIGH_WATER)
        end.send_nowait(frame)

    def frames(self) -> _ClientEnd:
        """The frames that arrive, until the link closes. One reader at a time."""
        return self._opened_end()

    def _opened_end(self) -> _ClientEnd:
        if self._end is None:
            raise LinkClosed("the link is not open; await link.open() first")
        return self._end

    async def close(self) -> None:
        """Close both directions; closing again does nothing. If cancelled: closed all the same."""
        if not self._is_started:
            self._is_started = True
            await trio.lowlevel.checkpoint()
            return
        if self._end is not None:
            self._end.close_nowait("the client is closing")
            with trio.move_on_after(self._limits.close_timeout):
                await self._ended.wait()
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        await trio.lowlevel.checkpoint()


class _ClientEnd(WebsocketEnd):
    """The agents' end: it learns the hub's limits, and its last frame says why the link has ended."""

    _is_told = False
    _is_welcome = False

    def _last_word(self) -> Frame:
        if self._is_told or not self.close_reason:
            raise StopAsyncIteration
        self._is_told = True
        return ErrorFrame(LinkClosed.code, f"the link to the hub has ended: {self.close_reason}")

    def _take_in(self, message: str | bytes) -> None:
        super()._take_in(message)
        if not self._is_welcome:
            for frame in self._batch:
                if type(frame) is WelcomeFrame:
                    self._is_welcome = True
                    self._learn(frame)

    def _learn(self, welcome: WelcomeFrame) -> None:
        most = welcome.limits.get("max_message")
        if isinstance(most, int) and 0 < most < self._limits.max_outgoing:
            self._limits = attrs.evolve(self._limits, max_outgoing=most)
            self._codec = self._codec.within(self._limits)


class WebsocketLink:
    """A transport factory bound to an address. `WsLink` is this with the records of agorio's own operations."""

    def __init__(
        self,
        url: str,
        records: Records,
        *,
        ssl_context: ssl.SSLContext | None = None,
        limits: Limits = CLIENT_LIMITS,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        reconnect: Reconnect | None = RECONNECT,
    ) -> None:
        self.url = url
        self._parts = _split(url)
        self.records = records
        self.limits = limits
        self.headers = headers
        self.reconnect = reconnect
        self._ssl = (ssl_context or ssl.create_default_context()) if self._parts.scheme == "wss" else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def resource(self) -> str:
        """Path and query."""
        path = self._parts.path or "/"
        return f"{path}?{self._parts.query}" if self._parts.query else path

    @property
    def host_header(self) -> str:
        """The host as HTTP names it."""
        return self._parts.netloc.rpartition("@")[2]

    def client(self) -> WebsocketLinkClient:
        """A fresh, unopened connection."""
        return WebsocketLinkClient(self)

    async def open_stream(self) -> trio.abc.Stream:
        """The byte stream to the hub, TLS included. If cancelled: not connected."""
        host, port = self._parts.hostname or "", self._parts.port or PORTS[self._parts.scheme]
        if self._ssl is None:
            return await trio.open_tcp_stream(host, port)
        stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=self._ssl, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


async def _cancel_at_end(stream: GuardedStream, scope: trio.CancelScope) -> None:
    """Whoever hangs up during the handshake leaves nobody waiting."""
    await stream.ended.wait()
    scope.cancel()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError) as exc:
        raise InvalidInput(f"url={url!r} is no address: {exc}", field="url") from exc
    if not usable:
        raise InvalidInput(f"url={url!r} must be ws://host:port or wss://host:port", field="url")
    return parts


def _first(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def _link_error(exc: BaseException, link: WebsocketLink) -> LinkError:
    if isinstance(exc, LinkError):
        return exc
    if isinstance(exc, trio.TooSlowError):
        return LinkError(f"{link.url} cannot be reached: it hung up, or took over {link.limits.handshake_timeout:g} s")
    if isinstance(exc, ConnectionRejected):
        body = (exc.body or b"").decode(errors="replace").strip()[:200] or "no reason given"
        return LinkError(f"{link.url} refuses the connection ({exc.status_code}): {body}", status=exc.status_code)
    if isinstance(exc, OSError | trio.BrokenResourceError | HandshakeError):
        # A stream that TLS has refused says nothing itself; its cause says which certificate and why.
        return LinkError(f"{link.url} cannot be reached: {str(exc) or exc.__cause__ or type(exc).__name__}")
    return LinkError(f"the link to {link.url} has failed: {exc!r}")
