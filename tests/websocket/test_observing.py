"""Observers see what happens, from where they like, over cuts, however slow they are."""

from __future__ import annotations

import pytest
import trio

from agorio import EV_TEXT, LinkClosed, NotAMemberError, NotFoundError, Passport, Superseded
from agorio.actors.agents.observing import MAX_KEPT
from agorio.mailbox.events import EV_SESSION_CLOSED, TASK_EVENTS
from tests.websocket.memory import eventually
from tests.websocket.test_reconnecting import echo, ignore, scene


async def test_replayed_and_live_events_over_a_cut_to_the_end_of_the_session() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(None, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        await session.send("0")
        seen: list[tuple[int, str]] = []

        async def watch() -> None:
            async with alice.observe(session.session_id, event_types=[EV_TEXT, EV_SESSION_CLOSED]) as events:
                seen.extend([(one.sequence, one.text) async for one in events])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for number in range(1, 6):
                await session.send(str(number))
                if number == 3:
                    await stage.link.cut()
            await stage.hub.close_session(session.session_id)
        assert [text for _, text in seen] == ["0", "1", "2", "3", "4", "5", ""]
        assert [at for at, _ in seen] == sorted({at for at, _ in seen})
        async with alice.observe(session.session_id, after=seen[-2][0], event_types=[EV_TEXT]) as events:
            assert [one.text async for one in events] == []


async def test_a_slow_observer_misses_nothing() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(None, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        count = MAX_KEPT + 300
        async with alice.observe(session.session_id, event_types=[EV_TEXT]) as events:
            for number in range(count):
                await session.send(str(number))
            await trio.sleep(1)
            assert [(await anext(events)).text for _ in range(count)] == [str(number) for number in range(count)]


async def test_the_events_of_one_task() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        bob = await stage.right.register(None, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        async with bob.task("other work", session_id=session.session_id):
            async with bob.task("the work", session_id=session.session_id) as task:
                await session.send("by the way")
            async with alice.observe(session.session_id, task_id=task.task_id) as events:
                shown = [one async for one in events]
        assert {one.task_id for one in shown} == {task.task_id}
        assert all(one.event_type in TASK_EVENTS for one in shown)
        assert shown[-1].event_type.endswith("completed")


async def test_whoever_may_not_look_is_told_why() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        carl = await stage.left.register(echo, Passport("carl"), attach_plugin=False)
        await stage.right.register(None, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        for session_id, error in ((session.session_id, NotAMemberError), ("no such session", NotFoundError)):
            async with carl.observe(session_id) as events:
                with pytest.raises(error):
                    await anext(events)


async def test_an_observer_ends_with_its_identity_and_with_its_link() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(None, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        after = (await stage.hub.read_wal(session.session_id))[-1].sequence
        async with alice.observe(session.session_id, after=after) as events:
            again = await stage.right.register(echo, Passport("alice"), attach=True, attach_plugin=False)
            with pytest.raises(Superseded):
                await anext(events)
        async with again.observe(session.session_id, after=after) as events:
            await stage.right.close()
            with pytest.raises(LinkClosed):
                await anext(events)
        await eventually(lambda: not stage.right.is_connected)
