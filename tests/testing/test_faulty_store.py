"""`FaultyStore`, fault by fault: what was acknowledged is there, what was refused is not."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from agorio import Append, DiskKnowledgeStore, KnowledgeStore, MemoryKnowledgeStore, Passport, Put, StoreError
from agorio.testing import EchoAgent, FaultyStore, check_store, open_test_hub


async def opened(store: FaultyStore) -> FaultyStore:
    await store.open()
    return store


async def count(store: KnowledgeStore) -> int:
    return await store.last("log")


async def write(store: KnowledgeStore, number: int) -> bool:
    try:
        await store.commit([Append("log", (b"%d" % number,)), Put(f"key/{number}", b"x")])
    except StoreError:
        return False
    return True


async def test_without_faults_it_keeps_the_promises_of_a_store() -> None:
    async def make() -> KnowledgeStore:
        return FaultyStore(slow=(0.0, 0.001))

    await check_store(make)


async def test_commits_are_refused_by_number() -> None:
    store = await opened(FaultyStore(refuse_at=[2, 4]))
    assert [await write(store, number) for number in range(5)] == [True, False, True, False, True]
    assert (await count(store), store.injected["refused_commit"], store.total_commits) == (3, 2, 5)


async def test_commits_are_refused_by_chance_and_by_seed() -> None:
    async def outcomes(seed: int) -> list[bool]:
        store = await opened(FaultyStore(refuse=0.5, seed=seed))
        done = [await write(store, number) for number in range(30)]
        assert await count(store) == sum(done)
        return done

    assert await outcomes(1) == await outcomes(1) != await outcomes(2)


async def test_it_takes_its_time() -> None:
    store = await opened(FaultyStore(slow=2.0))
    await write(store, 1)
    assert trio.current_time() == 4.0
    await count(store)
    assert (trio.current_time(), store.injected["slow_store"]) == (6.0, 3)


async def test_it_runs_full_and_gets_room_again() -> None:
    store = await opened(FaultyStore(capacity=5))
    assert [await write(store, number) for number in range(4)] == [True, True, False, False]
    with pytest.raises(StoreError, match="4 of 5 bytes"):
        await store.commit([Append("log", (b"12",))])
    store.make_room(2)
    assert [await write(store, number) for number in range(2)] == [True, False]
    store.make_room()
    assert await write(store, 9)
    assert (await count(store), store.injected["full_store"]) == (4, 4)


async def test_reads_fail() -> None:
    store = await opened(FaultyStore(read_errors=1.0))
    assert await write(store, 1)
    reads: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.read("log"),
        lambda: store.last("log"),
        lambda: store.get("key/1"),
        lambda: store.scan(""),
    ]
    for read in reads:
        with pytest.raises(StoreError, match="a read fails"):
            await read()
    store.calm()
    assert (await count(store), store.injected["read_error"]) == (1, 4)


@pytest.mark.parametrize("seed", range(6))
async def test_a_torn_commit_happened_wholly_or_not_at_all(seed: int) -> None:
    cuts: list[str] = []
    store = await opened(FaultyStore(tear=0.3, seed=seed, on_power_cut=lambda: cuts.append("cut")))
    acknowledged = 0
    while await write(store, acknowledged):
        acknowledged += 1
    assert (cuts, store.is_off) == (["cut"], True)
    with pytest.raises(StoreError, match="the power is cut"):
        await store.read("log")
    found = await store.power_cut()
    found.calm()
    await found.open()
    kept = store.injected["torn_commit_kept"]
    assert kept + store.injected["torn_commit_lost"] == 1
    assert await count(found) == acknowledged + kept
    assert len(await found.scan("key/")) == acknowledged + kept


async def test_an_honest_medium_loses_nothing_to_a_power_cut() -> None:
    store = await opened(FaultyStore())
    assert all([await write(store, number) for number in range(5)])
    found = await store.power_cut()
    await found.open()
    assert (await count(found), store.injected["power_cut"]) == (5, 1)


async def test_a_medium_that_acknowledges_too_early_loses_the_newest() -> None:
    lost = []
    for seed in range(10):
        store = await opened(FaultyStore(unsynced=5.0, seed=seed))
        for number in range(4):
            assert await write(store, number)
        await trio.sleep(6)
        for number in range(4, 8):
            assert await write(store, number)
        found = await store.power_cut()
        await found.open()
        left = await count(found)
        assert [record.body for record in await found.read("log")] == [b"%d" % number for number in range(left)]
        assert store.injected["unsynced_commit_lost"] == 8 - left
        lost.append(8 - left)
    assert min(lost) == 0 < max(lost) <= 4


async def test_closing_writes_everything_down() -> None:
    inner = MemoryKnowledgeStore()
    store = await opened(FaultyStore(inner, unsynced=5.0))
    await write(store, 1)
    await store.close()
    await inner.open()
    assert await count(inner) == 1


async def test_only_a_memory_store_can_be_unsynced(tmp_path: Path) -> None:
    store = FaultyStore(DiskKnowledgeStore(tmp_path / "hub.db"), unsynced=1.0)
    with pytest.raises(StoreError, match="needs a MemoryKnowledgeStore"):
        await store.open()
    await store.inner.close()


async def test_a_disk_store_can_have_faults_too(tmp_path: Path) -> None:
    numbers = itertools.count()

    async def make() -> KnowledgeStore:
        return FaultyStore(DiskKnowledgeStore(tmp_path / f"{next(numbers)}.db"))

    await check_store(make)


async def test_what_the_hub_acknowledged_survives_a_power_cut() -> None:
    store = FaultyStore(seed=3, slow=(0.0, 0.05))
    async with open_test_hub(store) as net:
        await net.add(EchoAgent())
        ann = await net.person("ann")
        session = await ann.open("conversation", "echo")
        for number in range(5):
            await session.ask(str(number))
        found = await store.power_cut()
        with pytest.raises(StoreError):
            await session.send("too late")
    async with open_test_hub(found) as net:
        ann = await net.client.register(None, Passport("ann"), attach_plugin=False, attach=True)
        await net.add(EchoAgent(), attach=True)
        again = await ann.session(session.session_id)
        assert (await again.ask("after")).text == "after"
        lines = await net.transcript(session.session_id)
        assert lines == [f"{who}: {said}" for said in ["0", "1", "2", "3", "4", "after"] for who in ("ann", "echo")]
