"""A hub that is opened again and again on what the last one left, in every way in which one can end."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import KnowledgeStore
from tests.hub.network import Network, local_link, open_on
from tests.hub.stores import SlowStore, copied

KINDS = ("memory", "slow", "disk")
# Closed in order; killed when everything lazy was written; killed with whatever was written by then.
ENDINGS = ("closed", "killed", "crashed")


class OneClock:
    """Virtual time that goes on from one hub to the next, as a wall clock does."""

    def time(self) -> float:
        return 1_800_000_000.0 + trio.current_time()


class Lives:
    """One store over several hubs."""

    def __init__(self, kind: str, ending: str, folder: Path) -> None:
        self.kind = kind
        self.ending = ending
        self._folder = folder
        self._life = 0
        self.store: KnowledgeStore = self._make()

    @property
    def is_known(self) -> bool:
        """Whether the next hub knows where every session stands without folding it."""
        return self.ending == "closed" or (self.ending == "killed" and self.kind != "memory")

    def _path(self) -> Path:
        return self._folder / f"life-{self._life}" / "hub.db"

    def _make(self) -> KnowledgeStore:
        if self.kind == "disk":
            return DiskKnowledgeStore(self._path())
        return SlowStore() if self.kind == "slow" else MemoryKnowledgeStore()

    @asynccontextmanager
    async def hub(self, **options: Any) -> AsyncIterator[Network]:
        """The next hub."""
        left: KnowledgeStore | None = None
        options.setdefault("clock", OneClock())
        async with open_on(local_link, True, self.store, **options) as net:
            yield net
            if self.ending == "killed":
                await net.hub._open_services().writer.flush()
            if self.ending != "closed":
                left = self.image()
        if left is not None:
            self.store = left
        elif self.kind == "disk":
            self.store = DiskKnowledgeStore(self._path())

    def image(self) -> KnowledgeStore:
        """What is on the medium at this moment."""
        if self.kind != "disk":
            return copied(self.store)
        before = self._path().parent
        self._life += 1
        self._path().parent.mkdir(parents=True)
        for file in before.glob("hub.db*"):
            if not file.name.endswith(("-lock", "-shm")):
                shutil.copy(file, self._path().parent)
        return DiskKnowledgeStore(self._path())
