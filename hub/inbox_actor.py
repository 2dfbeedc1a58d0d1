"""The actor of a registered agent, as the hub's supervision tree shows it.

A handler that crashes is that agent's affair: its actor rests and starts again; no number of crashes escalates. Were
they counted together, the crashes of a few would take down everybody's connections.
"""

from __future__ import annotations

from typing import Any

import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.child import Backoff, Child
from ..mailbox.errors import Refuse
from .inbox import Inbox

REST = Backoff(min=0.01, max=1.0)


def inbox_child(name: str, inbox: Inbox) -> Child:
    """The spec of an agent's actor."""
    return Child(name, lambda: InboxActor(inbox), grace=0.5, backoff=REST, max_restarts=1_000_000)


class InboxActor(Actor):
    """A registered agent as the hub's supervision tree shows it.

    It runs the timers of its inbox, and what is told or asked of its `Ref` it puts to the agent over the link, one
    message at a time.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def on_start(self, ctx: Context) -> None:
        """Take the timers over; a backoff that was running when the last incarnation ended is over now.

        If cancelled: the next incarnation takes over.
        """
        nursery = ctx.nursery
        self._inbox.wake = lambda delay: nursery.start_soon(self._tick_in, delay)
        self._inbox.tick()

    async def on_stop(self, ctx: Context, why: str) -> None:
        """Leave the timers to the next incarnation, which comes after a rest. If cancelled: they are left."""
        self._inbox.wake = None

    async def _tick_in(self, delay: float) -> None:
        await trio.sleep(delay)
        self._inbox.tick()

    async def receive(self, message: Any, ctx: Context) -> Any:
        """Put a message to the agent and return its reply.

        If cancelled: the agent's handler is cancelled too, without a restart.
        """
        connection = self._inbox.connection
        if connection is None:
            raise Refuse(f"agent {self._inbox.mailbox.name!r} is not connected; its sessions' mail waits for it")
        if self._inbox.is_parked:
            raise Refuse(f"agent {self._inbox.mailbox.name!r} is parked; the hub's operator has to resume it")
        return await connection.call(self._inbox.agent_id, message)
