"""Cancelling a block at each of its checkpoints in turn: whatever was started ends, once, and nothing stays behind."""

from __future__ import annotations

import pytest
import trio

from agorio.hub.stores.protocol import KnowledgeStore
from tests.hub.stores import SlowStore
from tests.tasks.office import Office, open_office


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when one task has yielded so many times."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.scope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def run_block(office: Office, where: str, steps: int) -> bool:
    """Run a block, cancelled after so many steps; whether it got to its end before that."""
    cut = CancelAtStep(steps)
    trio.lowlevel.add_instrument(cut)
    try:
        with cut.scope:
            cut.task = trio.lowlevel.current_task()
            async with office.worker.task("x", session_id=where, capability="c") as task:
                await task.progress({"a": 1})
                await task.checkpoint({"b": 2})
                await trio.sleep(0.1)
                await task.complete("done")
            cut.task = None
    finally:
        trio.lowlevel.remove_instrument(cut)
    return cut.left > 0


@pytest.mark.parametrize("in_session", [True, False])
async def test_cancelled_anywhere(store: KnowledgeStore, in_session: bool) -> None:
    async with open_office(store) as office:
        where = (await office.session()).session_id if in_session else ""
        steps, is_whole = 0, False
        while not is_whole:
            steps += 1
            is_whole = await run_block(office, where, steps)
            await trio.sleep(5)
            assert office.hub.statistics().current_tasks == 0
            assert len(office.hc.connection.calls) == 0
        ends, tasks = await office.ends(), await office.hub.list_tasks()
        assert len({end["task_id"] for end in ends}) == len(ends) == len(tasks)
        assert {end["outcome"] for end in ends} == {"cancelled", "completed"}
        stat = await office.observed("c")
        assert (stat.n, stat.completed + stat.cancelled) == (len(ends), len(ends))
        assert steps > 4


@pytest.mark.parametrize("in_session", [True, False])
async def test_a_start_whose_caller_has_given_up_is_taken_back(in_session: bool) -> None:
    async with open_office(SlowStore(seconds=1)) as office:
        where = (await office.session()).session_id if in_session else ""
        with trio.move_on_after(0.5):
            async with office.worker.task("x", session_id=where):
                raise AssertionError("the body must not run")
        await trio.sleep(10)
        [end] = await office.ends()
        assert (end["outcome"], end["reason"]) == ("cancelled", "abandoned")
