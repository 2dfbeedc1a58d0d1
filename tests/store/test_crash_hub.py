"""The crash loop over a whole hub: envelopes, order, idempotency keys, states and counts after a kill at any moment.

`AGORIO_CRASH_ROUNDS=200` makes it a long one. The store lives on over all rounds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import attrs
import pytest
import trio

from agorio import EV_TEXT, DiskKnowledgeStore, Envelope, Hub, HubClient, LocalLink, Passport
from tests.store.crash_hub_child import LENGTH, SESSIONS, silent, text_of

ROUNDS = int(os.environ.get("AGORIO_CRASH_ROUNDS", "20"))
CHILD = Path(__file__).with_name("crash_hub_child.py")
pytestmark = pytest.mark.slow


@attrs.define
class Told:
    """What the child was told before it was killed, over all rounds."""

    current: dict[int, str] = attrs.Factory(dict)
    """The newest session of each pair."""
    sent: dict[str, dict[int, int]] = attrs.Factory(lambda: defaultdict(dict))
    """The sequence of each text that was accepted."""
    closed: set[str] = attrs.Factory(set)
    """Sessions that were closed."""
    handled: set[tuple[str, int]] = attrs.Factory(set)
    """Texts that a recipient had in hand."""
    settled: set[str] = attrs.Factory(set)
    """Sessions that were found closed and right, and are not looked at again."""

    def note(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            return
        kind, *words = line.decode().split()
        if kind == "open":
            self.current[int(words[0])] = words[1]
        elif kind == "sent":
            session_id, number, sequence = words[0], int(words[1]), int(words[2])
            known = self.sent[session_id].setdefault(number, sequence)
            assert known == sequence, "a retry got another result than the first"
        elif kind == "closed":
            self.closed.add(words[0])
        elif kind == "handled":
            self.handled.add((words[0], int(words[1])))


def run_and_kill(path: Path, told: Told, resume: list[tuple[str, int] | None], chance: random.Random) -> None:
    command = [sys.executable, "-P", str(CHILD), str(path), json.dumps(resume)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                told.note(line)
                if line == b"ready\n":
                    break
            for _ in range(chance.randrange(1, 600)):
                told.note(child.stdout.readline())
        finally:
            child.kill()
        for line in child.stdout:
            told.note(line)


async def check(path: Path, told: Told) -> list[tuple[str, int] | None]:
    """Compare the store with what was told; where each pair goes on."""
    resume: list[tuple[str, int] | None] = [None] * SESSIONS
    async with Hub.open(DiskKnowledgeStore(path)) as hub:
        assert hub.health().status == "ok", hub.health().reasons
        waiting: set[tuple[str, int]] = set()
        for metadata in await hub.list_sessions():
            if metadata.session_id in told.settled:
                continue
            texts = await check_log(hub, metadata.session_id, told)
            waiting |= {(metadata.session_id, number) for number in texts} - told.handled
            is_closed = str(metadata.state) == "closed"
            assert is_closed or metadata.session_id not in told.closed, "a closed session is open again"
            assert not is_closed or len(texts) == LENGTH, "a session was closed before its last text"
            if is_closed:
                told.settled.add(metadata.session_id)
            elif str(metadata.state) == "active":
                index = next(i for i, name in enumerate(names(hub)) if name == metadata.creator_id)
                resume[index] = metadata.session_id, len(texts)
        await drain(hub, waiting, told)
    return resume


def names(hub: Hub) -> list[str]:
    """The senders' ids in the order of their numbers."""
    ids = {info.name: info.agent_id for info in hub.agents()}
    return [ids.get(f"sender-{index}", "") for index in range(SESSIONS)]


async def check_log(hub: Hub, session_id: str, told: Told) -> dict[int, int]:
    """Every accepted text once, in its place, byte for byte; the sequences by number."""
    log = await hub.read_wal(session_id)
    assert [envelope.sequence for envelope in log] == list(range(1, len(log) + 1))
    texts = {int(str(one.idempotency_key)): one for one in log if one.event_type == EV_TEXT}
    assert len(texts) == sum(envelope.event_type == EV_TEXT for envelope in log), "a key was written twice"
    assert list(texts) == list(range(1, len(texts) + 1)), "texts are missing or out of order"
    assert all(envelope.text == text_of(number) for number, envelope in texts.items())
    sequences = {number: envelope.sequence for number, envelope in texts.items()}
    assert told.sent[session_id].items() <= sequences.items(), "an accepted text is missing"
    return sequences


async def drain(hub: Hub, waiting: set[tuple[str, int]], told: Told) -> None:
    """Everything that nobody had in hand is pending, and comes; then nothing is pending."""
    pending = sum(info.pending for info in hub.agents() if info.name.startswith("recipient"))
    assert pending >= len(waiting), "texts that were not handled are not pending"
    progress = trio.Event()

    async def handle(envelope: Envelope) -> None:
        if envelope.event_type == EV_TEXT:
            told.handled.add((envelope.session_id, int(str(envelope.idempotency_key))))
            if waiting <= told.handled:
                progress.set()

    if waiting:
        hc = HubClient(LocalLink(hub), hub=hub)
        with trio.fail_after(120):
            for index in range(SESSIONS):
                await hc.register(silent, Passport(f"recipient-{index}"), handler=handle, attach=True)
            await progress.wait()
        await hc.close()


def test_a_hub_that_is_killed_at_random(tmp_path: Path) -> None:
    path, chance, told = tmp_path / "hub.db", random.Random(5), Told()
    resume: list[tuple[str, int] | None] = [None] * SESSIONS
    for _ in range(ROUNDS):
        before = sum(map(len, told.sent.values()))
        run_and_kill(path, told, resume, chance)
        resume = trio.run(check, path, told)
        assert sum(map(len, told.sent.values())) >= before
    assert sum(map(len, told.sent.values())) > ROUNDS
