"""One network per test, under the virtual clock, over a store without a medium and over one that takes its time."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import KnowledgeStore
from tests.hub.conftest import run_in_virtual_time
from tests.hub.stores import SlowStore
from tests.tasks.office import Office, open_office

STORES = {"memory": MemoryKnowledgeStore, "slow": SlowStore}
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test here waits in real time."""
    for item in items:
        if item.path.parent == HERE and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest) -> KnowledgeStore:
    """On which store."""
    made: KnowledgeStore = STORES[request.param]()
    return made


@pytest.fixture
async def office(store: KnowledgeStore) -> AsyncIterator[Office]:
    """Two agents that leave everything to the test, on an open hub."""
    async with open_office(store) as opened:
        yield opened
