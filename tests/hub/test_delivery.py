"""Deliveries: at least once and in order, retried, given up and accounted for."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agorio.actors.sessions.operations import SetWindow
from agorio.hub.inbox import Redelivery
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AuthError, BadFrame, NotFoundError
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
from tests.hub.listening import heard, listening
from tests.hub.network import settle


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
