"""Ten thousand tasks: what has ended is in the store and nowhere else."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import pytest
import trio

from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Change
from agorio.hub.tasks import SLACK
from tests.tasks.office import Office, open_office

MANY = 10_000


class Forgetful(MemoryKnowledgeStore):
    """A store whose documents of ended tasks and audit records take no memory, so that what is measured is the hub."""

    def commit_nowait(self, changes: Sequence[Change]) -> None:
        super().commit_nowait(changes)
        for key in [key for key in self._documents if key.startswith("task/")]:
            del self._documents[key]
        for bodies in self._streams.values():
            bodies[:] = [b""] * len(bodies)


async def run_many(office: Office, count: int) -> None:
    """So many tasks one after the other."""
    for _ in range(count):
        async with office.worker.task("x", capability="c"):
            pass


async def test_memory_is_bounded() -> None:
    async with open_office(Forgetful(), ttl_sweep_interval=0) as office:
        await run_many(office, 2_000)
        gc.collect()
        tracemalloc.start()
        try:
            await run_many(office, 500)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await run_many(office, 1_000)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 200 * 1_000  # under 200 bytes a task: the store's bookkeeping, and deadlines until they are due
        services = office.hub._services
        assert services is not None
        assert len(services.tasks) == 0
        assert len(services.tasks._due) <= SLACK + 1
        assert len(office.hc.connection.calls) == 0


@pytest.mark.slow
async def test_ten_thousand_at_once_and_one_after_the_other() -> None:
    async with open_office(MemoryKnowledgeStore(), ttl_sweep_interval=0) as office:
        await run_many(office, MANY)
        together = trio.Event()
        running = 0

        async def one() -> None:
            nonlocal running
            async with office.worker.task("x", capability="c"):
                running += 1
                if running == MANY:
                    together.set()
                await together.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                nursery.start_soon(one)
        stat = await office.observed("c")
        assert (stat.n, stat.completed) == (2 * MANY, 2 * MANY)
        assert office.hub.statistics().current_tasks == 0
        assert len(await office.hub.list_tasks(limit=1000)) == 1000


async def test_a_session_of_many_tasks_holds_only_running_ones() -> None:
    async with open_office(MemoryKnowledgeStore()) as office:
        session = await office.session()
        for _ in range(500):
            async with office.worker.task("x", session_id=session.session_id):
                pass
        services = office.hub._services
        assert services is not None
        cell = services.sessions.resident(session.session_id)
        assert cell is not None
        assert cell.live.tasks == {}
        assert len(await office.said(session.session_id)) == 1000
