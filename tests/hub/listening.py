"""An agent in the hands of a test, on a bare link, in a conversation."""

from __future__ import annotations

from typing import Any

import trio

from agorio.actors.agents.session import Session
from agorio.actors.sessions.operations import Registered
from tests.hub.network import Network, Wire, settle


async def listening(net: Network, name: str = "bob", **options: Any) -> tuple[Wire, Registered, Session]:
    """A conversation of alice with an agent that the test plays frame by frame."""
    alice = await net.agent("alice")
    wire = await net.wire()
    bob = await wire.register(name, **options)
    opened: list[Session] = []

    async def open_it() -> None:
        opened.append(await alice.open(target=bob.agent_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        await wire.accept(bob)
    await settle()
    for frame in wire.notified(bob):
        await wire.ack(frame)
    await settle()
    return wire, bob, opened[0]


def heard(wire: Wire) -> list[tuple[str, int]]:
    return [(frame.envelope.text, frame.attempt) for frame in wire.notified(texts=True)]
