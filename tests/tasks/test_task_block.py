"""The block: how its body ends, and what the hub and the session see of it."""

from __future__ import annotations

import pytest
import trio

from agorio.actors.agents.handler import AGENT_CLIENT_DEP
from agorio.actors.agents.task_owner import task as task_of_turn
from agorio.actors.agents.tasks import current_task
from agorio.actors.sessions.identity import Passport
from agorio.actors.sessions.rule import LimitsBlock, Rule
from agorio.actors.sessions.tasks import TaskState
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AccessDeniedError, InvalidInput, NotFoundError, TaskError
from agorio.mailbox.events import EV_TASK_COMPLETED, EV_TASK_PROGRESS, EV_TASK_STARTED, EV_TEXT, TASK_EVENTS
from tests.tasks.office import Office


async def test_a_task_of_a_session_is_said_there(office: Office) -> None:
    session = await office.session()
    options = {"description": "long", "payload": {"pages": 9}, "capability": "translation"}
    async with office.worker.task("translate", session_id=session.session_id, **options) as task:  # type: ignore[arg-type]
        assert current_task() is task
        await task.progress({"pages": 3})
        await task.progress({"words": 900})
        await trio.sleep(2)
        metadata = await task.complete({"text": "hello"})
    assert current_task() is None
    assert task.state is TaskState.COMPLETED
    assert await office.told(session.session_id) == ["started", "progress", "progress", "completed"]
    said = await office.said(session.session_id)
    assert {envelope.task_id for envelope in said} == {task.task_id} == {e.event_data["task_id"] for e in said}
    seen = await office.boss.get_task(task.task_id)
    assert seen == metadata == await office.hub.get_task(task.task_id) == task.metadata
    assert seen.progress == {"pages": 3, "words": 900}
    assert seen.result == {"text": "hello"}
    assert seen.latency_ms is not None
    assert 2000 <= seen.latency_ms < 2500


async def test_a_task_without_a_session_is_nobody_elses(office: Office) -> None:
    async with office.worker.task("alone") as task:
        await task.progress({"a": 1})
        assert [t.task_id for t in await office.worker.list_tasks()] == [task.task_id]
        assert await office.boss.list_tasks() == ()
        with pytest.raises(NotFoundError):
            await office.boss.get_task(task.task_id)
        with pytest.raises(NotFoundError):
            await office.boss.cancel_task(task.task_id)
        with pytest.raises(NotFoundError):
            await office.boss.wait_task(task.task_id)
    with pytest.raises(NotFoundError):
        await office.boss.get_task(task.task_id)
    assert (await office.worker.get_task(task.task_id)).state is TaskState.COMPLETED
    assert (await office.worker.get_task(task.task_id)).progress == {"a": 1}


async def test_a_session_of_others_shows_nothing(office: Office) -> None:
    session = await office.session()
    other = await office.hc.register(None, Passport("other"), attach_plugin=False)
    async with office.worker.task("x", session_id=session.session_id) as task:
        assert await other.list_tasks(session_id=session.session_id) == ()
        with pytest.raises(NotFoundError):
            await other.get_task(task.task_id)
        assert [t.owner_id for t in await office.boss.list_tasks()] == [office.worker.agent_id]


@pytest.mark.parametrize("in_session", [True, False])
async def test_how_a_body_ends_is_how_its_task_ends(office: Office, in_session: bool) -> None:
    where = (await office.session()).session_id if in_session else None
    async with office.worker.task("clean", session_id=where) as clean:
        pass
    with pytest.raises(ValueError, match="broken"):
        async with office.worker.task("raising", session_id=where) as raising:
            raise ValueError("broken")
    with pytest.RaisesGroup(ValueError):
        async with office.worker.task("group", session_id=where) as group, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("inside")
    with trio.CancelScope() as scope:
        async with office.worker.task("outer", session_id=where) as outer:
            scope.cancel()
            await trio.sleep_forever()
    async with office.worker.task("own", session_id=where) as own:
        own.cancel("changed my mind")
        await trio.sleep_forever()
    async with office.worker.task("failing", session_id=where) as failing:
        await failing.fail("no luck")
    states = [t.state for t in (clean, raising, group, outer, own, failing)]
    assert states == ["completed", "failed", "failed", "cancelled", "cancelled", "failed"]
    assert raising.metadata.error == "ValueError: broken"
    assert own.metadata.reason == "changed my mind"
    assert failing.metadata.error == "no luck"
    assert [end["outcome"] for end in await office.ends()] == states
    for task in (clean, raising, group, outer, own, failing):
        assert await office.worker.get_task(task.task_id) == task.metadata
    assert office.hub.statistics().current_tasks == 0


async def test_an_end_is_for_good(office: Office) -> None:
    async with office.worker.task("x") as task:
        await task.complete(1)
        for again in (task.complete(2), task.fail("no"), task.progress({"a": 1}), task.checkpoint({})):
            with pytest.raises(TaskError):
                await again
        task.cancel("late")
        await trio.sleep(10_000)  # its TTL has no power over it any more
    assert (await office.worker.get_task(task.task_id)).result == 1
    assert len(await office.ends()) == 1


async def test_the_cap_refuses_before_the_body_runs(office: Office) -> None:
    await office.hub.set_rule(office.worker.agent_id, Rule(limits=LimitsBlock(max_concurrent_tasks=2)))
    session = await office.session()
    ran = 0
    async with office.worker.task("a"), office.worker.task("b", session_id=session.session_id):
        for where in ("", session.session_id):
            with pytest.raises(AccessDeniedError, match="max_concurrent_tasks"):
                async with office.worker.task("c", session_id=where):
                    ran += 1
        async with office.boss.task("another owner's"):
            pass
    async with office.worker.task("d"):
        ran += 10
    assert ran == 10


async def test_the_cap_holds_under_concurrency(office: Office) -> None:
    await office.hub.set_rule(office.worker.agent_id, Rule(limits=LimitsBlock(max_concurrent_tasks=3)))
    session = await office.session()
    running = peak = refused = 0

    async def one(where: str) -> None:
        nonlocal running, peak, refused
        try:
            async with office.worker.task("x", session_id=where):
                running += 1
                peak = max(peak, running)
                await trio.sleep(1)
                running -= 1
        except AccessDeniedError:
            refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, session.session_id if number % 2 else "")
    assert (peak, refused) == (3, 17)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"title": "x", "task_id": "mine"}, InvalidInput),
        ({"title": ""}, InvalidInput),
        ({"title": "x", "resume_from": "unknown"}, NotFoundError),
    ],
)
async def test_a_bad_start_is_refused(office: Office, data: dict[str, object], error: type[Exception]) -> None:
    session = await office.session()
    with pytest.raises(error):
        await session.send(data, event_type=EV_TASK_STARTED)
    assert await office.told(session.session_id) == []


async def test_a_bad_title_is_refused_with_and_without_a_session(office: Office) -> None:
    session = await office.session()
    for where in ("", session.session_id):
        with pytest.raises(InvalidInput, match="title"):
            async with office.worker.task("", session_id=where):
                raise AssertionError("the body must not run")


async def test_nobody_else_speaks_of_a_task(office: Office) -> None:
    session = await office.session()
    async with office.worker.task("x", session_id=session.session_id) as task:
        for event, data in ((EV_TASK_PROGRESS, {"progress": {}}), (EV_TASK_COMPLETED, {"result": 1})):
            with pytest.raises(TaskError, match="only its owner"):
                await session.send({"task_id": task.task_id, **data}, event_type=event)
    assert await office.told(session.session_id) == ["started", "completed"]


async def test_members_see_it_and_it_takes_no_turn(office: Office) -> None:
    asked: list[str] = []

    async def peer(text: str) -> str:
        asked.append(text)
        return ""

    await office.hc.register(peer, Passport("peer"))
    session = await office.worker.open("discussion", ["peer", "boss"])
    async with office.worker.task("x", session_id=session.session_id) as task:
        await task.progress({"a": 1})
    found = await office.boss.wait_for_session_event(session.session_id, lambda e: e.event_type == EV_TASK_COMPLETED)
    assert found.task_id == task.task_id
    await trio.sleep(1)
    assert asked == []
    assert {info.name: info.pending for info in office.hub.agents()} == {"boss": 0, "peer": 0, "worker": 0}


async def test_inside_a_turn_the_session_is_the_turns(office: Office) -> None:
    async def helper(text: str, dependencies: dict[str, object]) -> str:
        async with dependencies[AGENT_CLIENT_DEP].task("by client") as one:  # type: ignore[attr-defined]
            async with task_of_turn("by turn", capability="help") as two:
                await two.complete("fine")
            assert current_task() is not two
        return f"{one.session_id == two.session_id}"

    agent = await office.hc.register(helper, Passport("helper"))
    session = await office.boss.open("consulting", "helper")
    answer = await session.ask("please")
    assert answer.text == "True"
    assert await office.told(session.session_id) == ["started", "started", "completed", "completed"]
    log = [e.event_type for e in await office.hub.read_wal(session.session_id)]
    assert log[-2:] == [EV_TEXT, "ag2.session.closed"]
    assert (await office.hub.get_resume(agent.agent_id)).observed["help"].completed == 1


async def test_outside_a_turn_there_is_no_task_of_a_turn() -> None:
    with pytest.raises(TaskError, match="no turn"):
        task_of_turn("x")


async def test_waiting_is_woken_by_the_end(office: Office) -> None:
    async with trio.open_nursery() as nursery, office.worker.task("x") as task:
        nursery.start_soon(office.worker.wait_task, task.task_id)
        with pytest.raises(TimeoutError):
            await office.worker.wait_task(task.task_id, 1.0)
        await trio.sleep(2)
    assert (await office.worker.wait_task(task.task_id)).state is TaskState.COMPLETED
    with pytest.raises(NotFoundError):
        await office.worker.wait_task("unknown")


async def test_lists_filter_before_they_cut(office: Office) -> None:
    session = await office.session()
    for number in range(5):
        capability = "c" if number < 2 else None
        async with office.worker.task(f"w{number}", session_id=session.session_id, capability=capability):
            pass
        async with office.boss.task(f"b{number}", session_id=session.session_id):
            pass
    async with office.worker.task("running", session_id=session.session_id):
        worker = office.worker.agent_id
        ended = await office.boss.list_tasks(owner_id=worker, state="ended", limit=2)
        assert [t.spec.title for t in ended] == ["w4", "w3"]
        assert [t.spec.title for t in await office.boss.list_tasks(capability="c")] == ["w1", "w0"]
        assert [t.spec.title for t in await office.boss.list_tasks(state="running")] == ["running"]
        assert len(await office.hub.list_tasks(session_id=session.session_id)) == 11
        assert len(await office.hub.list_tasks(limit=3)) == 3
        with pytest.raises(InvalidInput, match="state"):
            await office.boss.list_tasks(state="odd")


async def test_a_custom_handler_is_shown_task_events(office: Office) -> None:
    session = await office.session()
    heard: list[str] = []

    async def hear(envelope: Envelope) -> None:
        heard.append(envelope.event_type)

    office.boss.on_envelope(hear)
    async with office.worker.task("x", session_id=session.session_id):
        pass
    await trio.sleep(1)
    assert [event for event in heard if event in TASK_EVENTS] == [EV_TASK_STARTED, EV_TASK_COMPLETED]
