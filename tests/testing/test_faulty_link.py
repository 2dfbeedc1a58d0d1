"""`FaultyLink`, fault by fault, over the local link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from agorio import (
    Hub,
    HubClient,
    LinkChange,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    PingFrame,
    PongFrame,
    Reconnect,
)
from agorio.mailbox.errors import LinkClosed
from agorio.testing import EchoAgent, FaultyLink, check_link
from agorio.testing.link_check import LinkProbe
from agorio.transports.frames import Frame
from agorio.transports.link import Link


class Pair:
    """Both ends of a faulty local link."""

    def __init__(self, **faults: Any) -> None:
        self.host = LinkProbe()
        self.link = FaultyLink(LocalLink(self.host), **faults)
        self.client = self.link.client()
        self.heard: list[Frame] = []
        self.arrived: list[Frame] = []

    async def listen(self) -> None:
        self.heard += [frame async for frame in self.client.frames()]

    async def serve(self) -> None:
        self.arrived += [frame async for frame in self.host.endpoints[0].frames()]

    async def say(self, count: int) -> int:
        """Send so many pings; how many were sent before the link broke."""
        for number in range(count):
            try:
                await self.client.send_frame(PingFrame(number))
            except LinkClosed:
                return number
        return count


@asynccontextmanager
async def pair(**faults: Any) -> AsyncIterator[Pair]:
    one = Pair(**faults)
    await one.client.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.listen)
        nursery.start_soon(one.serve)
        await trio.testing.wait_all_tasks_blocked()
        yield one
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def numbers(frames: list[Frame]) -> list[int]:
    return [frame.nonce for frame in frames if isinstance(frame, PingFrame | PongFrame)]


@asynccontextmanager
async def faultless(host: Any) -> AsyncIterator[Link]:
    yield FaultyLink(LocalLink(host))


async def test_without_faults_it_keeps_the_promises_of_a_link() -> None:
    await check_link(faultless)


async def test_a_delayed_link_keeps_its_order() -> None:
    async with pair(delay=(0.5, 2.0), seed=3) as two:
        await two.say(10)
        assert numbers(two.arrived) == []
        for number in range(5):
            two.host.endpoints[0].send_nowait(PongFrame(number))
        assert 5 < trio.current_time() < 20
        two.host.endpoints[0].close_nowait()
        await trio.sleep(20)
        assert numbers(two.arrived) == list(range(10))
        assert numbers(two.heard) == list(range(5))


async def test_a_stall_takes_longer_than_a_delay() -> None:
    async with pair(stall=1.0, stall_seconds=7.0) as two:
        await two.say(2)
        assert (trio.current_time(), two.link.injected["stall"]) == (14.0, 2)


async def test_a_slow_reader_is_read_slowly() -> None:
    async with pair(slow_reader=3.0) as two:
        for number in range(4):
            two.host.endpoints[0].send_nowait(PongFrame(number))
        two.host.endpoints[0].close_nowait()
        await trio.sleep(11)
        assert not two.client.is_over
        await trio.sleep(2)
        assert (numbers(two.heard), two.link.injected["slow_reader"]) == ([0, 1, 2, 3], 4)


@pytest.mark.parametrize("kind", ["drop", "duplicate", "reorder", "cut"])
async def test_what_a_transport_notices_ends_in_a_cut(kind: str) -> None:
    async with pair(**{kind: 1.0}) as two:
        assert await two.say(1) == 0
        with pytest.raises(LinkClosed, match=kind):
            await two.client.send_frame(PingFrame())
        await trio.testing.wait_all_tasks_blocked()
        assert (numbers(two.arrived), two.link.injected) == ([], {kind: 1})
        with pytest.raises(LinkClosed):
            two.host.endpoints[0].send_nowait(PongFrame())


@pytest.mark.parametrize(("kind", "arrived"), [("drop", []), ("duplicate", [0, 0, 1, 1, 2, 2]), ("reorder", [1, 0, 2])])
async def test_datagrams_are_lost_doubled_and_reordered(kind: str, arrived: list[int]) -> None:
    async with pair(**{kind: 1.0}, datagram=True) as two:
        if kind == "reorder":
            await two.say(1)
            two.link.odds["reorder"] = 0.0
            for number in (1, 2):
                await two.client.send_frame(PingFrame(number))
        else:
            await two.say(3)
        two.host.endpoints[0].close_nowait()
        await trio.testing.wait_all_tasks_blocked()
        assert numbers(two.arrived) == arrived
        assert set(two.link.injected) == {kind}


async def test_a_cut_on_the_way_in_ends_the_client() -> None:
    async with pair() as two:
        two.link.odds["cut"] = 1.0
        two.host.endpoints[0].send_nowait(PongFrame(1))
        await two.client.wait_ended()
        await trio.testing.wait_all_tasks_blocked()
        assert (two.heard, two.client.is_open) == ([], False)


async def test_a_cut_at_a_certain_frame() -> None:
    async with pair(cut_at=3) as two:
        assert await two.say(5) == 2
        await trio.testing.wait_all_tasks_blocked()
        assert numbers(two.arrived) == [0, 1]


async def test_nothing_crosses_a_half_open_link_and_nobody_is_told() -> None:
    async with pair() as two:
        assert two.link.half_open_all() == 1
        assert await two.say(3) == 3
        two.host.endpoints[0].send_nowait(PongFrame(1))
        await trio.sleep(3600)
        assert (two.arrived, two.heard, two.client.is_open) == ([], [], True)
        await two.client.close()
        two.host.endpoints[0].send_nowait(PongFrame(2))
        await two.link.heal()
        with pytest.raises(LinkClosed):
            two.host.endpoints[0].send_nowait(PongFrame(3))


async def test_half_open_by_chance() -> None:
    async with pair(half_open=1.0) as two:
        assert await two.say(2) == 2
        assert two.link.injected == {"half_open": 1}
        assert two.link.half_open_all() == 0


async def test_taps_see_what_passes_and_what_goes_wrong() -> None:
    passed: list[tuple[str, Frame]] = []
    faults: list[str] = []
    async with pair(tap=lambda way, frame: passed.append((way, frame)), on_fault=faults.append) as two:
        await two.say(1)
        two.host.endpoints[0].send_nowait(PongFrame(7))
        await trio.testing.wait_all_tasks_blocked()
        assert two.link.cut_all() == 1
        assert two.link.cut_all() == 0
        assert (passed, faults) == ([("out", PingFrame(0)), ("in", PongFrame(7))], ["cut"])


async def fates(seed: int) -> list[int]:
    counts = []
    for number in range(10):
        async with pair(seed=f"{seed}/{number}", cut=0.1, half_open=0.05, delay=(0.0, 1.0)) as two:
            counts.append(await two.say(30))
            counts.append(round(trio.current_time() * 1e6))
    return counts


async def test_a_seed_means_the_same_faults() -> None:
    start = trio.current_time()
    first = await fates(1)
    passed = trio.current_time() - start
    again = await fates(1)
    assert first[::2] == again[::2]
    assert trio.current_time() - start == pytest.approx(2 * passed)
    assert first[::2] != (await fates(2))[::2]


async def test_a_client_makes_the_cuts_good() -> None:
    changes: list[LinkChange] = []
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        link = FaultyLink(LocalLink(hub), seed=5, delay=(0.0, 0.2), reconnect=Reconnect())
        async with HubClient(link, on_link=changes.append) as hc:
            echo = EchoAgent()
            await hc.register(echo)
            ann = await hc.register(None, Passport("ann"), attach_plugin=False)
            session = await ann.open("conversation", "echo")
            link.odds["cut"] = 0.05
            for number in range(20):
                assert (await session.ask(str(number))).text == str(number)
            await link.heal()
            said = [e.text for e in await hub.read_wal(session.session_id) if e.sender_id == ann.agent_id and e.text]
        assert said == [str(number) for number in range(20)]
        assert link.injected["cut"] > 3
        assert sum(change.is_connected for change in changes) > 3
