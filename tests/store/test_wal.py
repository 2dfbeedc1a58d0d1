"""Damage in the write-ahead log: SQLite forgets what stands behind it, the store does not."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import trio

from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.disk_wal import frames, is_damaged
from agorio.hub.stores.protocol import Append, Put
from agorio.mailbox.errors import QuarantinedError

COMMITS = 24
HEADER, FRAME = 32, 24 + 4096
ROUNDS = int(os.environ.get("AGORIO_DAMAGE_ROUNDS", "100"))


def body(number: int) -> bytes:
    return b"%d:" % number * (20 if number % 4 else 1200)


async def write(path: Path, durability: str = "full") -> bytes:
    """A store with commits in its log, left as a crash leaves it; the log."""
    store = DiskKnowledgeStore(path.parent.with_name("busy") / path.name, durability=durability)  # type: ignore[arg-type]
    await store.open()
    for number in range(COMMITS):
        await store.commit([Append(f"session/{number % 3}", (body(number),)), Put("count", b"%d" % number)])
    shutil.copytree(store.path.parent, path.parent)
    await store.close()
    return await trio.Path(f"{path}-wal").read_bytes()


async def outcome(path: Path) -> str:
    """What became of the damage: nothing that was acknowledged is missing without a word, but for the last commit."""
    store, found, refused = DiskKnowledgeStore(path), list[bytes](), 0
    await store.open()
    for stream in range(3):
        try:
            records = await store.read(f"session/{stream}")
        except QuarantinedError:
            refused += 1
            continue
        wanted = [body(number) for number in range(stream, COMMITS, 3)]
        assert [record.body for record in records] == wanted[: len(records)]
        found += [record.body for record in records]
    known = await store.damaged()
    await store.commit([Append("new", (b"1",))])
    await store.close()
    if refused:
        return "quarantined"
    if known:
        return "repaired" if len(found) == COMMITS else "reported"
    assert len(found) >= COMMITS - 1, "commits are missing and nobody says so"
    return "harmless" if len(found) == COMMITS else "cut short"


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["anywhere", "heads of frames"])
def test_flipped_bits(tmp_path: Path, where: str) -> None:
    pristine, chance = tmp_path / "pristine" / "hub.db", random.Random(where)
    size = len(trio.run(write, pristine))
    outcomes: Counter[str] = Counter()
    for number in range(ROUNDS):
        path = tmp_path / str(number) / "hub.db"
        shutil.copytree(pristine.parent, path.parent)
        at = chance.randrange(size)
        if where != "anywhere":
            at = chance.choice(
                [chance.randrange(HEADER), (at - HEADER) // FRAME * FRAME + HEADER + chance.randrange(24)]
            )
        flip(path.with_name("hub.db-wal"), max(at, 0), chance.randrange(8))
        try:
            outcomes[trio.run(outcome, path)] += 1
        except BaseException as exc:
            exc.add_note(f"flipped a bit of byte {at} of the log")
            raise
        shutil.rmtree(path.parent)
    assert outcomes["repaired"] + outcomes["quarantined"] > ROUNDS // 2, outcomes


async def test_a_log_that_is_whole_or_cut_short_is_not_damaged(tmp_path: Path) -> None:
    log = await write(tmp_path / "store" / "hub.db")
    whole = list(frames(log))
    assert all(frame.is_good for frame in whole)
    assert sum(frame.is_commit for frame in whole) >= COMMITS
    for end in range(0, len(log) + 1, 9973):
        assert not is_damaged(frames(log[:end]))
        assert not is_damaged(frames(log[:end] + bytes(len(log) - end)))
    last = max(number for number, frame in enumerate(whole[:-1]) if frame.is_commit) + 1
    for torn in range(last, len(whole)):
        at = HEADER + torn * FRAME + 24 + 100
        assert not is_damaged(frames(log[:at] + b"torn" + log[at + 4 :])), "the last commit may not have been synced"


async def test_each_frame_that_was_safe_is_missed(tmp_path: Path) -> None:
    log = await write(tmp_path / "store" / "hub.db")
    whole = list(frames(log))
    last = max(number for number, frame in enumerate(whole[:-1]) if frame.is_commit) + 1
    for number in range(0, last - 1, 4):
        for offset in (0, 4, 8, 16, 20, 24, 4000):
            at = HEADER + number * FRAME + offset
            broken = log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]
            assert is_damaged(frames(broken)), f"byte {offset} of frame {number}"


async def test_what_an_older_generation_left_behind_is_no_damage(tmp_path: Path) -> None:
    first, second = [await write(tmp_path / name / "hub.db") for name in ("one", "two")]
    half = HEADER + 7 * FRAME
    assert first[16:24] != second[16:24], "each has salts of its own"
    assert not is_damaged(frames(first[:half] + second[half:]))
    assert not is_damaged(frames(first[:HEADER] + second[HEADER:]))


async def test_a_relaxed_store_may_be_torn_anywhere(tmp_path: Path) -> None:
    """Several of its commits may be unsynced: what is left is a beginning, not damage."""
    path = tmp_path / "store" / "hub.db"
    log = await write(path, "relaxed")
    at = HEADER + 9 * FRAME + 200
    await trio.Path(f"{path}-wal").write_bytes(log[:at] + b"torn" + log[at + 4 :])
    store = DiskKnowledgeStore(path)
    await store.open()
    assert await store.damaged() == []
    assert 0 < sum([await store.last(f"session/{stream}") for stream in range(3)]) < COMMITS
    await store.close()
    lock = await trio.Path(f"{path}-lock").read_bytes()
    assert b"relaxed" not in lock, "from now on each commit is synced"
