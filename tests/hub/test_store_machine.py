"""`MemoryKnowledgeStore` against dicts: every commit is all or nothing, and reading tells the truth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Append, Change, KnowledgeStore, NowaitStore, Put
from agorio.mailbox.errors import ConflictError
from tests.hub.stores import SlowStore
from tests.support.trio_machine import TrioStateMachine, invariant, rule

KEYS = st.sampled_from(["a", "a/1", "a/2", "b/1", "b/ü"])
BODIES = st.lists(st.binary(max_size=5), min_size=1, max_size=3)
EXPECTED = st.sampled_from([None, None, 0, 1, 2, 3])
APPENDS = st.builds(lambda stream, bodies, at: Append(stream, tuple(bodies), at), KEYS, BODIES, EXPECTED)
PUTS = st.builds(Put, KEYS, st.none() | st.binary(max_size=5), EXPECTED)


class Model:
    """What a store is, in the plainest words."""

    def __init__(self) -> None:
        self.streams: dict[str, list[bytes]] = {}
        self.documents: dict[str, tuple[int, bytes]] = {}

    def commit(self, changes: list[Change]) -> bool:
        """Whether every expectation held; nothing has changed otherwise."""
        streams = {key: list(bodies) for key, bodies in self.streams.items()}
        documents = dict(self.documents)
        for change in changes:
            if isinstance(change, Append):
                stream = streams.setdefault(change.stream, [])
                if change.expected not in (None, len(stream)):
                    return False
                stream.extend(change.bodies)
            elif isinstance(change, Put):
                version = documents.get(change.key, (0, b""))[0]
                if change.expected not in (None, version):
                    return False
                documents.pop(change.key, None)
                if change.body is not None:
                    documents[change.key] = (version + 1, change.body)
        self.streams, self.documents = streams, documents
        return True


class StoreMachine(TrioStateMachine):
    """Commits of several changes, some of them against the expectations."""

    async def setup(self) -> None:
        self.store: KnowledgeStore = MemoryKnowledgeStore()
        self.model = Model()
        await self.store.open()

    @rule(changes=st.lists(APPENDS | PUTS, min_size=1, max_size=4))
    async def commit(self, changes: list[Change]) -> None:
        if self.model.commit(changes):
            await self.store.commit(changes)
        else:
            with pytest.raises(ConflictError):
                await self.store.commit(changes)

    @rule()
    async def reopen(self) -> None:
        await self.store.close()
        await self.store.close()
        await self.store.open()

    @rule(stream=KEYS, after=st.integers(0, 6), limit=st.none() | st.integers(0, 3))
    async def read(self, stream: str, after: int, limit: int | None) -> None:
        bodies = self.model.streams.get(stream, [])
        expected = list(enumerate(bodies, 1))[after:][:limit]
        assert [tuple(record) for record in await self.store.read(stream, after, limit)] == expected

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "b/", "c"]),
        after=st.sampled_from(["", "a/1", "z"]),
        limit=st.none() | st.integers(1, 2),
    )
    async def scan(self, prefix: str, after: str, limit: int | None) -> None:
        keys = sorted(key for key in self.model.documents if key.startswith(prefix) and key > after)[:limit]
        assert [(d.key, d.version, d.body) for d in await self.store.scan(prefix, after, limit)] == [
            (key, *self.model.documents[key]) for key in keys
        ]

    @invariant()
    async def reading_tells_the_truth(self) -> None:
        for stream in ("a", "a/1", "b/1"):
            assert await self.store.last(stream) == len(self.model.streams.get(stream, ()))
            document = await self.store.get(stream)
            expected = self.model.documents.get(stream)
            assert (None if document is None else (document.version, document.body)) == expected


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_which_stores_need_no_writer() -> None:
    assert isinstance(MemoryKnowledgeStore(), NowaitStore)
    assert not isinstance(SlowStore(), NowaitStore)
    stores: list[Any] = [MemoryKnowledgeStore(), SlowStore()]
    assert all(isinstance(store, KnowledgeStore) for store in stores)
