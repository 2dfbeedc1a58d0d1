"""Turns of an agent: how many at once, what a failure costs, what the end of a session does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.agents.turn_context import current_turn
from agorio.actors.sessions.identity import Passport
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput
from agorio.mailbox.events import (
    AUDIT_KIND_ACTOR_RESTARTED,
    AUDIT_KIND_TURN_FAILED,
    EV_SESSION_CLOSED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_ACK,
    EV_SESSION_INVITE_REJECT,
    EV_TEXT,
)

ME = "id-me"
Said = Callable[..., Envelope]


class Meter:
    """A handler that takes one second and notes what ran when."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.peak = 0
        self.order: list[tuple[str, int]] = []

    async def handle(self, envelope: Envelope) -> None:
        assert envelope.session_id not in self.running
        self.running.append(envelope.session_id)
        self.order.append((envelope.session_id, envelope.sequence))
        self.peak = max(self.peak, len(self.running))
        await trio.sleep(1)
        self.running.remove(envelope.session_id)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_turns_than_allowed(
    autojump_clock: MockClock, scripted: Any, said: Said, concurrency: int
) -> None:
    async with scripted() as (hub, hc):
        meter = Meter()
        client = await hc.register(None, Passport(name="me"), handler=meter.handle, concurrency=concurrency)
        assert hub.requests("register")[0].window == concurrency
        for sequence in (1, 2):
            for session_id in "abcd":
                hub.push(ME, said(sequence, session_id=session_id))
        await trio.sleep(20)
        assert meter.peak == concurrency
        assert len(hub.receipts()) == 8
        for session_id in "abcd":
            assert [seq for sid, seq in meter.order if sid == session_id] == [1, 2]
        assert client.statistics().total_handled == 8


async def test_idle_workers_go(autojump_clock: MockClock, scripted: Any, said: Said) -> None:
    async with scripted() as (hub, hc):
        client = await hc.register(None, Passport(name="me"), handler=Meter().handle)
        for sequence in (1, 2):
            hub.push(ME, said(sequence))
            await trio.sleep(2)
            assert client.statistics().current_workers == 1
            await trio.sleep(20)
            assert client.statistics().current_workers == 0
            assert hc.statistics().current_busy == 0
        assert len(hub.receipts()) == 2


async def test_a_failing_turn_is_reported_and_hurts_nobody_else(
    autojump_clock: MockClock, scripted: Any, said: Said
) -> None:
    async with scripted() as (hub, hc):
        meter = Meter()

        async def fail(envelope: Envelope) -> None:
            if envelope.text == "bad":
                await trio.sleep(0.5)
                raise RuntimeError("no idea")
            await meter.handle(envelope)

        client = await hc.register(None, Passport(name="me"), handler=fail, concurrency=2)
        await hc.register(None, Passport(name="other"), handler=meter.handle)
        hub.push(ME, said(1, "good", session_id="a"))
        hub.push(ME, said(1, "bad", session_id="b"))
        hub.push(ME, said(1, "good", session_id="c"))
        hub.push("id-other", said(1, "good", session_id="d"))
        await trio.sleep(10)
        assert sorted(hub.receipts()) == [(s, 1, "nack" if s == "b" else "ack") for s in "abcd"]
        (report,) = hub.requests("report_turn_failure")
        assert (report.exc_type, report.exc_message, report.incarnation) == ("RuntimeError", "no idea", 1)
        assert client.statistics().total_failed == 1


async def test_a_crash_is_a_restart_and_loses_nothing(autojump_clock: MockClock, net: Any) -> None:
    tries: list[str] = []

    async def shaky(text: str) -> str:
        tries.append(text)
        if len(tries) == 1:
            raise RuntimeError("first time")
        return text.upper()

    async def quiet(text: str) -> None:
        return None

    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(shaky, Passport(name="bob"))
    session = await ann.open("consulting", "bob")
    reply = await session.ask("hello")
    assert reply.text == "HELLO"
    assert tries == ["hello", "hello"]
    kinds = [record.kind for record in await net.hub.audit_log.read_all()]
    assert AUDIT_KIND_TURN_FAILED in kinds
    assert AUDIT_KIND_ACTOR_RESTARTED in kinds


async def test_a_redelivered_turn_is_not_answered_twice(autojump_clock: MockClock, scripted: Any, said: Said) -> None:
    asked: list[str] = []

    async def agent(text: str) -> str:
        asked.append(text)
        return "again"

    async with scripted() as (hub, hc):
        await hc.register(agent, Passport(name="me"))
        hub.rules["find_by_causation"] = lambda op: said(2, "my answer", sender_id=ME)
        hub.push(ME, said(1), attempt=2)
        await wait_all_tasks_blocked()
        assert hub.receipts() == [("s", 1, "ack")]
        assert asked == []
        assert hub.sent() == []


async def test_the_end_of_a_session_cancels_the_agent_and_counts_as_handled(
    autojump_clock: MockClock, net: Any
) -> None:
    ended: list[str] = []

    async def slow(text: str) -> str:
        try:
            await trio.sleep(1000)
        except trio.Cancelled:
            ended.append(text)
            raise
        return "too late"

    async def quiet(text: str) -> None:
        return None

    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob = await net.hc.register(slow, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await session.send("one")
    await session.send("two")
    await wait_all_tasks_blocked()
    await session.close()
    await wait_all_tasks_blocked()
    assert ended == ["one"]
    assert bob.statistics().total_failed == 0
    assert bob.statistics().current_waiting == 0
    assert all(info.pending == 0 for info in net.hub.agents())


async def test_a_custom_handler_finishes_and_sees_the_end(autojump_clock: MockClock, scripted: Any, said: Said) -> None:
    async with scripted() as (hub, hc):
        seen: list[str] = []

        async def handler(envelope: Envelope) -> None:
            await trio.sleep(1)
            seen.append(envelope.event_type)

        await hc.register(None, Passport(name="me"), handler=handler)
        hub.push(ME, said(1))
        hub.push(ME, said(2, event_type=EV_SESSION_CLOSED))
        await trio.sleep(10)
        assert seen == [EV_TEXT, EV_SESSION_CLOSED]
        assert hub.receipts() == [("s", 1, "ack"), ("s", 2, "ack")]


async def test_a_turn_may_close_its_own_session(autojump_clock: MockClock, net: Any) -> None:
    finished: list[str] = []

    async def closer(text: str) -> None:
        turn = current_turn()
        assert turn is not None
        await turn.client.close_session(turn.envelope.session_id, "enough")
        await trio.sleep(5)
        finished.append(text)

    async def quiet(text: str) -> None:
        return None

    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(closer, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await session.send("go")
    await trio.sleep(20)
    assert finished == ["go"]
    assert (await session.info()).close_reason == "enough"


async def test_an_invitation_is_accepted_during_a_long_turn(autojump_clock: MockClock, net: Any) -> None:
    async def slow(text: str) -> str:
        await trio.sleep(600)
        return "done"

    async def quiet(text: str) -> None:
        return None

    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(slow, Passport(name="bob"))
    first = await ann.open("consulting", "bob", expectations=[])
    await first.send("work")
    await wait_all_tasks_blocked()
    start = trio.current_time()
    second = await ann.open("consulting", "bob", expectations=[])
    assert trio.current_time() - start < 1
    assert (await second.ask("more", timeout=3000)).text == "done"


@pytest.mark.parametrize("answer", ["ack", "reject", None])
async def test_a_custom_handler_answers_invitations(
    autojump_clock: MockClock, scripted: Any, said: Said, answer: str | None
) -> None:
    async with scripted() as (hub, hc):
        client = await hc.register(None, Passport(name="me"), attach_plugin=False)

        async def handler(envelope: Envelope) -> None:
            await trio.sleep(1)
            if answer is not None:
                kind = EV_SESSION_INVITE_ACK if answer == "ack" else EV_SESSION_INVITE_REJECT
                await client.send_envelope(Envelope(envelope.session_id, "", None, kind))

        hub.push(ME, said(1, event_type=EV_SESSION_INVITE))
        await trio.sleep(5)
        assert hub.receipts() == []
        client.on_envelope(handler)
        await trio.sleep(5)
        expected = EV_SESSION_INVITE_REJECT if answer == "reject" else EV_SESSION_INVITE_ACK
        (sent,) = hub.sent()
        assert (sent.event_type, sent.sender_id) == (expected, ME)
        assert sent.causation_id == "s-0001"
        assert hub.receipts() == [("s", 1, "ack")]


async def test_a_failing_invitation_handler_is_retried_by_the_hub(
    autojump_clock: MockClock, scripted: Any, said: Said
) -> None:
    async with scripted() as (hub, hc):

        async def handler(envelope: Envelope) -> None:
            raise RuntimeError("cannot decide")

        await hc.register(None, Passport(name="me"), handler=handler)
        hub.push(ME, said(1, event_type=EV_SESSION_INVITE))
        await wait_all_tasks_blocked()
        assert hub.receipts() == [("s", 1, "nack")]
        assert hub.sent() == []
        assert len(hub.requests("report_turn_failure")) == 1


async def test_a_handler_may_be_any_callable(autojump_clock: MockClock, scripted: Any, said: Said) -> None:
    """A list's `append` is one, and so is a lambda around an async function, which is awaited."""
    async with scripted() as (hub, hc):
        client = await hc.register(None, Passport(name="me"))
        heard: list[Envelope] = []
        client.on_envelope(heard.append)
        hub.push(ME, said(1))
        await wait_all_tasks_blocked()
        meter = Meter()
        client.on_envelope(lambda envelope: meter.handle(envelope))
        hub.push(ME, said(2))
        await trio.sleep(60)
        assert [envelope.sequence for envelope in heard] == [1]
        assert hub.receipts() == [("s", 1, "ack"), ("s", 2, "ack")]
        with pytest.raises(InvalidInput, match="cannot be called"):
            client.on_envelope("handler")
        client.on_envelope(None)
        assert not client.has_handler


async def test_closing_finishes_the_turn_in_hand(autojump_clock: MockClock, scripted: Any, said: Said) -> None:
    async with scripted(grace=5.0) as (hub, hc):
        meter = Meter()
        await hc.register(None, Passport(name="me"), handler=meter.handle)
        hub.push(ME, said(1))
        await wait_all_tasks_blocked()
        await hc.close()
        assert hub.receipts() == [("s", 1, "ack")]
