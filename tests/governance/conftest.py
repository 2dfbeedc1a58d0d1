"""A network per test under the virtual clock, on a store with and without a medium."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import KnowledgeStore
from tests.hub.network import Network, local_link, open_on
from tests.hub.stores import SlowStore

STORES: dict[str, Callable[[], KnowledgeStore]] = {"memory": MemoryKnowledgeStore, "slow": SlowStore}

HERE = Path(__file__).parent
OpenNetwork = Callable[..., AbstractAsyncContextManager[Network]]


def run_in_virtual_time(main: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`trio.run` under an autojump clock."""
    options["clock"] = MockClock(autojump_threshold=0)
    return trio.run(main, *args, **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test of governance waits in real time."""
    for item in items:
        if item.path.parent == HERE and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))


@pytest.fixture(params=list(STORES))
def make_store(request: pytest.FixtureRequest) -> Callable[[], KnowledgeStore]:
    """On which store."""
    return STORES[request.param]


@pytest.fixture
def open_network(make_store: Callable[[], KnowledgeStore]) -> OpenNetwork:
    """`async with open_network() as net`: a hub, its link and a client. `store=` opens it on a given store."""

    def opener(store: KnowledgeStore | None = None, **options: Any) -> AbstractAsyncContextManager[Network]:
        return open_on(local_link, True, store if store is not None else make_store(), **options)

    return opener
