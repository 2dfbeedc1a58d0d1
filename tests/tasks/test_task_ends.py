"""Ends that come from outside: the TTL, a member's request, the end of the session, the owner's leaving, the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from agorio.actors.agents.hub_client import HubClient
from agorio.actors.agents.tasks import Task
from agorio.actors.sessions.identity import Passport
from agorio.actors.sessions.rule import AccessBlock, InboxBlock, LimitsBlock, RateBlock, Rule
from agorio.actors.sessions.tasks import TaskState
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InboxFull, InvalidInput, RateLimited, SessionClosedError
from agorio.mailbox.events import EV_TASK_CANCEL_REQUEST, EV_TASK_CANCELLED, EV_TASK_STARTED, EV_TEXT
from agorio.transports.local import LocalLink
from tests.tasks.office import Office, open_office


@pytest.mark.parametrize("in_session", [True, False])
@pytest.mark.parametrize("by_rule", [True, False])
async def test_the_ttl_cancels_the_body(office: Office, in_session: bool, by_rule: bool) -> None:
    if by_rule:
        await office.hub.set_rule(office.worker.agent_id, Rule(limits=LimitsBlock(task_ttl_default="5s")))
    where = (await office.session()).session_id if in_session else None
    began = trio.current_time()
    async with office.worker.task("x", session_id=where, ttl=None if by_rule else 5) as task:
        await trio.sleep(1000)
    assert 4.9 < trio.current_time() - began < 5.5
    assert task.state is TaskState.EXPIRED
    [end] = await office.ends()
    assert (end["outcome"], end["reason"]) == ("expired", "ttl_expired")


async def test_the_sweeper_ends_a_task_whose_body_does_not_listen(office: Office) -> None:
    async with office.worker.task("deaf", ttl=5) as task:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        assert (await office.worker.get_task(task.task_id)).state is TaskState.EXPIRED
    assert task.state is TaskState.EXPIRED
    assert len(await office.ends()) == 1


async def test_what_is_said_after_the_ttl_is_refused_swept_or_not() -> None:
    async with open_office(MemoryKnowledgeStore(), ttl_sweep_interval=0) as office:
        session = await office.session()
        for where in ("", session.session_id):
            async with office.worker.task("late", ttl=5, session_id=where) as task:
                with trio.CancelScope(shield=True):
                    await trio.sleep(6)
            assert task.state is TaskState.EXPIRED
        assert [end["outcome"] for end in await office.ends()] == ["expired", "expired"]


@pytest.mark.parametrize("in_turn", [True, False])
async def test_a_members_request_cancels_the_body(office: Office, in_turn: bool) -> None:
    started: list[Task] = []

    async def work(text: str) -> str:
        async with agent.task("long", session_id=session.session_id) as task:
            started.append(task)
            await trio.sleep(1000)
        return f"{task.state} {task.metadata.reason}"

    agent = await office.hc.register(work, Passport("agent"))
    session = await office.boss.open("conversation", "agent")
    await session.send("go")
    await session.send("a second text waits behind the turn and must not hold up the request")
    async with trio.open_nursery() as nursery:
        if not in_turn:
            nursery.start_soon(work, "")
        event = await session.wait(lambda e: e.event_type == EV_TASK_STARTED)
        assert event.task_id is not None
        asked = await office.boss.cancel_task(event.task_id, "enough")
        assert office.boss.agent_id in (asked.cancel_requested_by, asked.owner_id)
        ended = await office.boss.wait_task(event.task_id, 5)
        assert (ended.state, ended.reason) == (TaskState.CANCELLED, "enough")
        await session.wait(lambda e: e.event_type == EV_TASK_CANCELLED, 5)
        await session.close()


async def test_the_request_is_validated_and_said_once(office: Office) -> None:
    session = await office.session()
    stranger = await office.hc.register(None, Passport("stranger"), attach_plugin=False)
    async with office.worker.task("x", session_id=session.session_id) as task:
        with pytest.raises(InvalidInput, match="reason"):
            await session.send({"task_id": task.task_id, "reason": "r" * 501}, event_type=EV_TASK_CANCEL_REQUEST)
        with pytest.raises(LookupError):
            await stranger.cancel_task(task.task_id)
        with trio.CancelScope(shield=True):
            await office.boss.cancel_task(task.task_id, "r" * 600)
            await office.boss.cancel_task(task.task_id, "again")
        await trio.sleep(1)
    assert await office.told(session.session_id) == ["started", "cancel_request", "cancelled"]
    assert len(task.metadata.reason or "") == 500
    after = await office.boss.cancel_task(task.task_id, "too late")
    assert after.state is TaskState.CANCELLED


async def test_an_owner_cancels_its_own_from_elsewhere(office: Office) -> None:
    async with trio.open_nursery() as nursery, office.worker.task("x") as task:
        nursery.start_soon(office.worker.cancel_task, task.task_id, "stop")
        await trio.sleep(1000)
    assert (task.state, task.metadata.reason) == (TaskState.CANCELLED, "stop")


async def test_without_a_connection_a_request_ends_the_task_at_once(store: MemoryKnowledgeStore) -> None:
    async with open_office(store) as office:
        session = await office.session()
        started = await office.worker.send_envelope(_start(session.session_id))
        assert started.task_id is not None
    async with Hub.open(store) as hub:
        assert hub.statistics().current_tasks == 1
        hc = HubClient(LocalLink(hub), hub=hub)
        boss = await hc.register(None, Passport("boss"), attach_plugin=False, attach=True)
        await boss.cancel_task(started.task_id, "nobody is there")
        ended = await boss.wait_task(started.task_id, 1)
        assert (ended.state, ended.reason) == (TaskState.CANCELLED, "nobody is there")


def _start(session_id: str, **data: object) -> Envelope:
    return Envelope(session_id, "", None, EV_TASK_STARTED, {"title": "x", **data})


async def _outlast(office: Office, session_id: str) -> None:
    await trio.sleep(150)


Ending = Callable[[Office, str], Awaitable[object]]
ENDINGS: dict[str, tuple[Ending, str]] = {
    "closed by a member": (lambda office, session: office.boss.close_session(session), "session_closed"),
    "closed by the operator": (lambda office, session: office.hub.close_session(session), "session_closed"),
    "expired": (_outlast, "session_expired"),
    "the other has gone": (lambda office, session: office.boss.unregister(), "session_closed"),
}


@pytest.mark.parametrize("how", list(ENDINGS))
async def test_the_end_of_the_session_cancels_the_body(office: Office, how: str) -> None:
    end, reason = ENDINGS[how]
    session = await office.session(ttl=100)
    reached = False
    block = office.worker.task("x", session_id=session.session_id, ttl="1d")
    async with trio.open_nursery() as nursery, block as task:
        nursery.start_soon(end, office, session.session_id)
        await trio.sleep(10_000)
        reached = True
    assert not reached
    assert (task.state, task.metadata.reason) == (TaskState.EXPIRED, reason)
    log = [envelope.event_type for envelope in await office.hub.read_wal(session.session_id)]
    assert log[-2] == "ag2.task.expired"
    assert log[-1] in ("ag2.session.closed", "ag2.session.expired")
    assert [end["outcome"] for end in await office.ends()] == ["expired"]


async def test_the_session_type_closes_and_ends_the_tasks_first(office: Office) -> None:
    session = await office.boss.open("consulting", "worker")
    await session.send("question")
    async with office.worker.task("x", session_id=session.session_id) as task:
        await office.worker.send_envelope(_text(session.session_id, "answer"))
        await trio.sleep(1000)
    assert (task.state, task.metadata.reason) == (TaskState.EXPIRED, "session_closed")
    log = [envelope.event_type for envelope in await office.hub.read_wal(session.session_id)]
    assert log[-3:] == [EV_TEXT, "ag2.task.expired", "ag2.session.closed"]


def _text(session_id: str, text: str) -> Envelope:
    return Envelope(session_id, "", None, EV_TEXT, {"text": text})


async def test_no_task_starts_in_an_ended_session(office: Office) -> None:
    session = await office.session()
    await session.close()
    with pytest.raises(SessionClosedError):
        async with office.worker.task("x", session_id=session.session_id):
            raise AssertionError("the body must not run")


@pytest.mark.parametrize("in_session", [True, False])
async def test_an_unregistered_owners_tasks_end(office: Office, in_session: bool) -> None:
    where = (await office.session()).session_id if in_session else None
    async with trio.open_nursery() as nursery, office.worker.task("x", session_id=where, capability="c") as task:
        nursery.start_soon(office.worker.unregister)
        await trio.sleep(1000)
    ended = await office.hub.get_task(task.task_id)
    assert (ended.state, ended.reason) == (TaskState.CANCELLED, "owner_unregistered")
    assert [end["outcome"] for end in await office.ends()] == ["cancelled"]
    assert office.hub.statistics().current_tasks == 0


async def test_an_end_needs_no_slot_and_no_token(office: Office) -> None:
    """A start was admitted; a full inbox or an empty bucket must not keep a task running for ever."""
    await office.hub.set_rule(office.boss.agent_id, Rule(inbox=InboxBlock(max_pending=1)))
    await office.hub.set_rule(office.worker.agent_id, Rule(rate=RateBlock(0.001, 1)))
    office.boss.on_envelope(None)
    session = await office.session()
    async with office.worker.task("x", session_id=session.session_id) as task:
        with pytest.raises((InboxFull, RateLimited)):
            await task.progress({"a": 1})
        await task.complete("done")
    assert task.state is TaskState.COMPLETED
    with pytest.raises((InboxFull, RateLimited)):
        async with office.worker.task("y", session_id=session.session_id):
            raise AssertionError("a start does need them")


async def test_an_end_is_not_shown_to_those_one_may_not_talk_to(office: Office) -> None:
    session = await office.session()
    async with office.worker.task("x", session_id=session.session_id) as task:
        await office.hub.set_rule(office.worker.agent_id, Rule(access=AccessBlock(outbound_to=["nobody"])))
        await task.complete("done")
    [_, end] = await office.said(session.session_id)
    assert end.audience == ()
    assert task.state is TaskState.COMPLETED


@pytest.mark.parametrize("in_session", [True, False])
async def test_a_closing_hub_cancels_and_says_so(store: MemoryKnowledgeStore, in_session: bool) -> None:
    ids: list[str] = []

    async def work(text: str) -> str:
        async with agent.task("long", session_id=None if in_session else "") as task:
            ids.append(task.task_id)
            await trio.sleep_forever()
        return ""

    async with open_office(store, grace=1.0) as office:
        agent = await office.hc.register(work, Passport("agent"))
        session = await office.boss.open("conversation", "agent")
        await session.send("go")
        await trio.sleep(1)
        assert office.hub.statistics().current_tasks == 1
        await office.hc.close()
        assert office.hub.statistics().current_tasks == 0
    async with open_office(store) as office:
        [end] = await office.ends()
        assert (end["task_id"], end["outcome"], end["reason"]) == (ids[0], "cancelled", "interrupted")
