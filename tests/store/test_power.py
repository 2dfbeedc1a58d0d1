"""The loss of power at every single operation of SQLite's: what was acknowledged is there, and nothing else is.

A kill proves little, since the page cache survives it. Here every write that was not synced may be lost, torn, or there
without those before it. `AGORIO_POWER_STEP=1` cuts at every operation in all these ways; by default it is at every few.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import pytest
import trio

from agorio.hub.stores import disk_load, disk_schema, disk_writer
from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.protocol import Append, Change, Put, Trim
from agorio.mailbox.errors import StoreError
from tests.store.power import FULL, OK, SYNC_ERROR, WRITE_ERROR, PowerDisk, contents, lay_out, library

STEP = int(os.environ.get("AGORIO_POWER_STEP", "7"))
pytestmark = pytest.mark.skipif(library() is None, reason="this interpreter has SQLite built in, out of reach")

State = tuple[tuple[tuple[str, tuple[bytes, ...]], ...], tuple[tuple[str, bytes], ...]]


@pytest.fixture(autouse=True)
def everything_is_due_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints, blocks of the index and sweeps every few commits instead of every few thousand."""
    monkeypatch.setattr(disk_schema, "WAL_PAGES", 12)
    monkeypatch.setattr(disk_writer, "CHUNK", 7)
    monkeypatch.setattr(disk_load, "CHUNK", 7)
    monkeypatch.setattr(disk_writer, "SWEEP", 4)
    monkeypatch.setattr(disk_writer, "SLACK", 4)


@contextmanager
def power_disk(folder: Path) -> Iterator[PowerDisk]:
    disk = PowerDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


class Model:
    """What the store must hold, and what it may hold because the answer is still out."""

    def __init__(self) -> None:
        self.streams: dict[str, tuple[bytes, ...]] = {}
        self.documents: dict[str, bytes] = {}
        self.doubts: list[State] = []  # what was answered with an error by a disk that failed, since the last success

    def copy(self) -> Model:
        other = Model()
        other.streams, other.documents = dict(self.streams), dict(self.documents)
        return other

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, Append):
                self.streams[change.stream] = self.streams.get(change.stream, ()) + change.bodies
            elif isinstance(change, Trim):
                raise AssertionError("nothing here trims")
            elif change.body is None:
                self.documents.pop(change.key, None)
            else:
                self.documents[change.key] = change.body

    def state(self) -> State:
        return tuple(sorted(self.streams.items())), tuple(sorted(self.documents.items()))


@attrs.frozen
class Known:
    """A mark in the log of operations."""

    sure: State
    """What has been acknowledged."""
    maybe: tuple[State, ...] = ()
    """The same with what is under way, or was answered with an error that is not made good yet."""

    @property
    def allowed(self) -> tuple[State, ...]:
        """What may be found."""
        return (self.sure, *self.maybe)


@attrs.frozen
class Leftover:
    """What one cut left."""

    path: Path
    """The store."""
    known: Known
    """What it must hold."""
    what: str
    """Which cut it was."""


def changes_of(number: int) -> list[Change]:
    body = b"%d:" % number * (30 if number % 5 else 1500)
    appends = [Append(f"session/{number % 3}", (body,)), Append("audit", (b"a%d" % number,))]
    return [*appends, Put(f"cursor/{number % 2}", b"%d" % number)] if number % 4 else [*appends, Put("once", None)]


async def work(store: DiskKnowledgeStore, disk: PowerDisk, model: Model, numbers: range) -> int:
    """Commit and note what is known after each step; how many were refused."""
    refused = 0
    for number in numbers:
        changes, after = changes_of(number), model.copy()
        after.apply(changes)
        disk.mark(Known(model.state(), (after.state(), *model.doubts)))
        try:
            await store.commit(changes)
        except StoreError:
            refused += 1
            model.doubts.append(after.state())
            continue
        model.apply(changes)
        model.doubts = []
        disk.mark(Known(model.state()))
    return refused


async def session(
    path: Path, disk: PowerDisk, model: Model, numbers: range, durability: Literal["full", "relaxed"] = "full"
) -> None:
    """Open, work, close."""
    store = DiskKnowledgeStore(path, connect=disk.connect, durability=durability)
    await store.open()
    await work(store, disk, model, numbers)
    await store.close()


async def read_all(store: DiskKnowledgeStore) -> State:
    names = await store.streams()
    streams = [(name, tuple(record.body for record in await store.read(name))) for name in names]
    return tuple(streams), tuple((document.key, document.body) for document in await store.scan(""))


async def judge(path: Path, disk: PowerDisk, allowed: tuple[State, ...]) -> None:
    """Open what the cut left: it holds an allowed state, nothing is damaged, and it goes on from there."""
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    try:
        found = await read_all(store)
        assert found in allowed, "something acknowledged is missing, or something else is there"
        assert await store.damaged() == []
        assert (await store.verify()).damaged == ()
        await store.commit([Append("after", (b"1",)), Put("after", b"1")])
        assert len(await store.read("after")) == 1
    finally:
        await store.close()
    assert not [name for name in contents(path.parent) if "damaged" in name]


def known_at(disk: PowerDisk, cut: int, start: Known) -> Known:
    notes = [op.note for op in disk.ops[:cut] if op.kind == "mark"]
    return notes[-1] if notes else start


def leftovers(disk: PowerDisk, folder: Path, start: Known, chance: random.Random, step: int) -> Iterator[Leftover]:
    """What cuts at every `step`th operation leave, laid out one after another."""
    for cut in range(chance.randrange(step), len(disk.ops) + 1, step):
        known = known_at(disk, cut, start)
        for files in disk.leftovers(cut, chance, most=max(6, 200 // step)):
            lock = {} if known == NEW else {"hub.db-lock": b" 1\nused\n"}
            yield Leftover(lay_out({**files, **lock}, folder / "left"), known, f"cut after operation {cut}")
            shutil.rmtree(folder / "left")


def cut_everywhere(disk: PowerDisk, folder: Path, start: Known, chance: random.Random, step: int = STEP) -> int:
    """Judge what is left by cuts at every `step`th operation; how many different leftovers there were."""
    total = 0
    for left in leftovers(disk, folder, start, chance, step):
        with noted(left.what), power_disk(folder / "left") as second:  # which does not wait for the real disk
            trio.run(judge, left.path, second, left.known.allowed)
        total += 1
    return total


@contextmanager
def noted(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as exc:
        exc.add_note(what)
        raise


EMPTY = Model().state()
NEW = Known(EMPTY)


@pytest.mark.slow
def test_power_is_cut(tmp_path: Path) -> None:
    path, model, chance = tmp_path / "store" / "hub.db", Model(), random.Random(STEP)
    with power_disk(path.parent) as disk:
        trio.run(session, path, disk, model, range(12))
        trio.run(session, path, disk, model, range(12, 24))
        assert sum(op.kind == "sync" for op in disk.ops) > 24
        assert cut_everywhere(disk, tmp_path, NEW, chance) > 50


async def recover(path: Path, disk: PowerDisk, known: Known) -> None:
    """Open what a cut left and go on; what was seen once it was open is sure."""
    disk.mark(known)
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    found, model = await read_all(store), Model()
    assert found in known.allowed
    disk.mark(Known(found))
    model.streams, model.documents = dict(found[0]), dict(found[1])
    await work(store, disk, model, range(100, 102))
    await store.close()


@pytest.mark.slow
def test_power_is_cut_again_during_recovery(tmp_path: Path) -> None:
    path, model, chance = tmp_path / "store" / "hub.db", Model(), random.Random(STEP)
    total = 0
    with power_disk(path.parent) as disk:
        trio.run(session, path, disk, model, range(14))
        for number, left in enumerate(leftovers(disk, tmp_path / "one", NEW, chance, 2 * STEP)):
            if number % (3 * STEP):
                continue
            with noted(left.what), power_disk(left.path.parent) as second:
                trio.run(recover, left.path, second, left.known)
                total += cut_everywhere(second, tmp_path / "two", left.known, chance)
    assert total > 100


@pytest.mark.parametrize("number", range(1, 30, max(1, STEP // 2)))
def test_a_sync_fails(tmp_path: Path, number: int) -> None:
    """Nobody knows whether what it was to write is on the disk: it is refused, and nothing is built on it."""
    path, model, chance = tmp_path / "store" / "hub.db", Model(), random.Random(number)
    with power_disk(path.parent) as disk:
        trio.run(session, path, disk, model, range(4))
        syncs = itertools.count(1)
        disk.fault = lambda kind, file, _: SYNC_ERROR if kind == "sync" and next(syncs) == number else OK
        refused = trio.run(reopen_and_work, path, disk, model, range(4, 16))
        assert next(syncs) > number
        assert refused <= 1
        assert cut_everywhere(disk, tmp_path, NEW, chance, 3 * STEP) > 10


async def reopen_and_work(path: Path, disk: PowerDisk, model: Model, numbers: range) -> int:
    """As `session`, on a disk that fails: an opening that was refused is tried again; how much was refused."""
    store, refused = DiskKnowledgeStore(path, connect=disk.connect), 0
    for _ in range(20):
        try:
            await store.open()
            break
        except StoreError:
            refused += 1
    found = await read_all(store)
    assert found in (model.state(), *model.doubts)
    model.streams, model.documents, model.doubts = dict(found[0]), dict(found[1]), []
    disk.mark(Known(found))
    refused += await work(store, disk, model, numbers)
    if not store._gave_up:
        assert await read_all(store) == model.state()
    await store.close()
    return refused


@pytest.mark.parametrize("seed", range(max(3, 40 // STEP)))
def test_a_disk_that_fails_tears_and_runs_full_at_random(tmp_path: Path, seed: int) -> None:
    path, model, chance = tmp_path / "store" / "hub.db", Model(), random.Random(seed)
    codes = {"write": (WRITE_ERROR, FULL), "sync": (SYNC_ERROR,), "truncate": (WRITE_ERROR,)}
    with power_disk(path.parent) as disk:
        trio.run(session, path, disk, model, range(4))
        disk.fault = lambda kind, file, _: chance.choice(codes[kind]) if chance.random() < 0.02 else OK
        refused = trio.run(reopen_and_work, path, disk, model, range(4, 30))
        disk.fault = lambda kind, file, _: OK
        refused += trio.run(reopen_and_work, path, disk, model, range(30, 33))
        assert refused < 30, "nearly all of it was refused"
        assert cut_everywhere(disk, tmp_path, NEW, chance, 8 * STEP) > 10


async def open_and_look(path: Path, disk: PowerDisk, allowed: tuple[State, ...]) -> State:
    store = DiskKnowledgeStore(path, connect=disk.connect)
    await store.open()
    found = await read_all(store)
    assert found in allowed, "what is left is not whole, or not in order"
    assert await store.damaged() == []
    await store.close()
    return found


def test_a_relaxed_store_loses_the_end_and_nothing_else(tmp_path: Path) -> None:
    """It may lose what it acknowledged, which also shows that the other tests here would notice a loss."""
    path, model, chance = tmp_path / "store" / "hub.db", Model(), random.Random(1)
    lost = 0
    with power_disk(path.parent) as disk:
        trio.run(partial(session, durability="relaxed"), path, disk, model, range(10))
        states = (EMPTY, *(op.note.sure for op in disk.ops if op.kind == "mark"))
        for left in leftovers(disk, tmp_path, NEW, chance, 2 * STEP):
            lock = left.path.with_name("hub.db-lock")
            lock.write_bytes(b" 1\nrelaxed\n" if left.known == NEW else b" 1\nused\nrelaxed\n")
            with noted(left.what), power_disk(left.path.parent) as second:
                lost += trio.run(open_and_look, left.path, second, states) not in left.known.allowed
    assert lost > 3
