"""What the store does when the disk refuses: full, failing once, failing for good, slow."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from agorio.hub.stores import disk_writer
from agorio.hub.stores.disk import MAX_FAILURES, DiskKnowledgeStore
from agorio.hub.stores.protocol import Append, Put
from agorio.mailbox.errors import ConflictError, StoreError
from tests.store.conftest import OpenDisk
from tests.store.disks import Disk, io_error

BIG = b"x" * 20_000


async def fill(store: DiskKnowledgeStore) -> int:
    """Append until the disk is full; how many records were acknowledged."""
    for number in range(10_000):
        try:
            await store.commit([Append("one", (BIG,), number), Put("count", b"%d" % (number + 1))])
        except StoreError as error:
            if "disk is full" not in str(error):
                raise
            return number
    raise AssertionError("the disk never ran full")


async def check_full(store: DiskKnowledgeStore, count: int) -> None:
    """Nothing acknowledged is lost, nothing else is there, and reading goes on."""
    assert await store.last("one") == count
    assert [record.body for record in await store.read("one")] == [BIG] * count
    document = await store.get("count")
    assert document is not None
    assert document.body == b"%d" % count


async def test_a_full_disk_fails_the_batch_only(path: Path) -> None:
    disk = Disk()
    disk.max_pages = 100
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    count = await fill(store)
    await check_full(store, count)
    with pytest.raises(StoreError, match="disk is full"):
        await store.commit([Append("one", (BIG,), count)])
    assert store.statistics().total_reconnects == 0
    assert store._writer._connection is not None
    store._writer._connection.execute("PRAGMA max_page_count=100000")  # space has returned
    await store.commit([Append("one", (BIG,), count), Put("count", b"%d" % (count + 1))])
    await check_full(store, count + 1)
    await store.close()
    again = DiskKnowledgeStore(path)
    await again.open()
    await check_full(again, count + 1)
    await again.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is forbidden here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_file_system(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    store = DiskKnowledgeStore(small_disk / "hub.db")
    await store.open()
    count = await fill(store)
    await check_full(store, count)
    with contextlib.suppress(StoreError):
        await store.commit([Append("one", (BIG,), count)])
        raise AssertionError("there was space")
    ballast.unlink()
    await store.commit([Append("one", (BIG,), count), Put("count", b"%d" % (count + 1))])
    await check_full(store, count + 1)
    await store.close()


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
async def test_an_error_of_the_disk(path: Path, number: int, late: bool) -> None:
    """The batch fails whichever operation fails, its outcome is undone, and the store goes on after a reconnection."""
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    await store.commit([Append("one", (b"1",), 0), Put("a", b"1", 0)])
    disk.fail_at(number, late=late)
    with pytest.raises(StoreError, match="the commit failed: disk I/O error"):
        await store.commit([Append("one", (b"2",), 1), Append("new", (b"1",), 0), Put("a", b"2", 1)])
    for _ in range(2):
        assert await store.last("one") == 1
        assert await store.last("new") == 0
        with pytest.raises(ConflictError):
            await store.commit([Append("one", (b"3",), 2)])
        await store.close()
        await store.open()
    await store.commit([Append("one", (b"2",), 1), Append("new", (b"1",), 0), Put("a", b"2", 1)])
    assert [record.body for record in await store.read("one")] == [b"1", b"2"]
    assert (await store.verify()).damaged == ()
    await store.close()


async def test_a_commit_that_succeeded_while_its_sync_failed_is_undone(path: Path) -> None:
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    disk.fail_at(1, late=True)  # one statement, carried out and committed, then reported as failed
    with pytest.raises(StoreError):
        await store.commit([Append("one", (b"1",), 0)])
    await store.commit([Append("one", (b"another",), 0)])
    assert [record.body for record in await store.read("one")] == [b"another"]
    await store.close()


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
async def test_an_error_while_documents_are_swept(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, late: bool
) -> None:
    monkeypatch.setattr(disk_writer, "SWEEP", 8)
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    for count in range(30):
        await store.commit([Put("rare", b"1")] if not count else [Put("often", b"%d" % count)])
    before = await store.scan("")
    monkeypatch.setattr(disk_writer, "SLACK", 8)  # from now on a sweep is due
    for count in range(3):
        disk.fail_at(number, late=late)
        with contextlib.suppress(StoreError):  # the commit's own statements come after those of the sweep
            await store.commit([Append("one", (b"1",))])
        disk.fault = lambda sql, at: None
        assert await store.scan("") == before
        await store.close()
        await store.open()
        assert await store.scan("") == before, f"lost at failure {count}"
    assert await store.damaged() == []
    await store.close()


async def test_a_disk_that_stays_broken(path: Path) -> None:
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    await store.commit([Append("one", (b"1",), 0)])
    disk.fault = lambda sql, number: io_error()
    for _ in range(MAX_FAILURES + 2):
        with pytest.raises(StoreError):
            await store.commit([Append("one", (b"2",), 1)])
    disk.fault = lambda sql, number: None
    before = disk.total
    for call in (store.commit([Append("one", (b"2",), 1)]), store.read("one"), store.get("a"), store.damaged()):
        with pytest.raises(StoreError, match="gave up after"):
            await call
    assert disk.total == before
    await store.close()
    await store.open()
    assert await store.last("one") == 1
    await store.commit([Append("one", (b"2",), 1)])
    await store.close()


async def test_a_disk_that_fails_now_and_then_is_not_given_up(path: Path) -> None:
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    for number in range(3 * MAX_FAILURES):
        disk.fail_at(1)
        with pytest.raises(StoreError):
            await store.commit([Append("one", (b"lost",), number)])
        await store.commit([Append("one", (b"kept",), number)])
    assert store.statistics().total_reconnects == 3 * MAX_FAILURES
    assert {record.body for record in await store.read("one")} == {b"kept"}
    await store.close()


async def test_a_reading_that_fails(path: Path) -> None:
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    await store.commit([Append("one", (b"1",), 0)])
    disk.fault = lambda sql, number: io_error() if sql.startswith("SELECT") else None
    with pytest.raises(StoreError, match="reading the store failed"):
        await store.read("one")
    disk.fault = lambda sql, number: None
    assert len(await store.read("one")) == 1, "an error that passes is no damage"
    assert await store.damaged() == []
    await store.close()


async def test_a_busy_store_fails_the_batch_only(path: Path) -> None:
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    disk.fault = lambda sql, number: io_error("database is locked", sqlite3.SQLITE_BUSY)
    with pytest.raises(StoreError, match="locked"):
        await store.commit([Append("one", (b"1",), 0)])
    disk.fault = lambda sql, number: None
    await store.commit([Append("one", (b"1",), 0)])
    assert store.statistics().total_reconnects == 0
    await store.close()


async def test_a_slow_disk_delays_only_those_who_wait(opened: OpenDisk, path: Path) -> None:
    disk = Disk()
    async with opened(connect=disk.connect) as store, trio.open_nursery() as nursery:
        await store.commit([Append("one", (b"1",), 0), Put("a", b"1")])
        disk.hold.clear()
        done: list[int] = []

        async def commit(number: int) -> None:
            await store.commit([Append("one", (b"%d" % number,))])
            done.append(number)

        nursery.start_soon(commit, 2)
        await trio.to_thread.run_sync(disk.held.wait)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert len(await store.read("one")) == 1, "a reading does not wait, and shows what is durable"
        assert await store.last("one") == 1
        assert await store.get("a") is not None
        assert done == []
        disk.hold.set()
    assert done == [2]


async def test_a_cancelled_commit_under_way_is_finished(opened: OpenDisk) -> None:
    disk = Disk()
    async with opened(connect=disk.connect) as store:
        disk.hold.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, [Append("one", (b"1",), 0)])
            await trio.to_thread.run_sync(disk.held.wait)
            nursery.cancel_scope.cancel()
            disk.hold.set()
        assert await store.last("one") == 1
        await store.commit([Append("one", (b"2",), 1)])
