"""What durability costs: the hub on the disk store, on the memory store, and a bare SQLite loop, in one run.

`python benchmarks/store.py [--quick]`. An envelope counts when its sender has the acceptance in hand, on the disk store
after the sync, and its recipient's handler has run on it. The bare loop writes the same rows into the same tables with
the same settings, one transaction per round, and does nothing else. `--folder` says on which disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from zlib import crc32

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from common import Row, resident, show

from agorio import (
    EV_TEXT,
    Append,
    DiskKnowledgeStore,
    Envelope,
    Hub,
    HubClient,
    KnowledgeStore,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    Put,
    Session,
)
from agorio.hub.stores.disk_schema import LOG_COLUMNS, connect, inserts, migrate, prepare

TEXT = "x" * 100
BODY = b"x" * 300
RECORDS, STREAMS = 1_000_000, 10_000


@attrs.define
class Count:
    """What the recipients have handled."""

    handled: int = 0
    """Texts so far."""
    wanted: int = 0
    """Set `done` at so many."""
    done: trio.Event = attrs.field(factory=trio.Event)
    """Set then."""

    async def handle(self, envelope: Envelope) -> None:
        """The recipients' handler."""
        if envelope.event_type == EV_TEXT:
            self.handled += 1
            if self.handled == self.wanted:
                self.done.set()


@attrs.frozen
class Figures:
    """One measurement."""

    rate: float
    """Envelopes per second."""
    median: float = 0.0
    """Milliseconds from `send` to the acceptance."""
    late: float = 0.0
    """The 99th percentile of that."""


async def silent(text: str) -> str:
    return ""


@asynccontextmanager
async def open_sessions(store: KnowledgeStore, count: int, handled: Count) -> AsyncIterator[list[Session]]:
    """So many conversations of two agents each."""
    async with Hub.open(store) as hub:
        client = HubClient(LocalLink(hub), hub=hub)
        sessions: list[Session] = []

        async def open_one(number: int) -> None:
            sender = await client.register(silent, Passport(f"sender-{number}"), attach_plugin=False)
            await client.register(silent, Passport(f"recipient-{number}"), handler=handled.handle)
            sessions.append(await sender.open("conversation", f"recipient-{number}"))

        for start in range(0, count, 32):
            async with trio.open_nursery() as nursery:
                for number in range(start, min(start + 32, count)):
                    nursery.start_soon(open_one, number)
        yield sessions


async def through_hub(store: KnowledgeStore, count: int, each: int) -> Figures:
    """So many sessions, each with one sender that sends, waits for the acceptance and sends again."""
    handled, times = Count(wanted=count * each), list[float]()
    async with open_sessions(store, count, handled) as sessions:

        async def send_all(session: Session) -> None:
            for _ in range(each):
                begin = time.perf_counter()
                await session.send(TEXT)
                times.append(time.perf_counter() - begin)

        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(send_all, session)
        await handled.done.wait()
        took = time.perf_counter() - begin
    times.sort()
    return Figures(count * each / took, times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3)


def bare_loop(path: Path, rows: int, rounds: int) -> Figures:
    """Durable rows per second of SQLite alone."""
    connection = connect(str(path))
    prepare(connection, durable=True)
    migrate(connection)
    times = []
    begin = time.perf_counter()
    for number in range(rounds):
        start = time.perf_counter()
        first = number * rows
        values = [
            value
            for lsn in range(first + 1, first + rows + 1)
            for value in (lsn, lsn % rows, number, crc32(BODY, lsn), BODY)
        ]
        connection.execute("BEGIN IMMEDIATE")
        for sql, part in inserts("log", LOG_COLUMNS, values):
            connection.execute(sql, part)
        connection.execute("COMMIT")
        times.append(time.perf_counter() - start)
    took = time.perf_counter() - begin
    connection.close()
    times.sort()
    return Figures(rows * rounds / took, times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3)


def best(figures: list[Figures]) -> Figures:
    """The fastest run: a busy neighbour can only slow one down."""
    return max(figures, key=lambda one: one.rate)


async def compare(folder: Path, count: int, each: int, rounds: int) -> list[Row]:
    """Disk, memory and the bare loop in turns."""
    disk, memory, bare = list[Figures](), list[Figures](), list[Figures]()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            bare.append(bare_loop(Path(name, "bare.db"), count, min(each, 1000)))
            memory.append(await through_hub(MemoryKnowledgeStore(), count, each))
            disk.append(await through_hub(DiskKnowledgeStore(Path(name, "hub.db")), count, each))
    ours, theirs, plain = best(disk), best(memory), best(bare)
    what = "one sender" if count == 1 else f"{count} sessions"
    to_bare = "0.8" if count == 1 else ""
    return [
        Row(f"{what}: disk beside memory", ours.rate, theirs.rate, "envelopes/s", aim="0.7" if count > 1 else ""),
        Row(f"{what}: disk beside the bare loop", ours.rate, plain.rate, "envelopes/s", aim=to_bare),
        Row(f"{what}: p50 of a send, beside memory", ours.median, theirs.median, "ms", False),
        Row(f"{what}: p99 of a send, beside 3 p50", ours.late, 3 * ours.median, "ms", False, "1"),
    ]


async def fill(path: Path, records: int) -> None:
    """A store of so many records in 10,000 streams, as many documents thrice over."""
    store = DiskKnowledgeStore(path, durability="relaxed")
    await store.open()
    names = [f"session/{number:026d}" for number in range(STREAMS)]
    for length in range(records // STREAMS):
        for start in range(0, STREAMS, 500):
            part = names[start : start + 500]
            puts = [] if length else [Put(f"{kind}/{name}", BODY) for name in part for kind in ("setup", "open", "at")]
            await store.commit([*(Append(name, (BODY,), length) for name in part), *puts])
    await store.close()


async def use(path: Path) -> None:
    """Open the large store in a process of its own, and print seconds, resident bytes, and a reading's seconds."""
    before = resident()
    store = DiskKnowledgeStore(path)
    begin = time.perf_counter()
    await store.open()
    opened = time.perf_counter() - begin
    held = resident() - before
    begin = time.perf_counter()
    records = await store.read(f"session/{STREAMS // 2:026d}")
    read = time.perf_counter() - begin
    await store.close()
    print(opened, held, read, len(records))


async def large(folder: Path, records: int) -> list[Row]:
    """Opening a large store and reading one stream of it."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name, "large.db")
        await fill(path, records)
        command = [sys.executable, "-P", __file__, "--use", str(path)]
        done = await trio.run_process(command, capture_stdout=True)
        opened, held, read, length = map(float, done.stdout.split())
    return [
        Row(f"opening {records:,} records, {STREAMS:,} streams", opened, None, "s", False, "2"),
        Row("memory that it takes", held / 1e6, None, "MB", False, "200"),
        Row(f"reading a stream of {length:.0f}", read * 1e3, None, "ms", False),
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(description="What durability costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--folder", type=Path, default=Path("."), help="on which disk; a tmpfs says nothing")
    parser.add_argument("--use", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.use is not None:
        await use(arguments.use)
        return
    scale = 1 if arguments.quick else 10
    rows: list[Row] = []
    for count, each, rounds in ((1, 100, 8), (32, 10, 6), (512, 2, 3)):
        # Many short rounds, so that a busy neighbour spoils some of them on each side and not all of one.
        rows += await compare(arguments.folder, count, each * scale, rounds)
    rows += await large(arguments.folder, RECORDS // 10 * scale)
    show("The disk store (`bare` is what the line names)", rows, as_json=arguments.json)


if __name__ == "__main__":
    trio.run(main)
