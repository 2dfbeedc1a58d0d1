"""Every store of ours passes the public check, and the check notices stores that are not fit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agorio import Document, KnowledgeStore, Record, check_store
from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Append, Change


async def test_the_memory_store() -> None:
    async def make() -> KnowledgeStore:
        return MemoryKnowledgeStore()

    await check_store(make)


@pytest.mark.parametrize("durability", ["full", "relaxed"])
async def test_the_disk_store(tmp_path: Path, durability: Any) -> None:
    numbers = itertools.count()

    async def make() -> KnowledgeStore:
        return DiskKnowledgeStore(tmp_path / f"{next(numbers)}.db", durability=durability)

    await check_store(make)


class Forgetful(MemoryKnowledgeStore):
    async def close(self) -> None:
        await super().close()
        self._streams.clear()


class Unfenced(MemoryKnowledgeStore):
    def commit_nowait(self, changes: Sequence[Change]) -> None:
        free = [Append(one.stream, one.bodies) if isinstance(one, Append) else one for one in changes]
        super().commit_nowait(free)


class Halfway(MemoryKnowledgeStore):
    def _check_all(self, changes: Sequence[Change]) -> None:
        """Leaves the first changes made when a later one is refused."""


class Unsorted(MemoryKnowledgeStore):
    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        return (await super().scan(prefix, after, limit))[::-1]


class Endless(MemoryKnowledgeStore):
    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        return await super().read(stream, after)


@pytest.mark.parametrize("kind", [Forgetful, Unfenced, Halfway, Unsorted, Endless])
async def test_an_unfit_store_is_noticed(kind: type[MemoryKnowledgeStore]) -> None:
    async def make() -> KnowledgeStore:
        return kind()

    with pytest.raises(AssertionError, match=r"\w+"):
        await check_store(make)
