"""Letting old records go: numbering, checksums and damage reports stay right over every way to open again."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorio import Append, DiskKnowledgeStore, MemoryKnowledgeStore, Put, Trim
from agorio.hub.stores import disk_load
from agorio.hub.stores.protocol import KnowledgeStore, Record
from agorio.mailbox.errors import ConflictError, StoreError
from agorio.testing import run_in_virtual_time
from tests.store.disks import Disk, io_error


def bodies(first: int, last: int) -> tuple[bytes, ...]:
    return tuple(b"record %d" % number for number in range(first, last + 1))


async def reopened(path: Path) -> DiskKnowledgeStore:
    store = DiskKnowledgeStore(path)
    await store.open()
    return store


def crashed(path: Path, target: Path) -> Path:
    """What a crash leaves: the files as they are while the store is open."""
    target.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, target / file.name)
    return target / path.name


async def test_only_what_is_left_can_be_read_after_a_clean_close_and_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    store = await reopened(path)
    for number in range(1, 101):
        await store.commit([Append("a", bodies(number, number)), Append("b", bodies(number, number))])
    await store.commit([Trim("a", 60), Trim("b", 100), Put("k", b"v")])
    await store.commit([Append("a", bodies(101, 103), 100)])
    twin = crashed(path, tmp_path / "crash")
    await store.close()
    for place in (path, twin):
        store = await reopened(place)
        assert await store.damaged() == []
        assert [record.sequence for record in await store.read("a")] == list(range(61, 104))
        assert await store.read("a", 101) == [Record(102, b"record 102"), Record(103, b"record 103")]
        assert (await store.read("b"), await store.last("b")) == ([], 100)
        with pytest.raises(ConflictError):
            await store.commit([Append("b", (b"x",), 0)])
        await store.commit([Append("b", (b"x",), 100)])
        assert await store.read("b", 7) == [Record(101, b"x")]
        assert (await store.verify()).damaged == ()
        await store.close()


async def test_the_file_shrinks_in_use(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "hub.db")
    for _ in range(30):
        await store.commit([Append("a", (b"x" * 4000,) * 100)])
        await store.commit([Trim("a", await store.last("a") - 10)])
    await store.close()
    assert (tmp_path / "hub.db").stat().st_size < 4_000_000  # 12 MB were written
    store = await reopened(tmp_path / "hub.db")
    assert len(await store.read("a")) == 10
    await store.close()


async def test_over_many_blocks_of_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_load, "CHUNK", 50)
    monkeypatch.setattr("agorio.hub.stores.disk_writer.CHUNK", 50)
    path = tmp_path / "hub.db"
    store = await reopened(path)
    last = 0
    for turn in range(40):
        await store.commit([Append("a", bodies(last + 1, last + 17)), Append("b", (b"b",) * 3)])
        last += 17
        if turn % 3 == 2:
            await store.commit([Trim("a", last - 20), Trim("b", turn)])
        if turn % 5 == 4:
            twin = await reopened(crashed(path, tmp_path / f"crash-{turn}"))
            assert await twin.damaged() == []
            assert await twin.read("a") == await store.read("a")
            assert await twin.read("b") == await store.read("b")
            await twin.close()
        if turn % 7 == 6:
            await store.close()
            store = await reopened(path)
            assert await store.damaged() == []
    assert (await store.verify()).damaged == ()
    await store.close()


async def test_a_lost_mark_is_told(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    store = await reopened(path)
    await store.commit([Append("a", bodies(1, 10)), Append("b", (b"b",))])
    await store.commit([Trim("a", 5)])
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM log WHERE stream=1 AND seq=5")
    connection.close()
    store = await reopened(path)
    verification = await store.verify()
    assert [damage.name for damage in verification.damaged if damage.kind == "stream"] == ["a"]
    assert len(await store.read("b")) == 1
    await store.close()


async def test_a_trim_that_the_disk_calls_failed_is_adopted(tmp_path: Path) -> None:
    """The commit reaches the disk, its answer does not: the records are gone, and the store goes on without them."""
    disk = Disk()
    store = DiskKnowledgeStore(tmp_path / "hub.db", connect=disk.connect)
    await store.open()
    await store.commit([Append("a", bodies(1, 10)), Append("b", (b"b",)), Put("k", b"v")])
    failures = [io_error()]
    disk.is_late, disk.fault = True, lambda sql, number: failures.pop() if sql == "COMMIT" and failures else None
    with pytest.raises(StoreError):
        await store.commit([Trim("a", 5), Trim("new", 3), Put("k", None)])
    assert failures == []
    assert [record.sequence for record in await store.read("a")] == [6, 7, 8, 9, 10]
    assert (await store.last("new"), (await store.get("k")) is not None) == (0, True)  # only a trim cannot be undone
    await store.commit([Append("a", bodies(11, 11), 10), Append("c", (b"c",), 0)])
    assert (await store.verify()).damaged == ()
    await store.close()
    store = await reopened(tmp_path / "hub.db")
    assert await store.damaged() == []
    assert await store.read("c") == [Record(1, b"c")]
    await store.close()


STEPS = st.lists(st.tuples(st.sampled_from("at"), st.sampled_from("xy"), st.integers(0, 12)), max_size=25)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_both_stores_agree(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]) -> None:
    async def play(store: KnowledgeStore) -> list[object]:
        await store.open()
        seen: list[object] = []
        for index, (what, stream, number) in enumerate(steps):
            if what == "a":
                await store.commit([Append(stream, bodies(1, number))])
            else:
                await store.commit([Trim(stream, number)])
            if index % 4 == 3:
                await store.close()
                await store.open()
            seen.append([(await store.last(name), await store.read(name)) for name in "xy"])
        await store.close()
        return seen

    folder = tmp_path_factory.mktemp("twin")
    disk = run_in_virtual_time(play, DiskKnowledgeStore(folder / "hub.db"))
    assert disk == run_in_virtual_time(play, MemoryKnowledgeStore())
