"""Where the tasks of a client run: in the nursery of a hub in the same process, or in the client's own block."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

from ...transports.link import Link, LinkClient
from ...transports.local import LocalLink
from ..runtime.child import Child, Group
from ..runtime.opening import open_supervisor
from ..runtime.supervisor import Supervisor


class ClientHost(Protocol):
    """What a client needs of a hub in the same process: a nursery."""

    def host_client(self, child: Group, /) -> Supervisor:
        """Start the client's group in the hub's nursery."""

    async def stop_client(self, name: str, /) -> Any:
        """Stop it again. If cancelled: it goes on stopping."""


def host_of(link: Link | LinkClient) -> ClientHost | None:
    """The hub that a link knows: a local one need not be named twice."""
    hub = link.hub if isinstance(link, LocalLink) else None
    return cast("ClientHost", hub) if hasattr(hub, "host_client") else None


async def start_group(name: str, link: Child, hub: ClientHost | None, stack: AsyncExitStack | None) -> Supervisor:
    """Start a client's group in its own block, where it has one, else at the hub. If cancelled: it is not running."""
    if stack is not None:
        return await stack.enter_async_context(open_supervisor([link], name=name))
    assert hub is not None, "a client without a block has a hub"
    return hub.host_client(Group(name, [link], restart="temporary"))


async def stop_group(name: str, group: Supervisor, hub: ClientHost | None) -> None:
    """Stop a client's group and wait until it is gone. If cancelled: it goes on stopping."""
    if hub is not None:
        await hub.stop_client(name)
    else:
        group.close_soon()
        await group.wait_stopped()
