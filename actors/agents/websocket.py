"""`WsLink`: the agents' side of a hub on a network."""

from __future__ import annotations

import ssl

from ...transports.limits import Limits
from ...transports.reconnect import RECONNECT, Reconnect
from ...transports.websocket_client import CLIENT_LIMITS, WebsocketLink
from ..sessions.wire import WIRE


class WsLink(WebsocketLink):
    """A link to a hub served by `serve_ws`: `async with HubClient(WsLink("ws://127.0.0.1:8765")) as hc`.

    `reconnect` says when a lost connection is tried again; None ends the client with its first connection. `headers` go
    with the websocket handshake, for what stands in front of the hub.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        reconnect: Reconnect | None = RECONNECT,
        limits: Limits = CLIENT_LIMITS,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(url, WIRE, ssl_context=ssl_context, limits=limits, headers=headers, reconnect=reconnect)
