"""The tasks of one connection to a hub, as a child of the client's supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ...mailbox.errors import HubClosedError
from ..runtime.actor import Actor, Context
from .connection import Connection

if TYPE_CHECKING:
    from .hub_client import HubClient


class LinkActor(Actor):
    """Reads and writes one link until it ends."""

    def __init__(self, connection: Connection, hub_client: HubClient) -> None:
        self._connection = connection
        self._hub_client = hub_client

    async def on_start(self, ctx: Context) -> None:
        """Start reading. If cancelled: the connection is closed."""
        await trio.lowlevel.checkpoint()
        ctx.nursery.start_soon(self._connection.write)
        ctx.nursery.start_soon(self._connection.keep)
        ctx.nursery.start_soon(self._pump, ctx)

    async def _pump(self, ctx: Context) -> None:
        await self._connection.pump()
        ctx.stop()

    async def receive(self, message: Any, ctx: Context) -> None:
        """A link takes no mail. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()

    async def on_stop(self, ctx: Context, why: str) -> None:
        """Close the link. If cancelled: it is closed all the same."""
        if not self._hub_client.is_closing:
            self._connection.end(HubClosedError("the hub that ran this client has closed; open a new hub"))
        await self._connection.close()
