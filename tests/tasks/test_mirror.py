"""Tasks of wrapped agents, told on the stream of a turn."""

from __future__ import annotations

from typing import Any

import trio

from agorio.actors.agents.stream import MemoryStream, TaskEvent
from agorio.actors.sessions.identity import Passport
from tests.tasks.office import Office


class Wrapped:
    """An agent of a framework with tasks of its own, which it tells of on the stream."""

    name = "wrapped"

    def __init__(self, *events: TaskEvent, pause: float = 0.0, error: Exception | None = None) -> None:
        self.events = events
        self.pause = pause
        self.error = error

    async def ask(self, text: str, stream: Any) -> str:
        for event in self.events:
            stream.emit(event)
        await trio.sleep(self.pause)
        if self.error is not None:
            raise self.error
        return "done"


async def consult(office: Office, agent: Wrapped) -> tuple[str, str]:
    """One consultation; its session and the answer."""
    await office.hc.register(agent)
    session = await office.boss.open("consulting", "wrapped")
    return session.session_id, (await session.ask("please")).text


async def test_the_life_of_a_task_is_said_in_the_session(office: Office) -> None:
    agent = Wrapped(
        TaskEvent("1", "started", {"title": "dig", "capability": "digging"}),
        TaskEvent("2", "started", {"title": "fill"}),
        TaskEvent("1", "progress", {"progress": {"deep": 1}}),
        TaskEvent("1", "completed", {"result": "hole"}),
        TaskEvent("2", "failed", {"error": "no earth"}),
    )
    session_id, answer = await consult(office, agent)
    assert answer == "done"
    assert await office.told(session_id) == ["started", "started", "progress", "completed", "failed"]
    assert [(end["title"], end["outcome"]) for end in await office.ends()] == [("dig", "completed"), ("fill", "failed")]
    [task] = await office.boss.list_tasks(capability="digging")
    assert (task.progress, task.result) == ({"deep": 1}, "hole")
    assert (await office.hub.get_resume("wrapped")).observed["digging"].completed == 1


async def test_what_has_no_end_by_the_end_of_the_turn_is_cancelled(office: Office) -> None:
    session_id, _ = await consult(office, Wrapped(TaskEvent("1", "started", {"title": "dig"})))
    assert await office.told(session_id) == ["started", "cancelled"]
    [end] = await office.ends()
    assert end["reason"] == "turn_ended"


async def test_failures_of_the_mirror_are_reported_and_the_turn_goes_on(office: Office) -> None:
    agent = Wrapped(
        TaskEvent("1", "started", {"title": ""}),
        TaskEvent("2", "progress", {"progress": {}}),
        TaskEvent("3", "started", {"title": "fine"}),
        TaskEvent("3", "completed", {"odd": 1}),
        TaskEvent("3", "completed"),
        TaskEvent("3", "completed"),
    )
    session_id, answer = await consult(office, agent)
    assert answer == "done"
    assert await office.told(session_id) == ["started", "completed"]
    kinds = [(r["kind"], r.get("event_type")) for r in await office.hub.audit_log.read_all()]
    failed = [event for kind, event in kinds if kind == "task_mirror_failed"]
    assert failed == ["ag2.task.started", "ag2.task.progress", "ag2.task.completed", "ag2.task.completed"]


async def test_a_request_reaches_the_wrapped_task(office: Office) -> None:
    reasons: list[str] = []
    agent = Wrapped(TaskEvent("1", "started", {"title": "dig"}, reasons.append), pause=10)
    await office.hc.register(agent)
    session = await office.boss.open("consulting", "wrapped")
    await session.send("please")
    event = await session.wait(lambda e: e.event_type == "ag2.task.started")
    assert event.task_id is not None
    await office.boss.cancel_task(event.task_id, "enough")
    await trio.sleep(1)
    assert reasons == ["enough"]


async def test_a_failing_turn_ends_its_tasks(office: Office) -> None:
    agent = Wrapped(TaskEvent("1", "started", {"title": "dig"}), error=ValueError("broken"))
    await office.hc.register(agent)
    session = await office.boss.open("conversation", "wrapped")
    await session.send("please")
    await trio.sleep(100)
    ends = await office.ends()
    assert len(ends) == 5  # one for each delivery of the envelope
    assert {end["outcome"] for end in ends} == {"cancelled"}


async def test_a_turn_that_ends_with_its_session_is_mirrored_to_the_end(office: Office) -> None:
    agent = Wrapped(TaskEvent("1", "started", {"title": "dig"}), pause=1000)
    await office.hc.register(agent, Passport("wrapped"))
    session = await office.boss.open("conversation", "wrapped")
    await session.send("please")
    await trio.sleep(1)
    await session.close()
    await trio.sleep(1)
    assert [end["reason"] for end in await office.ends()] == ["session_closed"]


def test_a_stream_tells_whoever_listens() -> None:
    stream = MemoryStream()
    heard: list[TaskEvent] = []
    stop = stream.subscribe(heard.append)
    stream.emit(TaskEvent("1", "started"))
    stop()
    stop()
    stream.emit(TaskEvent("1", "completed"))
    assert [event.kind for event in heard] == ["started"]
