"""The memory and the disk store in step: whatever is done to both, they show the same."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agorio.hub.stores import disk_writer
from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Append, Change, Put
from agorio.mailbox.errors import ConflictError

STREAMS = ("session/a", "session/b", "audit")
KEYS = ("agent/1", "cursor/a", "cursor/b", "open/a")

bodies = st.one_of(st.binary(max_size=20), st.sampled_from([b"x" * 5000, b""]))
expected = st.one_of(st.none(), st.integers(0, 6))
appends = st.builds(Append, st.sampled_from(STREAMS), st.lists(bodies, max_size=4).map(tuple), expected)
puts = st.builds(Put, st.sampled_from(KEYS), st.one_of(st.none(), bodies), expected)


class InStep(RuleBasedStateMachine):
    """Each rule is a trio run of its own; the disk store stays open in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryKnowledgeStore()
        self.disk = DiskKnowledgeStore(Path(self.folder.name) / "hub.db", durability="relaxed")
        trio.run(self.disk.open)

    def teardown(self) -> None:
        trio.run(self.disk.close)
        self.folder.cleanup()

    def same(self, ask: Callable[[Any], Awaitable[Any]]) -> None:
        async def both() -> None:
            assert await ask(self.disk) == await ask(self.memory)

        trio.run(both)

    @rule(changes=st.lists(st.one_of(appends, puts), max_size=5))
    def commit(self, changes: list[Change]) -> None:
        async def outcome(store: Any) -> dict[str, Any] | None:
            try:
                await store.commit(changes)
            except ConflictError as error:
                return error.details
            return None

        self.same(outcome)

    @rule(key=st.sampled_from(KEYS), times=st.integers(1, 15))
    def put_often(self, key: str, times: int) -> None:
        async def put(store: Any) -> None:
            for number in range(times):
                await store.commit([Put(key, b"%d" % number)])

        self.same(put)

    @rule(stream=st.sampled_from(STREAMS), after=st.integers(0, 8), limit=st.one_of(st.none(), st.integers(0, 5)))
    def read(self, stream: str, after: int, limit: int | None) -> None:
        self.same(lambda store: store.read(stream, after, limit))

    @rule(prefix=st.sampled_from(["", "c", "cursor/", "x"]), after=st.sampled_from(["", *KEYS]))
    def scan(self, prefix: str, after: str) -> None:
        self.same(lambda store: store.scan(prefix, after, 2))

    @rule()
    def reopen(self) -> None:
        trio.run(self.disk.close)
        trio.run(self.disk.open)

    @rule()
    def verify(self) -> None:
        found = trio.run(self.disk.verify)
        assert not found.damaged
        assert found.documents == len(trio.run(partial(self.memory.scan, "")))

    @invariant()
    def shows_the_same(self) -> None:
        self.same(_picture)


async def _picture(store: Any) -> tuple[object, ...]:
    return await store.scan(""), [await store.last(stream) for stream in STREAMS]


def test_in_step(monkeypatch: Any) -> None:
    # Sweeps that come after a few rows instead of thousands, so that they are part of every example.
    monkeypatch.setattr(disk_writer, "SLACK", 4)
    monkeypatch.setattr(disk_writer, "SWEEP", 8)
    machine = InStep.TestCase
    machine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
    machine("runTest").runTest()
