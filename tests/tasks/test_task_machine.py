"""A state machine over the tasks of two agents: any order of events, ends, clock jumps, closes and restarts."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

import attrs
import hypothesis.strategies as st
import trio
from hypothesis import settings
from hypothesis.stateful import Bundle

from agorio.actors.sessions.lifecycle import begin, fold
from agorio.actors.sessions.operations import ObserveTask, UpdateTask
from agorio.actors.sessions.tasks import WINDOW, TaskMetadata, TaskRequest, TaskSpec, fold_task
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.clock import parse_iso
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import NetworkError, SessionClosedError, TaskError
from agorio.mailbox.events import EV_TASK_CANCEL_REQUEST, EV_TASK_PROGRESS, EV_TASK_STARTED, TASK_ENDS, TASK_EVENTS
from tests.support.trio_machine import TrioStateMachine, invariant, rule
from tests.tasks.office import open_office

ENDS = st.sampled_from(sorted(TASK_ENDS))
TTL = 100.0


@attrs.define
class Expected:
    """What the model knows of one task."""

    owner: str
    session_id: str | None
    capability: str | None
    ends_at: float
    end: str | None = None


class TaskMachine(TrioStateMachine):
    """The hub against a model of every task."""

    tasks = Bundle("tasks")

    async def setup(self) -> None:
        self.store = MemoryKnowledgeStore()
        self.model: dict[str, Expected] = {}
        self.session_id: str | None = None
        await self._open()

    async def _open(self) -> None:
        self.opened = trio.Event()
        self.leave = trio.Event()
        self.nursery.start_soon(self._serve)
        await self.opened.wait()

    async def _serve(self) -> None:
        self.closed = trio.Event()
        async with open_office(self.store, ttl_sweep_interval=0) as self.office:
            self.opened.set()
            await self.leave.wait()
        self.closed.set()

    async def shutdown(self) -> None:
        self.leave.set()
        await self.closed.wait()

    @property
    def now(self) -> float:
        services = self.office.hub._services
        assert services is not None
        return services.clock.time()

    def _client(self, name: str) -> Any:
        return self.office.worker if name == "worker" else self.office.boss

    def _live(self, task_id: str) -> bool:
        task = self.model[task_id]
        return task.end is None and self.now < task.ends_at

    async def _session(self) -> str:
        if self.session_id is None:
            self.session_id = (await self.office.session()).session_id
        return self.session_id

    @rule(target=tasks, owner=st.sampled_from(["worker", "boss"]), in_session=st.booleans(), tagged=st.booleans())
    async def start(self, owner: str, in_session: bool, tagged: bool) -> str:
        client, capability = self._client(owner), "c" if tagged else None
        request = TaskRequest(TaskSpec("x", capability=capability), TTL)
        session_id = await self._session() if in_session else None
        if session_id is None:
            started = await client.connection.request(ObserveTask(client.agent_id, request))
        else:
            sent = await client.send_envelope(Envelope(session_id, "", None, EV_TASK_STARTED, request.to_data()))
            started = fold_task(None, sent)
        assert started is not None
        assert started.task_id not in self.model
        self.model[started.task_id] = Expected(owner, session_id, capability, parse_iso(started.expires_at))
        task_id: str = started.task_id
        return task_id

    async def _say(self, speaker: str, task_id: str, event: str, data: dict[str, Any]) -> None:
        client, task = self._client(speaker), self.model[task_id]
        payload = {"task_id": task_id, **data}
        if task.session_id is None:
            await client.connection.request(UpdateTask(client.agent_id, event, payload))
        else:
            await client.send_envelope(Envelope(task.session_id, "", None, event, payload))

    @rule(task_id=tasks, speaker=st.sampled_from(["worker", "boss"]), event=ENDS)
    async def end(self, task_id: str, speaker: str, event: str) -> None:
        task = self.model[task_id]
        is_late = event != "ag2.task.expired" and not self._live(task_id)
        try:
            await self._say(speaker, task_id, event, {})
        except NetworkError:
            assert speaker != task.owner or task.end is not None or is_late
        else:
            assert speaker == task.owner
            assert task.end is None
            assert not is_late
            task.end = event.rpartition(".")[2]

    @rule(task_id=tasks)
    async def progress(self, task_id: str) -> None:
        task = self.model[task_id]
        try:
            await self._say(task.owner, task_id, EV_TASK_PROGRESS, {"progress": {"n": len(self.model)}})
        except (TaskError, SessionClosedError):
            assert not self._live(task_id)
        else:
            assert self._live(task_id)

    @rule(task_id=tasks, speaker=st.sampled_from(["worker", "boss"]))
    async def ask_for_the_end(self, task_id: str, speaker: str) -> None:
        task = self.model[task_id]
        if task.session_id is None:
            return
        try:
            await self._say(speaker, task_id, EV_TASK_CANCEL_REQUEST, {"reason": "enough"})
        except (TaskError, SessionClosedError):
            assert task.end is not None

    @rule(seconds=st.sampled_from([1, 60, 120]))
    async def wait(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @rule()
    async def sweep(self) -> None:
        now = self.now
        await self.office.hub._ttl_tick()
        for task in self.model.values():
            if task.end is None and task.ends_at <= now:
                task.end = "expired"

    @rule()
    async def close_the_session(self) -> None:
        if self.session_id is not None:
            await self.office.hub.close_session(self.session_id)
            for task in self.model.values():
                if task.session_id == self.session_id and task.end is None:
                    task.end = "expired"
            self.session_id = None

    @rule()
    async def restart(self) -> None:
        await self.shutdown()
        await self._open()

    @invariant()
    async def the_hub_agrees_with_the_model(self) -> None:
        office = self.office
        stored = {task.task_id: task for task in await office.hub.list_tasks()}
        assert stored.keys() == self.model.keys()
        for task_id, task in self.model.items():
            assert stored[task_id].state == (task.end or "running")
            assert stored[task_id].session_id == task.session_id
        assert office.hub.statistics().current_tasks == sum(task.end is None for task in self.model.values())

    @invariant()
    async def every_end_is_audited_once_and_counted_once(self) -> None:
        ends = await self.office.ends()
        assert Counter(end["task_id"] for end in ends) == Counter(
            {task_id: 1 for task_id, task in self.model.items() if task.end is not None}
        )
        for name in ("worker", "boss"):
            done = [t for t in self.model.values() if t.owner == name and t.capability and t.end]
            observed = (await self.office.hub.get_resume(name)).observed
            if not done:
                assert "c" not in observed
                continue
            stat = observed["c"]
            assert (stat.completed, stat.failed, stat.expired, stat.cancelled) == tuple(
                sum(t.end == how for t in done) for how in ("completed", "failed", "expired", "cancelled")
            )
            owner = self._client(name).agent_id
            took = [e["latency_ms"] for e in ends if e["owner_id"] == owner and e["capability"] == "c" and _done(e)]
            assert stat.p50_latency_ms == (statistics.median(took[-WINDOW:]) if took else None)

    @invariant()
    async def the_log_folds_to_the_same_tasks(self) -> None:
        services = self.office.hub._services
        assert services is not None
        for session_id in {task.session_id for task in self.model.values() if task.session_id is not None}:
            cell = await services.sessions.get(session_id)
            live, tasks = begin(cell.setup, cell.adapter), dict[str, TaskMetadata | None]()
            for envelope in await self.office.hub.read_wal(session_id):
                live = fold(live, cell.adapter, envelope)
                if envelope.event_type in TASK_EVENTS:
                    task_id = str(envelope.task_id)
                    tasks[task_id] = fold_task(tasks.get(task_id), envelope)
            assert live == cell.live
            for task_id, task in tasks.items():
                assert task == await self.office.hub.get_task(task_id)


def _done(end: Any) -> bool:
    return bool(end["outcome"] == "completed")


TestTasks = TaskMachine.TestCase
TestTasks.settings = settings(max_examples=50, stateful_step_count=30, deadline=None, derandomize=True)
