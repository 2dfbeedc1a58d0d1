"""The cap on an inbox: exact under concurrency, for agents that are away, after a restart, under every policy."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.rule import InboxBlock, RateBlock, Rule
from agorio.hub.inbox import Redelivery
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AgorioError, InboxFull, RateLimited
from tests.hub.conftest import OpenNetwork
from tests.hub.network import Network, converse, settle
from tests.hub.refusals import refused


def capped(cap: int, overflow: Any = "reject", **more: Any) -> Rule:
    return Rule(inbox=InboxBlock(cap, overflow, **more))


async def pair(net: Network, rule: Rule, **options: Any) -> tuple[AgentClient, AgentClient, Session]:
    alice = await net.agent("alice")
    bob = await net.agent("bob", rule=rule, hc=await net.client(), **options)
    return alice, bob, await converse(alice, bob)


async def heard(bob: AgentClient, session: Session, count: int) -> list[str]:
    return [(await bob.wait_for_session_event(session.session_id, timeout=30)).text for _ in range(count)]


async def delivered(net: Network) -> list[str]:
    """Take bob up again and acknowledge what is pending; what that was."""
    wire = await net.wire()
    await wire.register("bob", attach=True)
    await settle()
    frames = wire.notified(texts=True)
    for frame in frames:
        await wire.ack(frame)
    await settle()
    return [frame.envelope.text for frame in frames]


async def flood(session: Session, count: int) -> tuple[list[str], list[AgorioError]]:
    """Many senders at once; what was accepted and what was refused."""
    accepted: list[str] = []
    refusals: list[AgorioError] = []

    async def send(number: int) -> None:
        try:
            accepted.append((await session.send(str(number))).text)
        except InboxFull as error:
            refusals.append(error)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(send, number)
    return accepted, refusals


async def test_the_cap_is_exact_under_concurrency(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(2))
        accepted, refusals = await flood(session, 20)
        assert (len(accepted), len(refusals)) == (2, 18)
        assert net.pending("bob") == 2
        assert refusals[0].details == {"agent": "bob", "depth": 2, "cap": 2}
        for word in ("'bob'", "2 of 2", "Rule.inbox.max_pending"):
            assert word in str(refusals[0])
        logged = await net.texts(session.session_id)
        assert sorted(logged) == sorted(accepted)
        denied = await net.audit("denied")
        assert {r.code for r in denied} == {"inbox_full"}
        assert len(denied) < 18, "a flood does not flood the audit log"
        assert await heard(bob, session, 2) == logged
        await settle()
        assert net.pending("bob") == 0
        await session.send("room again")


async def test_the_cap_counts_every_session_and_sender(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, first = await pair(net, capped(3))
        carol = await net.agent("carol")
        second = await converse(carol, bob)
        await first.send("1")
        await second.send("2")
        await first.send("3")
        async with refused(net, InboxFull):
            await second.send("4")
        await settle()
        assert (await bob.wait_for_session_event(second.session_id)).text == "2"
        await settle()
        await second.send("5")
        assert alice.agent_id != carol.agent_id


async def test_a_broadcast_is_for_all_or_none(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, carol = await net.agent("alice"), await net.agent("carol")
        bob = await net.agent("bob", rule=capped(1))
        session = await converse(alice, bob, carol, type="discussion")
        await session.send("psst", audience=[bob.agent_id], event_type="my.note")
        async with refused(net, InboxFull):
            await session.send("everybody?")
        assert net.pending("carol") == 0
        await session.send("carol only", audience=[carol.agent_id])


async def test_an_agent_that_is_away_has_the_same_cap(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(2))
        await bob.hub_client.close()
        await settle()
        accepted, refusals = await flood(session, 10)
        assert (len(accepted), len(refusals)) == (2, 8)
        logged, store = await net.texts(session.session_id), net.store
    async with open_network(store) as net:
        assert net.pending("bob") == 2
        alice = await net.agent("alice", attach=True)
        again = await alice.session(session.session_id)
        async with refused(net, InboxFull):
            await again.send("still full")
        back = await net.agent("bob", attach=True)
        assert await heard(back, session, 2) == logged
        await settle()
        await again.send("room again")
        await net.check()


async def test_a_worker_that_never_replies_never_fills(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        count = 0

        async def work(envelope: Envelope) -> None:
            nonlocal count
            count += bool(envelope.text)

        _, _, session = await pair(net, capped(1), handler=work)
        for number in range(50):
            await session.send(str(number))
            await settle()
        assert count == 50
        assert net.pending("bob") == 0


async def test_bookkeeping_takes_no_slot(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, session = await pair(net, capped(1))
        await session.send("full now")
        other = await converse(alice, bob)
        await session.close()
        await other.close()
        await settle()
        assert (await net.hub.get_session(session.session_id)).state == "closed"


# Policies.


async def test_drop_newest(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(2, "drop_newest"))
        accepted, refusals = await flood(session, 10)
        assert (len(accepted), refusals) == (10, []), "the log takes all of them"
        logged = await net.texts(session.session_id)
        assert net.pending("bob") == 2
        letters = net.hub.dead_letters(bob.agent_id)
        assert [(d.envelope.text, d.reason) for d in letters] == [(text, "drop_newest") for text in logged[2:]]
        assert len(await net.audit("dead_letter")) == 8
        assert await heard(bob, session, 2) == logged[:2]
        await settle()
        assert net.pending("bob") == 0
        await net.check()


async def test_drop_oldest(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(2, "drop_oldest"))
        await bob.hub_client.close()
        await settle()
        accepted, refusals = await flood(session, 10)
        assert (len(accepted), refusals) == (10, [])
        logged = await net.texts(session.session_id)
        letters = net.hub.dead_letters(bob.agent_id)
        assert [(d.envelope.text, d.reason) for d in letters] == [(text, "drop_oldest") for text in logged[:8]]
        assert await delivered(net) == logged[8:]
        assert net.pending("bob") == 0
        await net.check()


async def test_a_speaker_whose_cue_was_dropped_does_not_stall_the_round(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        bob = await net.agent("bob", rule=capped(1, "drop_newest"))
        order: list[str] = []

        async def note(envelope: Envelope) -> None:
            if envelope.event_type in ("ag2.msg.text", "ag2.turn.skipped"):
                order.append(envelope.text or envelope.event_data["reason"])

        carol = await net.agent("carol", handler=note)
        session = await converse(alice, bob, carol, type="discussion")
        await session.send("fill", audience=[bob.agent_id], event_type="my.note")
        await session.send("your turn, bob")
        await settle()
        assert (await session.info()).expected_next == (carol.agent_id,)
        assert order == ["your turn, bob", "failed"], "first what was said, then what came of it"
        await net.check()


async def test_what_is_in_hand_is_never_the_one_dropped(open_network: OpenNetwork) -> None:
    """A turn under way is not taken away: where all that is pending is out, the newest gives way."""
    async with open_network() as net:
        handled: list[str] = []

        async def slowly(envelope: Envelope) -> None:
            if envelope.text:
                await trio.sleep(100)
                handled.append(envelope.text)

        _, bob, session = await pair(net, capped(1, "drop_oldest"), handler=slowly)
        await session.send("in hand")
        await settle()
        await session.send("too much")
        await trio.sleep(200)
        assert handled == ["in hand"]
        assert [d.envelope.text for d in net.hub.dead_letters(bob.agent_id)] == ["too much"]


async def test_drops_are_not_delivered_after_a_restart(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(2, "drop_oldest"))
        await bob.hub_client.close()
        await settle()
        for number in range(6):
            await session.send(str(number))
        store = net.store
    async with open_network(store) as net:
        assert net.pending("bob") == 2
        assert await delivered(net) == ["4", "5"]
        assert net.hub.statistics().current_pending == 0


async def test_block_makes_senders_wait(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(2, "block"))
        done: list[str] = []

        async def send(number: int) -> None:
            done.append((await session.send(str(number))).text)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(send, number)
            await settle()
            assert len(done) == 2
            assert len(await net.texts(session.session_id)) == 2
            got = await heard(bob, session, 20)
        assert sorted(map(int, got)) == list(range(20))
        assert got == await net.texts(session.session_id)
        await settle()
        assert net.pending("bob") == 0
        assert net.hub.dead_letters() == ()
        await net.check()


async def test_a_blocked_sender_that_gives_up_leaves_nothing(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(1, "block"))
        await session.send("one")
        await settle()
        before = await net.picture()
        with trio.move_on_after(5) as scope:
            await session.send("two")
        assert scope.cancelled_caught
        await settle()
        assert await net.picture() == before
        assert await heard(bob, session, 1) == ["one"]
        await session.send("three")
        assert await heard(bob, session, 1) == ["three"]


async def test_a_blocked_sender_is_told_when_the_session_ends(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(1, "block"))
        await session.send("one")
        outcome: list[str] = []

        async def send() -> None:
            try:
                await session.send("two")
            except AgorioError as error:
                outcome.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await settle()
            await net.hub.unregister(bob.agent_id)
        assert outcome == ["session_closed"]
        await net.check()


async def test_two_blocked_members_do_not_lock_each_other_up(open_network: OpenNetwork) -> None:
    """A broadcast that waits for one full inbox holds no slot of another meanwhile."""
    async with open_network() as net:
        alice = await net.agent("alice")
        bob, carol = [await net.agent(name, rule=capped(1, "block")) for name in ("bob", "carol")]
        session = await converse(alice, bob, carol, type="discussion")
        note = partial(session.send, event_type="my.note")
        await note("b1", audience=[bob.agent_id])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(note, "both"))
            await settle()
            assert net.pending("carol") == 0
            await note("c1", audience=[carol.agent_id])
            assert await heard(carol, session, 1) == ["c1"]
            assert await heard(bob, session, 1) == ["b1"]
        assert await heard(carol, session, 1) == ["both"]
        assert await heard(bob, session, 1) == ["both"]


# Changes and signals.


async def test_a_changed_rule_counts_at_once(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, Rule())
        for number in range(3):
            await session.send(str(number))
        await net.hub.set_rule(bob.agent_id, capped(2))
        assert net.pending("bob") == 3, "nothing is thrown out"
        await with_refusal(session)
        await net.hub.set_rule(bob.agent_id, capped(5))
        await session.send("3")
        await net.hub.set_rule(bob.agent_id, Rule())
        for number in range(10):
            await session.send(str(number))


async def with_refusal(session: Session) -> None:
    with pytest.raises(InboxFull):
        await session.send("one too many")


async def test_raising_a_cap_lets_blocked_senders_in(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        _, bob, session = await pair(net, capped(1, "block"))
        await session.send("one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send, "two")
            nursery.start_soon(session.send, "three")
            await settle()
            await net.hub.set_rule(bob.agent_id, capped(3, "block"))
        assert net.pending("bob") == 3


async def test_slots_come_back_from_dead_letters(open_network: OpenNetwork) -> None:
    async with open_network(redelivery=Redelivery(max_attempts=2, backoff=1), ttl_sweep_interval=1) as net:

        async def never(envelope: Envelope) -> None:
            if envelope.text:
                raise LookupError

        _, _, session = await pair(net, capped(1), handler=never)
        for number in range(5):
            await session.send(str(number))
            await trio.sleep(30)
        assert net.pending("bob") == 0
        assert len(net.hub.dead_letters()) == 5


async def test_a_refused_send_costs_no_token_and_a_limited_one_no_slot(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice", rule=Rule(rate=RateBlock(60, burst=2)))
        bob = await net.agent("bob", rule=capped(1))
        session = await converse(alice, bob)
        await settle(1)  # opening has taken a token
        await session.send("one")
        for _ in range(5):
            with pytest.raises(InboxFull):
                await session.send("full")
        assert await heard(bob, session, 1) == ["one"]
        await settle(0.01)
        await session.send("two")
        assert await heard(bob, session, 1) == ["two"]
        await settle(0.01)
        with pytest.raises(RateLimited) as caught:
            await session.send("too fast")
        assert 0 < caught.value.retry_after <= 1
        await settle(0.01)
        assert net.pending("bob") == 0
        await trio.sleep(caught.value.retry_after)
        await session.send("three")


async def test_drop_oldest_takes_unread_mail_back_and_a_letter_brings_it_again(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        zoe = await alice.hub_client.register_human("zoe", rule=capped(2, "drop_oldest"))
        session = await alice.open("conversation", zoe)
        for number in range(5):
            await session.send(str(number))
            await settle()
        letters = net.hub.dead_letters(zoe.agent_id)
        assert [(d.envelope.text, d.reason) for d in letters] == [(text, "drop_oldest") for text in "012"]
        assert zoe.unread == 2
        assert [(await zoe.next(timeout=5)).text for _ in range(2)] == ["3", "4"]
        await settle()
        await net.hub.redeliver(letters[0])
        assert (await zoe.next(timeout=5)).text == "0"
        await settle()
        assert net.pending("zoe") == 0
        await net.check()
