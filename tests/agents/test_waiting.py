"""Waiting for a session's events: none missed, none stolen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.sessions.identity import Passport
from agorio.actors.sessions.metadata import Manifest, SessionMetadata, SessionState
from agorio.actors.sessions.rule import InboxBlock, Rule
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput, NotAMemberError, SessionClosedError
from agorio.mailbox.events import EV_SESSION_CLOSED, EV_SESSION_INVITE_ACK, EV_SESSION_OPENED, EV_TEXT
from agorio.transports.frames import ErrorFrame

ME = "id-me"


def text_is(text: str) -> Callable[[Envelope], bool]:
    return lambda envelope: envelope.text == text


async def me(hc: Any) -> Any:
    return await hc.register(None, Passport(name="me"), attach_plugin=False)


def log_of(hub: Any, *envelopes: Envelope) -> None:
    hub.log["s"] = list(envelopes)
    hub.rules["get_session"] = lambda op: SessionMetadata(
        op.session_id,
        Manifest("conversation"),
        ME,
        (),
        SessionState.ACTIVE,
        "2026-01-01T00:00:00Z",
        last_sequence=len(hub.log.get(op.session_id, ())),
    )


async def test_what_came_before_the_call_counts(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub, said(1, "a"), said(2, "b"))
        assert (await client.wait_for_session_event("s", text_is("b"), 5)).sequence == 2
        assert (await client.wait_for_session_event("s", text_is("a"), 5)).sequence == 1
        with pytest.raises(TimeoutError, match="kept for the next wait"):
            await client.wait_for_session_event("s", text_is("a"), 5)
        assert len(hub.requests("watch")) == 1


async def test_pushed_and_read_are_merged_by_sequence(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub, said(1, "a"), said(2, "b"))
        hub.push(ME, said(2, "b"))
        assert (await client.wait_for_session_event("s")).text == "a"
        hub.push(ME, said(1, "a"))
        hub.push(ME, said(3, "c"))
        assert [(await client.wait_for_session_event("s")).text for _ in range(2)] == ["b", "c"]
        await wait_all_tasks_blocked()
        assert sorted(hub.receipts()) == [("s", 1, "ack"), ("s", 2, "ack"), ("s", 3, "ack")]


async def test_concurrent_waits_do_not_steal(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub)
        got: dict[str, int] = {}

        async def wait(key: str, predicate: Any) -> None:
            got[key] = (await client.wait_for_session_event("s", predicate, 60)).sequence

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "any", None)
            nursery.start_soon(wait, "also any", None)
            nursery.start_soon(wait, "b", text_is("b"))
            await wait_all_tasks_blocked()
            hub.push(ME, said(1, "a"))
            hub.push(ME, said(2, "b"))
        assert got == {"any": 1, "also any": 1, "b": 2}
        await wait_all_tasks_blocked()
        assert hub.receipts() == [("s", 1, "ack"), ("s", 2, "ack")]


async def test_a_cancelled_wait_leaves_everything(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub)
        with trio.move_on_after(1):
            await client.wait_for_session_event("s", text_is("b"))
        hub.push(ME, said(1, "a"))
        await wait_all_tasks_blocked()
        assert hub.receipts() == []
        assert (await client.wait_for_session_event("s")).text == "a"
        assert client.statistics().tasks_waiting == 0


async def test_the_end_of_the_session_ends_waits_and_acknowledges(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    closed = said(2, event_type=EV_SESSION_CLOSED, event_data={"reason": "done"})
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(SessionClosedError, match="done") as caught:
                    await client.wait_for_session_event("s", text_is("never"))
                assert caught.value.details["reason"] == "done"

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            hub.push(ME, said(1, "a"))
            hub.push(ME, closed)
        await wait_all_tasks_blocked()
        assert sorted(hub.receipts()) == [("s", 1, "ack"), ("s", 2, "ack")]
        assert (await client.wait_for_session_event("s")).text == "a"
        end = await client.wait_for_session_event("s", lambda e: e.event_type == EV_SESSION_CLOSED)
        assert end == closed
        with pytest.raises(SessionClosedError):
            await client.wait_for_session_event("s")


async def test_bookkeeping_is_seen_only_if_asked_for(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub, said(1, event_type=EV_SESSION_INVITE_ACK), said(2, "own", sender_id=ME), said(3, "a"))
        assert (await client.wait_for_session_event("s")).sequence == 3
        ack = await client.wait_for_session_event("s", lambda e: e.event_type == EV_SESSION_INVITE_ACK)
        assert ack.sequence == 1


async def test_a_failing_predicate_fails_its_own_wait(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(ZeroDivisionError):
                    await client.wait_for_session_event("s", lambda e: 1 / 0 > 1)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            hub.push(ME, said(1, "a"))
        assert (await client.wait_for_session_event("s")).text == "a"


async def test_an_unknown_session_is_forgotten(autojump_clock: MockClock, scripted: Any) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        hub.rules["watch"] = lambda op: ErrorFrame("not_a_member", "not yours")
        with pytest.raises(NotAMemberError):
            await client.wait_for_session_event("s")
        assert client.statistics().current_watches == 0


async def test_what_nobody_takes_goes_to_a_later_handler(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        hub.push(ME, said(1, "a"))
        hub.push(ME, said(2, "b"))
        await wait_all_tasks_blocked()
        assert client.statistics().current_unanswered == 2
        seen: list[str] = []

        async def handler(envelope: Envelope) -> None:
            seen.append(envelope.text)

        client.on_envelope(handler)
        await wait_all_tasks_blocked()
        assert seen == ["a", "b"]
        assert hub.receipts() == [("s", 1, "ack"), ("s", 2, "ack")]
        assert [op.window for op in hub.requests("set_window")] == [1]


async def test_many_ended_sessions_are_not_kept(
    autojump_clock: MockClock, scripted: Any, said: Callable[..., Envelope]
) -> None:
    async with scripted() as (hub, hc):
        client = await me(hc)
        log_of(hub)
        for number in range(300):
            session_id = f"s{number}"
            hub.log[session_id] = [said(1, event_type=EV_SESSION_CLOSED, session_id=session_id)]
            with pytest.raises(SessionClosedError):
                await client.wait_for_session_event(session_id)
        assert client.statistics().current_watches <= 129


async def quiet(text: str) -> None:
    return None


async def test_drop_oldest_keeps_the_newest_for_one_who_waits(autojump_clock: MockClock, net: Any) -> None:
    rule = Rule(inbox=InboxBlock(max_pending=2, overflow="drop_oldest"))
    client = await net.hc.register(None, Passport(name="me"), rule=rule, attach_plugin=False)
    other = await net.hc.register(quiet, Passport(name="other"))
    session = await client.open(target="other")
    theirs = await other.session(session.session_id)
    await theirs.send("0")
    assert (await session.wait()).text == "0"
    await wait_all_tasks_blocked()
    for number in range(1, 6):
        await theirs.send(str(number))
    await wait_all_tasks_blocked()
    assert [dead.envelope.text for dead in net.hub.dead_letters()] == ["1", "2", "3"]
    assert [(await session.wait()).text for _ in range(2)] == ["4", "5"]
    with pytest.raises(TimeoutError):
        await session.wait(timeout=1)


async def test_the_invitation_of_somebody_else_is_no_event(autojump_clock: MockClock, net: Any) -> None:
    client = await net.hc.register(None, Passport(name="me"), attach_plugin=False)
    other = await net.hc.register(quiet, Passport(name="other"))
    session = await client.open(target="other")
    theirs = await other.session(session.session_id)
    await theirs.send("hello")
    seen = [await session.wait(lambda envelope: True) for _ in range(2)]
    assert [envelope.event_type for envelope in seen] == [EV_SESSION_OPENED, EV_TEXT]
    with pytest.raises(TimeoutError):
        await session.wait(lambda envelope: True, timeout=1)


async def test_an_async_predicate_is_refused(autojump_clock: MockClock, net: Any) -> None:
    async def never(envelope: Envelope) -> bool:
        return False

    client = await net.hc.register(None, Passport(name="me"), attach_plugin=False)
    zoe = await net.hc.register_human(Passport(name="zoe"))
    session = await client.open(target="zoe")
    await zoe.say(session.session_id, "hello")
    await session.send("hello")
    for predicate in (never, lambda envelope: never(envelope)):
        with pytest.raises(InvalidInput, match="predicate"):
            await session.wait(predicate, timeout=5)
        with pytest.raises(InvalidInput, match="predicate"):
            await zoe.next(predicate, timeout=5)
    assert (await session.wait()).text == (await zoe.next()).text == "hello"
