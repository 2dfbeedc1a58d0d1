"""The crash loop: a child prints what was acknowledged and is killed at random; nothing printed may be missing.

`AGORIO_CRASH_ROUNDS=200` makes it a long one. The store lives on over all rounds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from agorio.hub.stores.disk import DiskKnowledgeStore
from tests.store.crash_child import SESSIONS, body

ROUNDS = int(os.environ.get("AGORIO_CRASH_ROUNDS", "20"))
CHILD = Path(__file__).with_name("crash_child.py")
pytestmark = pytest.mark.slow


def run_and_kill(path: Path, chance: random.Random) -> dict[int, int]:
    """How far each session was acknowledged when the child was killed, in the middle of its work."""
    acknowledged: dict[int, int] = {}
    patience = chance.randrange(1, 400)
    command = [sys.executable, "-P", str(CHILD), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            for _ in range(patience):
                note(acknowledged, child.stdout.readline())
        finally:
            child.kill()
        for line in child.stdout:
            note(acknowledged, line)
    return acknowledged


def note(acknowledged: dict[int, int], line: bytes) -> None:
    if line.endswith(b"\n"):
        session, sequence = map(int, line.split())
        acknowledged[session] = sequence


async def check(path: Path, acknowledged: dict[int, int]) -> int:
    """Every session is there as far as it was acknowledged, at most one record further, in order and unharmed."""
    store = DiskKnowledgeStore(path)
    await store.open()
    total = 0
    for session in range(SESSIONS):
        records = await store.read(f"session/{session}")
        assert [record.body for record in records] == [body(session, n) for n in range(1, len(records) + 1)]
        known = acknowledged.get(session)
        assert known is None or known <= len(records) <= known + 1, f"session {session} lost acknowledged records"
        count = await store.get(f"count/{session}")
        assert (count.body if count else b"0") == b"%d" % len(records), "one commit was torn in two"
        total += len(records)
    assert await store.damaged() == []
    assert (await store.verify()).damaged == ()
    await store.close()
    return total


def test_killed_at_random(tmp_path: Path) -> None:
    path, chance, total = tmp_path / "hub.db", random.Random(3), 0
    for _ in range(ROUNDS):
        acknowledged = run_and_kill(path, chance)
        before, total = total, trio.run(check, path, acknowledged)
        assert total > before
