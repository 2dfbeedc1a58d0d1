"""What remains of a task: the audit, the track record, the stored task; once each, and across restarts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs
import pytest
import trio

from agorio.actors.sessions.identity import ObservedStat, Passport, Resume
from agorio.actors.sessions.tasks import TaskState
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Change, KnowledgeStore, Put
from agorio.hub.track_records import MAX_CAPABILITIES
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput, StoreError
from agorio.mailbox.events import EV_TASK_COMPLETED, EV_TASK_STARTED
from tests.hub.stores import FailingStore, SlowStore
from tests.tasks.office import Office, open_office


async def work(office: Office, seconds: float, how: str, where: str = "") -> None:
    """One task that shows the capability and ends as told."""
    async with office.worker.task("x", capability="c", session_id=where, ttl=50) as task:
        await trio.sleep(seconds)
        if how == "failed":
            await task.fail("no")
        elif how == "cancelled":
            task.cancel("no")
            await trio.sleep_forever()
        elif how == "expired":
            await trio.sleep_forever()


async def test_the_track_record_of_many_ends(office: Office) -> None:
    session = await office.session()
    plan = [(3, "completed"), (1, "completed"), (9, "failed"), (2, "completed"), (1, "cancelled"), (1, "expired")]
    for index, (seconds, how) in enumerate(plan):
        await work(office, seconds, how, session.session_id if index % 2 else "")
    stat = await office.observed("c")
    assert (stat.n, stat.completed, stat.failed, stat.expired, stat.cancelled) == (6, 3, 1, 1, 1)
    ends = await office.ends()
    done = [end["latency_ms"] for end in ends if end["outcome"] == "completed"]
    assert stat.p50_latency_ms == statistics.median(done) == sorted(done)[1]
    assert [end["outcome"] for end in ends] == [how for _, how in plan]
    first = ends[0]
    assert first.keys() >= {"task_id", "owner_id", "session_id", "outcome", "capability", "reason", "latency_ms"}
    assert [p.name for p in await office.hc.list_agents(capability="c")] == ["worker"]


async def test_ends_at_the_same_time_are_all_counted(office: Office) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(work, office, 1, "failed" if number % 4 == 0 else "completed")
    stat = await office.observed("c")
    assert (stat.n, stat.completed, stat.failed) == (20, 15, 5)


async def test_a_restart_forgets_nothing_and_counts_nothing_twice(store: KnowledgeStore) -> None:
    async with open_office(store) as office:
        session = await office.session()
        await work(office, 1, "completed")
        await work(office, 3, "completed", session.session_id)
        before, ends = await office.observed("c"), await office.ends()
        tasks = await office.hub.list_tasks()
    async with open_office(store) as office:
        assert await office.observed("c") == before
        assert await office.ends() == ends
        assert await office.hub.list_tasks() == tasks
        await work(office, 2, "failed", session.session_id)
        stat = await office.observed("c")
        assert (stat.n, stat.completed, stat.failed, stat.p50_latency_ms) == (3, 2, 1, before.p50_latency_ms)


async def test_a_running_task_survives_a_restart_and_ends_once(store: KnowledgeStore) -> None:
    async with open_office(store) as office:
        session = await office.session()
        start = Envelope(session.session_id, "", None, EV_TASK_STARTED, {"title": "x", "capability": "c", "ttl": "1h"})
        started = await office.worker.send_envelope(start)
        assert started.task_id is not None
    async with open_office(store) as office:
        task = await office.hub.get_task(started.task_id)
        assert task.state is TaskState.RUNNING
        end = Envelope(session.session_id, "", None, EV_TASK_COMPLETED, {"task_id": started.task_id, "result": 7})
        await office.worker.send_envelope(end)
        assert (await office.worker.wait_task(started.task_id)).result == 7
    async with open_office(store) as office:
        assert office.hub.statistics().current_tasks == 0
        assert [e["outcome"] for e in await office.ends()] == ["completed"]
        assert (await office.observed("c")).n == 1


async def test_a_task_whose_program_crashed_expires_after_the_restart(store: KnowledgeStore) -> None:
    async with open_office(store) as office:
        session = await office.session(ttl="10h")
        start = Envelope(session.session_id, "", None, EV_TASK_STARTED, {"title": "x", "capability": "c", "ttl": "1h"})
        await office.worker.send_envelope(start)
    async with open_office(store) as office:
        await trio.sleep(3700)
        assert [e["reason"] for e in await office.ends()] == ["ttl_expired"]
        assert (await office.observed("c")).expired == 1


async def test_a_tenant_never_writes_its_own_record(office: Office) -> None:
    await work(office, 1, "completed")
    true = (await office.hub.get_resume(office.worker.agent_id)).observed
    forged = Resume(summary="best", observed={"c": ObservedStat(n=1000, completed=1000)})
    assert (await office.worker.set_resume(forged)).observed == true
    assert (await office.hub.set_resume(office.worker.agent_id, forged)).observed == true
    again = await office.hc.register(None, Passport("worker"), forged, attach=True, attach_plugin=False)
    assert again.resume.observed == true
    fresh = await office.hc.register(None, Passport("fresh"), forged, attach_plugin=False)
    assert fresh.resume.observed == {}
    assert (await office.hub.get_resume(office.worker.agent_id)).observed == true


async def test_a_change_of_the_resume_and_an_end_at_the_same_time_both_last() -> None:
    store = SlowStore(seconds=0.5)
    async with open_office(store) as office:

        async def tell() -> None:
            for number in range(20):
                await office.worker.set_resume(Resume(summary=str(number)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            for number in range(10):
                nursery.start_soon(work, office, number / 3, "completed")
        resume = await office.hub.get_resume(office.worker.agent_id)
        assert (resume.summary, resume.observed["c"].n) == ("19", 10)
    async with open_office(store) as office:
        stored = await office.hub.get_resume(office.worker.agent_id)
        assert (stored.summary, stored.observed) == (resume.summary, resume.observed)


async def test_the_end_is_one_commit() -> None:
    class Recording(MemoryKnowledgeStore):
        def __init__(self) -> None:
            super().__init__()
            self.commits: list[set[str]] = []

        def commit_nowait(self, changes: Sequence[Change]) -> None:
            self.commits.append({c.key if isinstance(c, Put) else c.stream for c in changes})
            super().commit_nowait(changes)

    store = Recording()
    async with open_office(store) as office:
        session = await office.session()
        async with office.worker.task("x", session_id=session.session_id, capability="c") as task:
            pass
        [whole] = [commit for commit in store.commits if f"task/{task.task_id}" in commit]
    log, record = f"session/{session.session_id}", f"observed/{office.worker.agent_id}/c"
    assert {log, record, f"task/{task.task_id}", "audit"} <= whole


async def test_an_end_that_cannot_be_written_has_not_happened() -> None:
    broken = False

    def refuses(changes: Sequence[Change]) -> bool:
        return broken and any(isinstance(change, Put) and change.key.startswith("task/") for change in changes)

    store = FailingStore(refuses)
    async with open_office(store) as office:
        session = await office.session()
        for where in ("", session.session_id):
            async with office.worker.task("x", session_id=where, capability="c") as task:
                broken = True
                with pytest.raises(StoreError):
                    await task.complete(1)
                assert task.state is TaskState.RUNNING
                broken = False
                await task.complete(2)
        stat = await office.observed("c")
        assert (stat.n, stat.completed) == (2, 2)
        assert len(await office.ends()) == 2
        await office.hub.audit_log.read_all()


async def test_a_failed_commit_leaves_no_trace_in_the_record() -> None:
    """An end is committed on top of one that then fails: the stored record must count only what happened."""

    class Flaky(SlowStore):
        fails = 0

        async def commit(self, changes: Sequence[Change]) -> None:
            if self.fails and any(isinstance(c, Put) and c.key.startswith("observed/") for c in changes):
                self.fails -= 1
                await trio.sleep(1)
                raise StoreError("once")
            await super().commit(changes)

    store = Flaky(seconds=0.1)
    async with open_office(store) as office:
        outcomes: list[str] = []

        async def one(delay: float) -> None:
            try:
                async with office.worker.task("x", capability="c") as task:
                    await trio.sleep(delay)
                    await task.complete(delay)
                outcomes.append(task.state)
            except StoreError:
                outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            store.fails = 1
            for number in range(3):
                nursery.start_soon(one, 5 + number / 2)
        live = await office.observed("c")
        assert live.n == len(await office.ends())
        async with office.worker.task("flush", capability="d"):
            pass
    async with open_office(store) as office:
        assert await office.observed("c") == live


async def test_capabilities_are_bounded(office: Office) -> None:
    entry = office.hub._services.directory.entry("worker")  # type: ignore[union-attr]
    many = {f"c{number}": ObservedStat(1, 1) for number in range(MAX_CAPABILITIES)}
    entry.stored = attrs.evolve(entry.stored, resume=attrs.evolve(entry.resume, observed=many))
    async with office.worker.task("known", capability="c0"):
        pass
    with pytest.raises(InvalidInput, match="256 capabilities"):
        async with office.worker.task("new", capability="new"):
            raise AssertionError("the body must not run")


async def test_an_unregistered_agent_leaves_no_record(store: KnowledgeStore) -> None:
    async with open_office(store) as office:
        await work(office, 1, "completed")
        await office.worker.unregister()
        await office.hub.audit_log.read_all()
    async with Hub.open(store):
        assert await store.scan("observed/") == []
        assert await store.scan("running/") == []
