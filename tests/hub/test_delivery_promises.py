"""What deliveries promise: urgency, deadlines, idempotency, fairness, and nothing lost in a crash."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.operations import SetWindow
from agorio.hub.inbox import Redelivery
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.priority import Priority
from tests.hub.conftest import OpenNetwork
from tests.hub.listening import heard, listening
from tests.hub.network import accept_next, converse, settle
from tests.hub.stores import copied


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


async def test_what_follows_from_a_stale_delivery_overtakes_nothing(open_network: OpenNetwork) -> None:
    """The cue has gone stale, so the turn is given up in the middle of a push; the note of it comes last."""
    async with open_network(ttl_sweep_interval=0) as net:
        alice, carol = await net.agent("alice"), await net.agent("carol")
        wire = await net.wire()
        bob = await wire.register("bob", window=0)
        opened: list[Session] = []

        async def open_it() -> None:
            opened.append(await alice.open("discussion", [bob.agent_id, carol.agent_id]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_it)
            nursery.start_soon(accept_next, carol)
            await wire.accept(bob)
        await settle()
        await opened[0].send("your turn", ttl_seconds=5)
        for number in range(3):
            await opened[0].send({"n": number}, event_type="my.note")
        await trio.sleep(60)
        before = len(wire.notified(bob))
        await wire.request(SetWindow(bob.agent_id, None))
        await settle()
        pushed = [frame.envelope for frame in wire.notified(bob)[before:]]
        assert [e.event_type for e in pushed] == ["my.note"] * 3 + ["ag2.turn.skipped"]
        assert [e.sequence for e in pushed] == sorted(e.sequence for e in pushed)


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
