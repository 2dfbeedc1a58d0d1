"""A `Ref` to the actor of a registered agent, wherever it runs: the kernel's words over a link."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from ..runtime.ref import Ref
from ..sessions.operations import ActorAsk, ActorSend, ActorStoppedWait

if TYPE_CHECKING:
    from .hub_client import HubClient


@Ref.register
class RemoteRef:
    """The address of an agent by name: a `Ref` that knows no more of the actor than its name.

    Messages and replies are JSON values; rules and rates of the asker hold.

    `asker` is the registered agent in whose name it speaks.
    """

    __slots__ = ("_asker", "_client", "name")

    def __init__(self, client: HubClient, name: str, asker: str) -> None:
        self._client = client
        self._asker = asker
        self.name = name

    def __repr__(self) -> str:
        return f"<RemoteRef {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteRef) and (self._client, self.name) == (other._client, other.name)

    def __hash__(self) -> int:
        return hash((id(self._client), self.name))

    def tell(self, message: Any) -> None:
        """Tell the agent something and go on. What the hub refuses is logged here and a dead letter there."""
        self._client.connection.post_request(ActorSend(self._asker, self.name, message, wait=False))

    async def send(self, message: Any) -> None:
        """Tell the agent something, waiting for a free slot of its mailbox. Raises refusals.

        If cancelled: the message may have been put.
        """
        await self._client.connection.request(
            ActorSend(self._asker, self.name, message), is_bounded=False, is_queued=True
        )

    async def ask(self, message: Any) -> Any:
        """Ask the agent and return its reply; the deadline in force here bounds its handler too.

        Raises what it refuses with, `ActorCrashed` when it crashes or its link is lost, `ActorStopped`. If cancelled: a
        queued question is skipped, a running handler is cancelled.
        """
        left = trio.current_effective_deadline() - trio.current_time()
        timeout = None if left == math.inf else max(0.0, left)
        return await self._client.connection.request(
            ActorAsk(self._asker, self.name, message, timeout), is_bounded=False, is_queued=True
        )

    async def stopped(self) -> str:
        """Wait until the agent's actor has stopped for good; why it did. If cancelled: nothing has changed."""
        reason: str = await self._client.connection.request(
            ActorStoppedWait(self._asker, self.name), is_bounded=False, is_queued=True
        )
        return reason
