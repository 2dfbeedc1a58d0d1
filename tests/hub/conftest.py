"""One network per test, under the virtual clock, over every kind of link and over a store with and without a medium."""

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
from tests.hub.network import MakeLink, Network, local_link, open_on
from tests.hub.stores import SlowStore
from tests.websocket.memory import open_memory_link

LINKS: dict[str, MakeLink] = {"local": local_link, "websocket": open_memory_link}
STORES: dict[str, Callable[[], KnowledgeStore]] = {"memory": MemoryKnowledgeStore, "slow": SlowStore}

HERE = Path(__file__).parent
OpenNetwork = Callable[..., AbstractAsyncContextManager[Network]]


def run_in_virtual_time(main: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`trio.run` under an autojump clock."""
    options["clock"] = MockClock(autojump_threshold=0)
    return trio.run(main, *args, **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test of the hub waits in real time."""
    for item in items:
        if item.path.parent == HERE and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))


# The store behind the hub does not see the link, so not every pair is worth its seconds.
NETWORKS = {"local": ("local", "memory"), "local-slow": ("local", "slow"), "websocket": ("websocket", "memory")}


@pytest.fixture(params=list(NETWORKS))
def network_kind(request: pytest.FixtureRequest) -> str:
    """Over which link, on which store."""
    kind: str = request.param
    return kind


@pytest.fixture(params=list(STORES))
def make_store(request: pytest.FixtureRequest) -> Callable[[], KnowledgeStore]:
    """On which store."""
    return STORES[request.param]


@pytest.fixture
def open_network(network_kind: str) -> OpenNetwork:
    """`async with open_network() as net`: a hub, its link and a client. `store=` opens it on a given store."""
    link_kind, store_kind = NETWORKS[network_kind]

    def opener(store: KnowledgeStore | None = None, **options: Any) -> AbstractAsyncContextManager[Network]:
        chosen = store if store is not None else STORES[store_kind]()
        return open_on(LINKS[link_kind], link_kind == "local", chosen, **options)

    return opener
