"""Stores on real files in a folder of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from agorio.hub.stores.disk import DiskKnowledgeStore

OpenDisk = Callable[..., AbstractAsyncContextManager[DiskKnowledgeStore]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store" / "hub.db"


@pytest.fixture
def opened(path: Path) -> OpenDisk:
    """`async with opened() as store`: the store on `path`, closed at the end."""

    @asynccontextmanager
    async def opener(where: Path = path, **options: Any) -> AsyncIterator[DiskKnowledgeStore]:
        store = DiskKnowledgeStore(where, **options)
        await store.open()
        try:
            yield store
        finally:
            with trio.CancelScope(shield=True):
                await store.close()

    return opener
