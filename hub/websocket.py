"""`serve_ws`: a hub on a network."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from ipaddress import ip_address
from typing import Any

from ..actors.sessions.wire import WIRE
from ..mailbox.errors import AuthError
from ..transports.limits import Limits
from ..transports.websocket_server import WebsocketServer, serve_links
from .hub import Hub


def serve_ws(
    hub: Hub,
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    ssl_context: ssl.SSLContext | None = None,
    allow_unauthenticated: bool = False,
    limits: Limits | None = None,
    origins: Collection[str] = (),
) -> AbstractAsyncContextManager[WebsocketServer]:
    """Serve agents in other processes: `async with serve_ws(hub, host, port) as server`, bound to `server.port`.

    `origins` are the web pages whose browsers may connect; other programs send no origin. A hub that admits agents
    without proof (`NoAuth`) is served on this machine only, unless `allow_unauthenticated` says otherwise: `AuthError`.
    If cancelled: every connection is cut.
    """
    is_open = "" in hub.auth_schemes and not allow_unauthenticated
    check = partial(_check_loopback, "" if host is None else host) if is_open else _anything
    return serve_links(
        hub, WIRE, host, port, ssl_context=ssl_context, limits=limits, origins=origins, check_bound=check
    )


def _anything(addresses: Sequence[Any]) -> None:
    """Every address will do."""


def _check_loopback(host: str, addresses: Sequence[Any]) -> None:
    if not all(ip_address(address[0].partition("%")[0]).is_loopback for address in addresses):
        raise AuthError(
            f"this hub admits agents without proof (NoAuth), and {host or 'every interface'} can be reached from other "
            "machines: open it with an auth registry without NoAuth, bind 127.0.0.1, or pass allow_unauthenticated=True"
        )
