"""Sweepers of one's own: they keep pace, fail alone, and are restarted and reported."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio

from agorio import Expectation, InvalidInput, NameTaken, NotFoundError
from tests.hub.network import converse, settle


async def test_a_chore_keeps_its_pace_however_long_it_takes(open_network: Any) -> None:
    times: list[float] = []

    async def chore() -> None:
        times.append(trio.current_time())
        await trio.sleep(0.4)

    async with open_network() as net:
        start = trio.current_time()
        net.hub.register_sweeper("chore", 1.0, chore)
        await trio.sleep(5.5)
        assert [round(at - start, 3) for at in times] == [1, 2, 3, 4, 5]
        assert "chore" in net.hub.health().sweepers
        await net.hub.unregister_sweeper("chore")
        await trio.sleep(5)
        assert len(times) == 5
        with pytest.raises(NotFoundError):
            await net.hub.unregister_sweeper("chore")


async def test_names_and_intervals_are_checked(open_network: Any) -> None:
    async def chore() -> None:
        return

    async with open_network() as net:
        for interval in (0, -1, float("nan")):
            with pytest.raises(InvalidInput, match="interval"):
                net.hub.register_sweeper("chore", interval, chore)
        net.hub.register_sweeper("chore", 1, chore)
        with pytest.raises(NameTaken):
            net.hub.register_sweeper("chore", 1, chore)


async def test_a_failing_chore_is_restarted_with_backoff_and_no_other_suffers(open_network: Any) -> None:
    bad: list[float] = []
    good: list[float] = []

    async def fails() -> None:
        bad.append(trio.current_time())
        raise OSError("the chore's own fault")

    async def works() -> None:
        good.append(trio.current_time())

    async with open_network() as net:
        net.hub.register_sweeper("bad", 1, fails)
        net.hub.register_sweeper("good", 1, works)
        await trio.sleep(60.5)
        assert len(good) == 60
        assert 3 < len(bad) < 10
        gaps = [after - before for before, after in pairwise(bad)]
        assert gaps == sorted(gaps)
        restarts = [record for record in await net.audit("actor_restarted") if record.actor.endswith("/bad")]
        assert len(restarts) == len(bad)


async def test_one_session_that_cannot_be_judged_keeps_no_other_waiting(open_network: Any) -> None:
    broken: set[str] = set()

    def sometimes(expectation: Any, activity: Any, setup: Any) -> Any:
        if setup.session_id in broken:
            raise RuntimeError("no judgement")
        return ()

    async with open_network(evaluators={"sometimes": sometimes}) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        expected = [
            Expectation("sometimes", params={"seconds": 30}),
            Expectation("max_silence", params={"seconds": 30}),
        ]
        sessions = [await converse(ann, bob, expectations=expected) for _ in range(4)]
        broken.add(sessions[0].session_id)
        await trio.sleep(45)
        fired = [record.session_id for record in await net.audit("expectation_violated")]
        assert sorted(fired) == sorted(session.session_id for session in sessions[1:])
        assert [record.actor for record in await net.audit("actor_restarted")] == ["hub/sweepers/expectations"]
        broken.clear()
        await trio.sleep(100)
        assert len(await net.audit("expectation_violated")) == 4


async def test_one_session_that_cannot_be_ended_keeps_no_other_from_ending(open_network: Any) -> None:
    async with open_network(ttl_sweep_interval=0) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        first, second = [await converse(ann, bob, ttl=60) for _ in range(2)]
        services = net.hub._open_services()
        cell = services.sessions.resident(first.session_id)
        assert cell is not None
        adapter, cell.adapter = cell.adapter, None
        whole, cell.tail = cell.tail, None
        await trio.sleep(61)
        with pytest.raises(ExceptionGroup, match="could not be ended"):
            await net.hub._ttl_tick()
        await settle()
        assert (await net.hub.get_session(second.session_id)).state == "expired"
        cell.adapter, cell.tail = adapter, whole
        await trio.sleep(61)
        await net.hub._ttl_tick()
        assert (await net.hub.get_session(first.session_id)).state == "expired"
