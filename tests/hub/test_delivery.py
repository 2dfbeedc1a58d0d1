"""Deliveries: at least once and in order, retried, given up and accounted for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.operations import Registered, SetWindow
from agorio.hub.inbox import Redelivery
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AuthError, BadFrame, NotFoundError
from agorio.mailbox.priority import Priority
from agorio.transports.frames import (
    AcceptFrame,
    ErrorFrame,
    HelloFrame,
    PingFrame,
    PongFrame,
    ReceiptFrame,
    RequestFrame,
    SendFrame,
    WelcomeFrame,
)
from tests.hub.conftest import OpenNetwork
from tests.hub.network import Network, Wire, converse, settle
from tests.hub.stores import copied


async def listening(net: Network, name: str = "bob", **options: Any) -> tuple[Wire, Registered, Session]:
    """A conversation of alice with an agent that the test plays frame by frame."""
    alice = await net.agent("alice")
    wire = await net.wire()
    bob = await wire.register(name, **options)
    opened: list[Session] = []

    async def open_it() -> None:
        opened.append(await alice.open(target=bob.agent_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        await wire.accept(bob)
    await settle()
    for frame in wire.notified(bob):
        await wire.ack(frame)
    await settle()
    return wire, bob, opened[0]


def heard(wire: Wire) -> list[tuple[str, int]]:
    return [(frame.envelope.text, frame.attempt) for frame in wire.notified(texts=True)]


async def test_a_delivery_is_pending_until_its_receipt(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, _, session = await listening(net)
        await session.send("one")
        await settle()
        assert heard(wire) == [("one", 1)]
        assert net.pending("bob") == 1
        await trio.sleep(3600)
        assert heard(wire) == [("one", 1)], "a slow turn is no lost one"
        await wire.ack(wire.notified(texts=True)[0])
        await settle()
        assert net.pending("bob") == 0
        assert net.hub.statistics().current_unsettled == 0


async def test_the_sender_does_not_get_its_own(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, bob, session = await listening(net)
        await wire.send(Envelope(session.session_id, bob.agent_id, event_data={"text": "mine"}))
        await settle()
        assert heard(wire) == []
        assert net.pending("alice") == 1


async def test_nack_one_ack_two_redelivers_only_one(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, _, session = await listening(net)
        for text in ("one", "two"):
            await session.send(text)
        await settle()
        one, two = wire.notified(texts=True)
        await wire.ack(one, "nack", "not now")
        await wire.ack(two)
        await settle()
        assert heard(wire) == [("one", 1), ("two", 1), ("one", 2)]
        assert net.pending("bob") == 1
        await wire.ack(wire.notified(texts=True)[-1])
        await settle()
        assert net.pending("bob") == 0


async def test_a_gap_is_remembered_over_a_restart(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, _, session = await listening(net)
        for text in ("one", "two", "three"):
            await session.send(text)
        await settle()
        await wire.ack(wire.notified(texts=True)[1])
        await settle()
        store = net.store
    async with open_network(store) as net:
        assert net.pending("bob") == 2
        wire = await net.wire()
        await wire.register("bob", attach=True)
        await settle()
        assert [text for text, _ in heard(wire)] == ["one", "three"]


async def test_what_follows_waits_for_what_failed(open_network: OpenNetwork) -> None:
    """With one delivery out at a time a failed one is retried before its successors."""
    async with open_network() as net:
        wire, _, session = await listening(net, window=1)
        for text in ("one", "two"):
            await session.send(text)
        await settle()
        await wire.ack(wire.notified(texts=True)[0], "nack")
        await settle()
        assert heard(wire) == [("one", 1), ("one", 2)]
        await wire.ack(wire.notified(texts=True)[-1])
        await settle()
        assert heard(wire)[-1] == ("two", 1)


async def test_backoff_then_a_dead_letter(open_network: OpenNetwork) -> None:
    async with open_network(redelivery=Redelivery(max_attempts=4, backoff=10, factor=2, max_backoff=25)) as net:
        wire, bob, session = await listening(net)
        begin = trio.current_time()
        await session.send("trouble")
        times = []
        for attempt in range(1, 5):
            while len(heard(wire)) < attempt:
                await trio.sleep(0.1)
            times.append(trio.current_time() - begin)
            await wire.ack(wire.notified(texts=True)[-1], "nack", f"failure {attempt}")
        await trio.sleep(1000)
        assert times == pytest.approx([0, 10, 30, 55], abs=1.5)
        assert heard(wire) == [("trouble", n) for n in (1, 2, 3, 4)]
        [letter] = net.hub.dead_letters()
        assert (letter.agent_id, letter.reason, letter.attempts) == (bob.agent_id, "failure 4", 4)
        [record] = await net.audit("dead_letter")
        assert (record.name, record.attempts, record.envelope_id) == ("bob", 4, letter.envelope.envelope_id)
        assert net.pending("bob") == 0
        assert await net.texts(session.session_id) == ["trouble"], "it stays in the log"


async def test_one_that_fails_for_good_holds_up_nothing_else(open_network: OpenNetwork) -> None:
    async with open_network(redelivery=Redelivery(max_attempts=2, backoff=5)) as net:
        wire, _, session = await listening(net, window=1)
        for text in ("bad", "good"):
            await session.send(text)
        for _ in range(2):
            await trio.sleep(10)
            await wire.ack(wire.notified(texts=True)[-1], "nack")
        await settle()
        assert heard(wire) == [("bad", 1), ("bad", 2), ("good", 1)]


async def test_two_backoffs_in_one_session_do_not_shorten_each_other(open_network: OpenNetwork) -> None:
    async with open_network(redelivery=Redelivery(max_attempts=9, backoff=10, factor=10, max_backoff=1000)) as net:
        wire, _, session = await listening(net)
        await session.send("old")
        await settle()
        await wire.ack(wire.notified(texts=True)[-1], "nack")
        await trio.sleep(11)
        await session.send("new")
        await settle()
        old, new = wire.notified(texts=True)[-2:]
        assert (old.envelope.text, old.attempt, new.envelope.text) == ("old", 2, "new")
        await wire.ack(old, "nack")  # back in 100 s
        await wire.ack(new, "nack")  # back in 10 s, but never before the one that it follows
        await trio.sleep(50)
        assert len(heard(wire)) == 3
        await trio.sleep(60)
        assert heard(wire)[-2:] == [("old", 3), ("new", 2)]


async def test_receipts_for_what_was_never_delivered(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, bob, session = await listening(net)
        await session.send("one")
        await settle()
        before = await net.picture()
        for session_id, sequence in (("nowhere", 1), (session.session_id, 99), (session.session_id, -1)):
            for status in ("ack", "nack"):
                await wire.post(ReceiptFrame(bob.agent_id, session_id, sequence, status))
        await settle()
        assert await net.picture() == before
        frame = wire.notified(texts=True)[0]
        await wire.ack(frame)
        await wire.ack(frame)
        await wire.ack(frame, "nack")
        await settle()
        assert net.pending("bob") == 0
        assert heard(wire) == [("one", 1)]


async def test_receipts_in_anothers_name(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, bob, session = await listening(net)
        await session.send("one")
        other = await net.wire()
        await other.register("mallory")
        await other.post(ReceiptFrame(bob.agent_id, session.session_id, wire.notified(texts=True)[0].envelope.sequence))
        await settle()
        assert [f.code for f in other.frames if isinstance(f, ErrorFrame)] == [AuthError.code]
        assert net.pending("bob") == 1


async def test_what_was_out_goes_out_again_on_the_next_connection(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, _, session = await listening(net)
        for text in ("one", "two", "three"):
            await session.send(text)
        await settle()
        await wire.ack(wire.notified(texts=True)[1])
        await settle()
        await wire.link.close()
        await settle()
        assert not net.hub.agents()[1].connected
        await session.send("four")
        again = await net.wire()
        await again.register("bob", attach=True)
        await settle()
        assert heard(again) == [("one", 2), ("three", 2), ("four", 1)]


async def test_bad_frames_end_nothing(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, bob, session = await listening(net)
        bad: list[tuple[Any, type[Exception]]] = [
            (RequestFrame(wire.number(), "dance", SetWindow(bob.agent_id, 1)), BadFrame),
            (RequestFrame(wire.number(), "register", SetWindow(bob.agent_id, 1)), BadFrame),
            (RequestFrame(wire.number(), "register", None), BadFrame),
            (RequestFrame(wire.number(), SetWindow.op, SetWindow("somebody", 1)), AuthError),
            (SendFrame(wire.number(), None), BadFrame),  # type: ignore[arg-type]
            (SendFrame(wire.number(), Envelope("nowhere", bob.agent_id)), NotFoundError),
        ]
        for frame, error in bad:
            with pytest.raises(error):
                await wire.call(frame)
        await wire.post(AcceptFrame(5, Envelope("s", "x")))
        await wire.post(HelloFrame(versions=(99,)))
        await wire.post(PingFrame(7))
        await settle()
        errors = [f for f in wire.frames if isinstance(f, ErrorFrame) and f.request_id is None]
        assert {error.code for error in errors} == {"bad_frame"}
        assert [f for f in wire.frames if isinstance(f, PongFrame)] == [PongFrame(7)]
        assert isinstance(wire.welcome, WelcomeFrame)
        await session.send("still here")
        await settle()
        assert heard(wire) == [("still here", 1)]


# Priorities and deadlines.


async def test_urgent_mail_of_another_session_goes_first(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        order: list[str] = []

        async def note(envelope: Envelope) -> None:
            if envelope.text:
                order.append(envelope.text)
                await trio.sleep(10)

        await net.agent("bob", handler=note)
        low, high, plain = [await alice.open(target="bob") for _ in range(3)]
        await plain.send("in hand")
        await settle()
        await low.send("later", priority=Priority.BACKGROUND)
        await plain.send("normal")
        await high.send("first half")
        await high.send("urgent", priority=Priority.URGENT)
        await trio.sleep(100)
        assert order == ["in hand", "first half", "urgent", "normal", "later"]


async def test_mail_that_nobody_took_in_time(open_network: OpenNetwork) -> None:
    async with open_network(ttl_sweep_interval=5) as net:
        wire, bob, session = await listening(net, window=0)
        await session.send("stale", ttl_seconds=60)
        await session.send("lasting")
        await trio.sleep(59)
        assert net.pending("bob") == 2
        await trio.sleep(10)
        assert net.pending("bob") == 1
        [letter] = net.hub.dead_letters()
        assert (letter.envelope.text, letter.reason, letter.attempts) == ("stale", "ttl_seconds", 0)
        await wire.request(SetWindow(bob.agent_id, None))
        await settle()
        assert heard(wire) == [("lasting", 1)]


async def test_stale_mail_is_not_delivered_even_unswept(open_network: OpenNetwork) -> None:
    async with open_network(ttl_sweep_interval=0) as net:
        wire, bob, session = await listening(net, window=0)
        for text, ttl in (("stale", 5), ("staler", 6), ("lasting", None)):
            await session.send(text, ttl_seconds=ttl)
        await trio.sleep(60)
        await wire.request(SetWindow(bob.agent_id, 1))
        await settle()
        assert heard(wire) == [("lasting", 1)]
        assert [letter.envelope.text for letter in net.hub.dead_letters()] == ["stale", "staler"]
        assert net.pending("bob") == 1


async def test_a_restart_keeps_an_envelopes_deadline(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, _, session = await listening(net)
        await session.send("stale", ttl_seconds=60)
        store = net.store
    async with open_network(store, ttl_sweep_interval=5) as net:
        assert net.pending("bob") == 1
        await trio.sleep(70)
        assert net.pending("bob") == 0
        assert [letter.reason for letter in net.hub.dead_letters()] == ["ttl_seconds"]


# Idempotency.


async def test_a_retry_returns_the_first_result(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, bob, session = await listening(net)
        first = await session.send("once", idempotency_key="k1")
        again = await session.send("twice?", idempotency_key="k1")
        assert again == first
        mine = Envelope(session.session_id, bob.agent_id, event_data={"text": "x"}, idempotency_key="k1")
        accepted = await wire.send(mine)
        assert not accepted.duplicate, "keys are the sender's own"
        assert (await wire.send(mine)).duplicate
        store = net.store
        assert await net.texts(session.session_id) == ["once", "x"]
    async with open_network(store) as net:
        await net.agent("alice", attach=True)
        alice = next(iter(net.hc.clients.values()))
        late = await (await alice.session(session.session_id)).send("after the restart", idempotency_key="k1")
        assert late == first
        await alice.close_session(session.session_id)
        late = await (await alice.session(session.session_id)).send("after the end", idempotency_key="k1")
        assert late == first


async def test_retries_in_flight_share_one_outcome(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, _, session = await listening(net)
        results: list[Envelope] = []

        async def send() -> None:
            results.append(await session.send("once", idempotency_key="k"))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(send)
        assert len({envelope.envelope_id for envelope in results}) == 1
        assert len(results) == 10
        assert await net.texts(session.session_id) == ["once"]


# Fairness and ownership.


async def test_a_slow_recipient_delays_nobody_else(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, quick = await net.agent("alice"), await net.agent("quick")

        async def dawdle(envelope: Envelope) -> None:
            if envelope.text:
                await trio.sleep(1e5)

        await net.agent("slow", handler=dawdle)
        with_slow = await alice.open(target="slow")
        with_quick = await converse(alice, quick)
        begin = trio.current_time()
        for _ in range(20):
            await with_slow.send("work")
            await with_quick.send("work")
            await quick.wait_for_session_event(with_quick.session_id)
        assert trio.current_time() - begin < 10
        assert net.pending("slow") == 20


async def test_a_client_that_does_not_read_delays_nobody_else(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        wire, _, session = await listening(net)
        quick = await net.agent("quick")
        other = await converse(session.client, quick)
        for number in range(300):
            await session.send(str(number))
        await other.send("through")
        assert (await quick.wait_for_session_event(other.session_id, timeout=1)).text == "through"
        await settle()
        assert [text for text, _ in heard(wire)] == [str(number) for number in range(300)]


async def test_nobody_can_change_what_another_receives(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = [await net.agent(name) for name in ("alice", "bob", "carol")]
        session = await converse(alice, bob, carol, type="discussion")
        payload = {"text": "x", "list": [1, {"deep": 1}]}
        accepted = await session.send(payload)
        payload["list"].append(2)  # type: ignore[attr-defined]
        seen = await bob.wait_for_session_event(session.session_id)
        for envelope in (accepted, seen):
            with pytest.raises(TypeError):
                envelope.event_data["list"].append(3)
            with pytest.raises(TypeError):
                envelope.event_data["list"][1]["deep"] = 2
            with pytest.raises(AttributeError):
                envelope.event_data = {}  # type: ignore[misc,assignment]
        other = await carol.wait_for_session_event(session.session_id)
        assert other.event_data == {"text": "x", "list": [1, {"deep": 1}]}
        assert other == accepted


@pytest.mark.parametrize("seed", range(3))
async def test_a_crash_loses_nothing_and_repeats_only_what_was_not_handled(
    open_network: OpenNetwork, seed: int
) -> None:
    """Power is cut at an arbitrary moment: every accepted envelope is handled at least once, in order."""
    async with open_network() as net:
        wire, _, session = await listening(net)
        accepted = []
        for number in range(20):
            accepted.append((await session.send(str(number))).text)
            if number % (seed + 2) == 0:
                await settle()
                frame = wire.notified(texts=True)[-1]
                await wire.ack(frame)
        handled = Counter(f.envelope.text for f in wire.notified(texts=True))
        store = copied(net.store)
    async with open_network(store) as net:
        wire = await net.wire()
        await wire.register("bob", attach=True)
        await settle()
        again = [text for text, _ in heard(wire)]
        assert again == sorted(again, key=int)
        assert set(handled) | set(again) == set(accepted)
        await net.check()


async def test_a_failing_turn_is_retried_and_then_given_up(open_network: OpenNetwork) -> None:
    """The whole way with a real agent: it fails, it is reported, it is tried again, the session goes on."""
    async with open_network(redelivery=Redelivery(max_attempts=3, backoff=1)) as net:
        calls: list[str] = []

        async def moody(text: str) -> str:
            calls.append(text)
            if text == "bad" or len(calls) == 1:
                raise LookupError("mood")
            return f"re: {text}"

        alice: AgentClient = await net.agent("alice")
        await net.agent("bob", moody)
        session = await alice.open(target="bob")
        assert (await session.ask("fine", timeout=60)).text == "re: fine"
        await session.send("bad")
        await trio.sleep(60)
        assert calls == ["fine", "fine", "bad", "bad", "bad"]
        failures = await net.audit("turn_failed")
        assert [r.exc_type for r in failures] == ["LookupError"] * 4
        assert [r.attempts for r in await net.audit("dead_letter")] == [3]
        assert (await session.ask("and now?", timeout=60)).text == "re: and now?"
        await net.check()
