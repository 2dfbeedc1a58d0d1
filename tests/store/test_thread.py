"""The writing thread: it carries out what it was handed, whoever is cancelled, and none is left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from agorio import DiskKnowledgeStore, Hub
from agorio.hub.stores.disk_thread import WorkerThread
from agorio.hub.stores.protocol import Append, Put
from agorio.mailbox.errors import StoreError
from tests.store.conftest import OpenDisk
from tests.store.disks import Disk


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("store ")}


async def test_results_and_errors_come_back_in_order() -> None:
    worker, order = WorkerThread("store order"), list[object]()

    async def ask(number: int) -> None:
        if number % 3:
            order.append(await worker.run(str, number))
        else:
            with pytest.raises(ZeroDivisionError):
                await worker.run(divmod, number, 0)
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    worker.stop()
    assert {int(str(one)) for one in order} == set(range(20))
    assert "store order" not in threads()


async def test_a_cancelled_caller_gets_its_result() -> None:
    worker, started, go = WorkerThread("store cancelled"), threading.Event(), threading.Event()

    def work() -> str:
        started.set()
        go.wait(60)
        return "done"

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await trio.to_thread.run_sync(started.wait)
                scope.cancel()
                go.set()

            nursery.start_soon(cancel)
            assert await worker.run(work) == "done"
    worker.stop()


async def test_one_that_nobody_stopped_ends_with_its_owner() -> None:
    worker = WorkerThread("store forgotten")
    assert await worker.run(int, "7") == 7
    thread = worker._thread
    del worker
    gc.collect()
    await trio.to_thread.run_sync(thread.join)
    assert not thread.is_alive()


async def test_a_store_has_one_while_it_is_open(opened: OpenDisk, path: Path) -> None:
    async with opened(), opened(path.with_name("second.db")):
        assert threads() == {"store hub.db", "store second.db"}
    assert threads() == set()
    await trio.Path(path).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        await DiskKnowledgeStore(path).open()
    assert threads() == set(), "an opening that failed leaves none"


async def test_two_hubs_in_one_process(path: Path) -> None:
    async with Hub.open(DiskKnowledgeStore(path)) as one, Hub.open(DiskKnowledgeStore(path.with_name("b.db"))) as two:
        assert one.health().durable
        assert two.health().durable
        assert len(threads()) == 2
    assert threads() == set()


def test_a_program_that_leaves_its_store_open_ends(path: Path) -> None:
    script = (
        "import sys, trio; from agorio import Append, DiskKnowledgeStore\n"
        "async def main():\n"
        "    store = DiskKnowledgeStore(sys.argv[1]); await store.open()\n"
        "    await store.commit([Append('one', (b'1',))]); globals()['kept'] = store\n"
        "trio.run(main)"
    )
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", script, str(path)], timeout=60, check=False)
    assert done.returncode == 0


async def test_a_begun_commit(opened: OpenDisk) -> None:
    async with opened() as store:
        ended, outcomes = trio.Event(), list[Exception | None]()

        def done(error: Exception | None) -> None:
            outcomes.append(error)
            ended.set()

        assert not store.begin_commit([], done), "there is nothing to be done"
        assert store.begin_commit([Append("one", (b"1",), 0)], done)
        assert not store.begin_commit([Append("one", (b"2",), 1)], done), "one at a time"
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.commit([Put("a", b"1")])
        await ended.wait()
        await store.commit([Append("one", (b"2",), 1)])
        assert outcomes == [None]
        assert [record.body for record in await store.read("one")] == [b"1", b"2"]


@pytest.mark.parametrize("then", ["commit", "close"])
async def test_a_begun_commit_that_fails(path: Path, then: str) -> None:
    """It reached the file, and the disk said that it failed: it is taken out by whoever comes next."""
    disk = Disk()
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    await store.commit([Append("one", (b"1",), 0)])
    disk.fail_at(1, late=True)
    ended, outcomes = trio.Event(), list[Exception | None]()

    def done(error: Exception | None) -> None:
        outcomes.append(error)
        ended.set()

    assert store.begin_commit([Append("one", (b"2",), 1)], done)
    await ended.wait()
    assert isinstance(outcomes[0], StoreError)
    assert not store.begin_commit([Append("one", (b"3",), 1)], done), "the connection is to be made anew first"
    if then == "commit":
        await store.commit([Append("one", (b"3",), 1)])
    await store.close()
    await store.open()
    assert [record.body for record in await store.read("one")] == [b"1", b"3"][: 1 + (then == "commit")]
    await store.close()
