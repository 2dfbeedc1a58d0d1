"""Flipped bits, cut files and torn logs: never a wrong byte, never a store that does not open for the rest."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from agorio.hub.stores.damage import Damage
from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.disk_salvage import read_rows
from agorio.hub.stores.protocol import Append, Document, Put, Record
from agorio.mailbox.errors import QuarantinedError, StoreError
from tests.store.disks import Disk

PAGE = 4096
STREAMS = [f"session/{number:02d}" for number in range(20)]
KEYS = [f"cursor/{number:02d}" for number in range(20)]
ROUNDS = int(os.environ.get("AGORIO_DAMAGE_ROUNDS", "100"))


@attrs.frozen
class Truth:
    """What was acknowledged."""

    streams: dict[str, list[Record]]
    """Every stream."""
    documents: dict[str, Document]
    """Every document."""


async def write(path: Path, *, crash: bool = False) -> Truth:
    """A store with a bit of everything; after a crash it lies there as the process left it."""
    chance = random.Random(1)
    store = DiskKnowledgeStore(path, durability="relaxed")
    await store.open()
    for _ in range(25):
        appends = [
            Append(stream, tuple(chance.randbytes(chance.choice((20, 300, 6000))) for _ in range(chance.randint(1, 3))))
            for stream in chance.sample(STREAMS, 6)
        ]
        await store.commit([*appends, *(Put(key, chance.randbytes(80)) for key in chance.sample(KEYS, 6))])
    streams = {stream: await store.read(stream) for stream in STREAMS}
    truth = Truth(streams, {document.key: document for document in await store.scan("")})
    if crash:
        shutil.copytree(path.parent, path.parent.with_name("crashed"))
    await store.close()
    if crash:
        shutil.rmtree(path.parent)
        path.parent.with_name("crashed").rename(path.parent)
    return truth


async def judge(path: Path, truth: Truth) -> str:
    """Open the damaged store and use it; what became of the damage. Anything silently wrong is an error."""
    store = DiskKnowledgeStore(path)
    await store.open()
    try:
        outcome = await compare(store, truth)
        await use(store)
    finally:
        await store.close()
    await store.open()
    assert len(await store.read("new")) == 1, "what was written after the damage is lost"
    await store.close()
    return outcome


async def compare(store: DiskKnowledgeStore, truth: Truth) -> str:
    known = await store.damaged()
    refused = short = 0
    for stream, records in truth.streams.items():
        try:
            found = await store.read(stream)
        except QuarantinedError:
            refused += 1
            continue
        assert found == records[: len(found)], f"{stream} has wrong bytes"
        short += len(found) < len(records)
    for key, document in truth.documents.items():
        try:
            got = await store.get(key)
        except QuarantinedError:
            refused += 1
            continue
        assert got is None or got.version < document.version or got == document, f"{key} has wrong bytes"
        short += got != document
    if short:
        assert any(damage.kind == "file" for damage in known), "something is missing and nobody says so"
        return "reported"
    return "quarantined" if refused else "repaired" if known else "harmless"


async def use(store: DiskKnowledgeStore) -> None:
    """A damaged page may cost one commit; the next one is on good pages."""
    try:
        await store.commit([Append("new", (b"1",)), Put("new", b"1")])
    except StoreError:
        await store.commit([Append("new", (b"1",)), Put("new", b"1")])
    assert len(await store.read("new")) == 1


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def fold_log(path: Path) -> None:
    """What a reader after the crash would do, so that the damage is in the main file."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("crash", [False, True], ids=["closed", "crashed"])
@pytest.mark.parametrize("where", ["anywhere", "heads of pages"])
def test_flipped_bits(tmp_path: Path, crash: bool, where: str) -> None:
    pristine = tmp_path / "pristine" / "hub.db"
    truth = trio.run(partial(write, pristine, crash=crash))
    fold_log(pristine)
    size, chance = pristine.stat().st_size, random.Random(f"{where}{crash}")
    outcomes: Counter[str] = Counter()
    for number in range(ROUNDS):
        path = tmp_path / str(number) / "hub.db"
        shutil.copytree(pristine.parent, path.parent)
        at = chance.randrange(size)
        at = at if where == "anywhere" else at // PAGE * PAGE + chance.randrange(16)
        flip(path, at, chance.randrange(8))
        try:
            outcomes[trio.run(judge, path, truth)] += 1
        except BaseException as exc:
            exc.add_note(f"flipped a bit of byte {at % PAGE} of page {at // PAGE + 1}")
            raise
        shutil.rmtree(path.parent)
    assert outcomes["quarantined"], "the test damaged nothing"


@pytest.mark.slow
def test_cut_files(tmp_path: Path) -> None:
    pristine = tmp_path / "pristine" / "hub.db"
    truth = trio.run(write, pristine)
    size, chance = pristine.stat().st_size, random.Random(2)
    for number in range(ROUNDS // 4):
        path = tmp_path / str(number) / "hub.db"
        shutil.copytree(pristine.parent, path.parent)
        length = chance.randrange(size)
        os.truncate(path, length)
        try:
            outcome = trio.run(judge, path, truth)
        except StoreError as error:
            outcome = str(error)
        assert outcome in ("reported", "quarantined", "repaired") or "restore it from a backup" in outcome
        assert "restore" not in outcome or length < 16 * PAGE, "there was something left to read"
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("cut", [1, 24, 31, 4000, 4120, 100_000])
def test_a_torn_log(tmp_path: Path, cut: int) -> None:
    """A cut write-ahead log is what the loss of power leaves of commits that were not synced: a prefix is there."""
    path = tmp_path / "store" / "hub.db"
    truth = trio.run(partial(write, path, crash=True))
    wal = path.with_name("hub.db-wal")
    os.truncate(wal, wal.stat().st_size - cut)

    async def look() -> None:
        store = DiskKnowledgeStore(path)
        await store.open()
        for stream, records in truth.streams.items():
            found = await store.read(stream)
            assert found == records[: len(found)]
        assert await store.damaged() == []
        assert (await store.verify()).damaged == ()
        await use(store)
        await store.close()

    trio.run(look)


async def prepare(path: Path) -> None:
    store = DiskKnowledgeStore(path)
    await store.open()
    for number in range(30):
        await store.commit([Append(f"session/{number % 3}", (b"body %d" % number * 40,)), Put(f"key/{number}", b"doc")])
    await store.close()


def run_sql(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE log SET body=x'00' WHERE lsn=10",
        "UPDATE log SET crc=crc+1 WHERE lsn=10",
        "UPDATE log SET seq=99 WHERE lsn=10",
        "UPDATE log SET stream=77 WHERE lsn=10",
        "UPDATE log SET body='text' WHERE lsn=10",
        "UPDATE log SET seq='text' WHERE lsn=10",
        "DELETE FROM log WHERE lsn=10",
    ],
)
async def test_a_damaged_record_sets_its_stream_aside(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "hub.db"
    await prepare(path)
    run_sql(path, sql)
    store = DiskKnowledgeStore(path)
    await store.open()
    for call in (store.read("session/0"), store.read("session/0"), store.last("session/0")):
        with pytest.raises(QuarantinedError, match="session/0"):
            await call
    with pytest.raises(QuarantinedError, match="session/0"):
        await store.commit([Append("session/0", (b"more",)), Append("session/1", (b"not this either",))])
    for other in ("session/1", "session/2"):
        assert len(await store.read(other)) == 10
        await store.commit([Append(other, (b"more",), 10)])
    damaged = await store.damaged()
    assert "session/0" in [damage.name for damage in damaged if damage.kind == "stream"]
    assert not any(damage.name in ("session/1", "session/2") for damage in damaged)
    await store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE document SET body=x'00' WHERE key='key/7'",
        "UPDATE document SET version=3 WHERE key='key/7'",
        "UPDATE document SET key='key/other' WHERE key='key/7'",
        "UPDATE document SET body=7 WHERE key='key/7'",
        "DELETE FROM document WHERE key='key/7'",
    ],
)
async def test_a_damaged_document_is_set_aside(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "hub.db"
    await prepare(path)
    run_sql(path, sql)
    store = DiskKnowledgeStore(path)
    await store.open()
    with pytest.raises(QuarantinedError, match="document key/7"):
        await store.get("key/7")
    with pytest.raises(QuarantinedError, match="document key/7"):
        await store.commit([Put("key/7", b"over it")])
    assert "key/7" not in [document.key for document in await store.scan("key/")]
    assert len(await store.scan("key/")) == 29
    assert "key/7" in [damage.name for damage in await store.damaged()]
    await store.close()


async def test_damage_is_found_while_the_store_is_open(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    await prepare(path)
    store = DiskKnowledgeStore(path)
    await store.open()
    run_sql(path, "UPDATE log SET body=x'00' WHERE stream=2")
    run_sql(path, "UPDATE document SET body=x'00' WHERE key='key/7'")
    assert await store.damaged() == []
    found = await store.verify()
    assert {(one.kind, one.name) for one in found.damaged} == {("stream", "session/1"), ("document", "key/7")}
    assert (found.records, found.documents) == (20, 29)
    assert list(found.damaged) == await store.damaged()
    assert len(await store.scan("key/")) == 29
    await store.close()
    await store.open()
    assert isinstance((await store.damaged())[0], Damage), "what is known stays known"
    await store.close()


def test_an_unreadable_first_page(tmp_path: Path) -> None:
    path = tmp_path / "store" / "hub.db"
    truth = trio.run(write, path)
    with path.open("r+b") as file:
        file.write(b"\0" * PAGE)
    assert trio.run(judge, path, truth) == "repaired"
    assert path.with_name("hub.db-damaged-1").read_bytes()[:PAGE] == b"\0" * PAGE, "the damaged file is kept"
    assert trio.run(judge_again, path, truth) == "repaired"


async def judge_again(path: Path, truth: Truth) -> str:
    store = DiskKnowledgeStore(path)
    await store.open()
    try:
        return await compare(store, truth)
    finally:
        await store.close()


def test_a_rebuilding_that_was_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails at each operation of it in turn, and between its steps in the folder."""
    pristine = tmp_path / "pristine" / "hub.db"
    truth = trio.run(write, pristine)
    with pristine.open("r+b") as file:
        file.write(b"\0" * PAGE)
    for number in range(1, 60, 3):
        path = tmp_path / str(number) / "hub.db"
        shutil.copytree(pristine.parent, path.parent)
        disk = Disk()
        disk.fail_at(number, times=1000)
        with pytest.raises(StoreError):
            trio.run(DiskKnowledgeStore(path, connect=disk.connect).open)
        assert trio.run(judge, path, truth) == "repaired"
    for step in ("link", "replace"):
        path = tmp_path / step / "hub.db"
        shutil.copytree(pristine.parent, path.parent)
        with monkeypatch.context() as broken:
            break_after_rebuilding(broken, step)
            with pytest.raises(StoreError, match="power"):
                trio.run(DiskKnowledgeStore(path).open)
        assert trio.run(judge, path, truth) == "repaired"


def break_after_rebuilding(patch: pytest.MonkeyPatch, step: str) -> None:
    real = getattr(os, step)
    calls: list[object] = []

    def broken(*arguments: object) -> None:
        calls.append(arguments)
        if step == "link" or len(calls) == 2:  # putting the new file in its place is the second renaming
            raise OSError("the power went off")
        real(*arguments)

    patch.setattr(os, step, broken)


def test_rows_are_read_through_the_log(tmp_path: Path) -> None:
    """What a crash left in the write-ahead log is part of what is put together."""
    path = tmp_path / "store" / "hub.db"
    truth = trio.run(partial(write, path, crash=True))
    rows = [lsn for table, (lsn, _) in read_rows(path, path.with_name("hub.db-wal")) if table == "log"]
    assert sorted(rows) == list(range(1, sum(map(len, truth.streams.values())) + 1))
