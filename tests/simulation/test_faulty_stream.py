"""Wires: what happens to bytes on them, and that a client over them makes its connections good."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from agorio.actors.agents.hub_client import HubClient
from agorio.actors.sessions.identity import Passport
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.testing import World, simulate
from agorio.testing.faulty_stream import FaultyWire, open_server


def wire(far: list[Any], **options: Any) -> FaultyWire:
    return FaultyWire(far.append, rng=random.Random(4), **options)


async def read_all(stream: trio.abc.Stream) -> bytes:
    read = b""
    with trio.move_on_after(10):
        while data := await stream.receive_some():
            read += data
    return read


async def test_bytes_arrive_whole_and_in_pieces() -> None:
    far: list[Any] = []
    near = wire(far).connect()
    await near.send_all(b"x" * 5000)
    await near.aclose()
    assert await read_all(far[0]) == b"x" * 5000
    with pytest.raises(trio.BrokenResourceError):
        await far[0].send_all(b"too late")
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"too late")


async def test_a_torn_write_leaves_some_of_its_bytes() -> None:
    far: list[Any] = []
    link = wire(far, torn=1.0)
    near = link.connect()
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"0123456789" * 20)
    assert link.injected == {"torn_frame": 1}
    with pytest.raises(trio.BrokenResourceError):
        await read_all(far[0])
    with pytest.raises(trio.BrokenResourceError):
        await far[0].send_all(b"an answer")


async def test_a_dark_wire_tells_nobody() -> None:
    far: list[Any] = []
    link = wire(far)
    near = link.connect()
    assert link.half_open_all() == 1
    await near.send_all(b"lost")
    await near.aclose()
    assert await read_all(far[0]) == b""
    await far[0].send_all(b"lost as well")
    assert link.half_open_all() == 0


async def test_a_lost_connection_is_made_good() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, trio.open_nursery() as nursery:
        server = open_server(hub)
        link = FaultyWire(lambda stream: nursery.start_soon(server.handle, stream), rng=random.Random(1))
        async with HubClient(link) as client:
            ann = await client.register(None, Passport("ann"), attach_plugin=False)
            for disturb in (link.cut_all, link.half_open_all):
                assert disturb() == 1
                await trio.sleep(20)
                assert client.is_connected
                assert [info.agent_id for info in await client.list_agents()] == [ann.agent_id]
        assert link.injected == {"cut": 1, "half_open": 1}
        assert server.statistics().total_connections == 3
        nursery.cancel_scope.cancel()


async def over_wires(world: World) -> None:
    """Three friends on websockets."""
    for name in ("ann", "bob", "cleo"):
        world.add(name, wire=True)
    ann = world.members["ann"]
    for _ in range(8):
        session = await ann.open("consulting", "bob")
        if session is not None:
            await ann.say(session, "ask")
        await trio.sleep(2)


def test_websockets_repeat_as_well() -> None:
    outcomes = [simulate(over_wires, seed).check() for seed in range(4)]
    assert [simulate(over_wires, seed).digest for seed in range(4)] == [outcome.digest for outcome in outcomes]
    assert sum(outcome.reached["wire_connection"] for outcome in outcomes) > 3 * len(outcomes)
    assert any("torn_frame" in outcome.faults for outcome in outcomes)
