"""Checkpoints and resuming."""

from __future__ import annotations

import pytest
import trio

from agorio.actors.sessions.rule import LimitsBlock, Rule
from agorio.actors.sessions.tasks import TaskState
from agorio.hub.stores.protocol import KnowledgeStore
from agorio.hub.task_calls import MAX_CHECKPOINT
from agorio.mailbox.errors import ConflictError, InvalidInput, NotFoundError, TaskError
from tests.tasks.office import Office, open_office


@pytest.mark.parametrize("in_session", [True, False])
async def test_checkpoints_have_versions_and_the_last_wins(office: Office, in_session: bool) -> None:
    where = (await office.session()).session_id if in_session else None
    async with office.worker.task("x", session_id=where) as task:
        assert await office.worker.read_checkpoint(task.task_id) is None
        assert await task.checkpoint({"page": 1}, expected_version=0) == 1
        assert await task.checkpoint([1, "two", None]) == 2
        with pytest.raises(ConflictError):
            await task.checkpoint({"page": 0}, expected_version=1)
        assert await task.checkpoint("three", expected_version=2) == 3
        saved = await office.worker.read_checkpoint(task.task_id)
        assert saved is not None
        assert (saved.version, saved.state) == (3, "three")
        with pytest.raises(NotFoundError):
            await office.boss.read_checkpoint(task.task_id)
        with pytest.raises(InvalidInput, match="bytes"):
            await task.checkpoint("x" * MAX_CHECKPOINT)
    with pytest.raises(TaskError):
        await task.checkpoint({})


async def test_one_of_many_swaps_wins(office: Office) -> None:
    won: list[int] = []

    async def swap(number: int) -> None:
        try:
            await task.checkpoint(number, expected_version=0)
        except ConflictError:
            return
        won.append(number)

    async with office.worker.task("x") as task:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(swap, number)
        saved = await office.worker.read_checkpoint(task.task_id)
    assert saved is not None
    assert [saved.state] == won


async def test_resuming_after_a_failure_links_the_two(office: Office) -> None:
    session = await office.session()
    with pytest.raises(OSError, match="lost"):
        async with office.worker.task("copy", session_id=session.session_id) as first:
            await first.checkpoint({"done": 40})
            raise OSError("lost")
    async with office.worker.task("copy", session_id=session.session_id, resume_from=first.task_id) as second:
        assert second.resumed_state == {"done": 40}
        assert second.task_id != first.task_id
        assert (await office.boss.get_task(second.task_id)).resumed_from == first.task_id
    assert (await office.ends())[-1]["resumed_from"] == first.task_id
    async with office.worker.task("no session", resume_from=second.task_id) as third:
        assert third.resumed_state is None
        assert third.metadata.resumed_from == second.task_id


async def test_only_ones_own_is_resumed(office: Office) -> None:
    session = await office.session()
    async with office.worker.task("x", session_id=session.session_id) as task:
        for where in ("", session.session_id):
            with pytest.raises(NotFoundError):
                async with office.boss.task("steal", session_id=where, resume_from=task.task_id):
                    raise AssertionError("the body must not run")
        with pytest.raises(NotFoundError):
            await session.send({"title": "steal", "resume_from": task.task_id}, event_type="ag2.task.started")
    assert task.state is TaskState.COMPLETED


async def test_resuming_takes_over_from_one_still_running(store: KnowledgeStore) -> None:
    async with open_office(store) as office:
        await office.hub.set_rule(office.worker.agent_id, Rule(limits=LimitsBlock(max_concurrent_tasks=1)))
        session = await office.session()
        body = {"title": "x"}
        started = await (await office.worker.session(session.session_id)).send(body, event_type="ag2.task.started")
        assert started.task_id is not None
    async with open_office(store) as office:  # the program has crashed; for the hub its task still runs
        async with office.worker.task("x", session_id=session.session_id, resume_from=started.task_id) as task:
            old = await office.worker.wait_task(started.task_id, 1)
            assert (old.state, old.reason) == (TaskState.CANCELLED, "resumed")
        assert task.state is TaskState.COMPLETED
        assert len(await office.ends()) == 2


async def test_checkpoints_survive_a_restart(store: KnowledgeStore) -> None:
    async with open_office(store) as office:
        with trio.CancelScope() as scope:
            async with office.worker.task("x") as task:
                await task.checkpoint({"n": 1})
                await task.checkpoint({"n": 2})
                scope.cancel()
                await trio.sleep_forever()
    async with open_office(store) as office, office.worker.task("x", resume_from=task.task_id) as again:
        assert again.resumed_state == {"n": 2}
