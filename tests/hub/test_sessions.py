"""Sessions: what may be said in them, how they end, and that their log tells all of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.metadata import Expectation, Manifest
from agorio.actors.sessions.operations import OpenSession
from agorio.actors.sessions.rule import LimitsBlock, Rule
from agorio.mailbox.clock import parse_iso
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import (
    AccessDeniedError,
    InvalidInput,
    NotAMemberError,
    ProtocolError,
    QuarantinedError,
    SessionClosedError,
    TurnError,
)
from agorio.transports.frames import RequestFrame
from tests.hub.conftest import OpenNetwork
from tests.hub.kinds import Notebook
from tests.hub.network import Network, converse, settle
from tests.hub.refusals import refused
from tests.hub.stores import copied


async def echo(text: str) -> str:
    return f"re: {text}"


async def team(net: Network, *names: str, **options: Any) -> list[AgentClient]:
    return [await net.agent(name, **options) for name in names]


async def kinds(net: Network, session: Session | str) -> list[str]:
    session_id = session if isinstance(session, str) else session.session_id
    return [envelope.event_type.removeprefix("ag2.") for envelope in await net.log(session_id)]


async def newest(net: Network) -> Any:
    return (await net.hub.list_sessions(limit=1))[0]


# Saying.


async def test_a_consultation(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        bob = await net.agent("bob", echo)
        session = await alice.open("consulting", "bob")
        await session.send("why?")
        reply = await session.wait(timeout=5)
        assert (reply.text, reply.sender_id) == ("re: why?", bob.agent_id)
        await settle()
        closed = await session.info()
        assert (closed.state, closed.close_reason) == ("closed", "consulting_complete")
        assert [e.sequence for e in await net.log(session.session_id)] == [1, 2, 3, 4, 5, 6]
        await net.check()


async def test_one_question_and_one_reply(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, type="consulting")
        await session.send("why?")
        async with refused(net, TurnError, bob.agent_id):
            await session.send("and how?")
        assert not await net.hc.can_send(session.session_id, alice.agent_id)
        assert await net.hc.can_send(session.session_id, bob.agent_id)
        await session.send({"note": 1}, event_type="my.aside")
        await (await bob.session(session.session_id)).send("because")
        assert (await session.info()).close_reason == "consulting_complete"


async def test_a_conversation_ends_after_its_turns(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, knobs={"max_turns": 3})
        other = await bob.session(session.session_id)
        await session.send("1")
        await session.send("2")
        await other.send("3")
        with pytest.raises(SessionClosedError):
            await other.send("4")
        assert (await session.info()).close_reason == "max_turns"
        assert await net.texts(session.session_id) == ["1", "2", "3"]


async def test_concurrent_senders_leave_no_gap(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = await team(net, "alice", "bob", "carol")
        first, second = await converse(alice, bob), await converse(alice, carol)

        async def send(session: Session, number: int) -> None:
            accepted = await session.send(str(number))
            assert accepted.text == str(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(send, first, number)
                nursery.start_soon(send, second, number)
        for session in (first, second):
            log = await net.log(session.session_id)
            assert [e.sequence for e in log] == list(range(1, 54))
            assert sorted(int(e.text) for e in log if e.text) == list(range(50))
            assert [e.envelope_id for e in log] == sorted({e.envelope_id for e in log})
            assert [parse_iso(e.created_at) for e in log] == sorted(parse_iso(e.created_at) for e in log)
        await net.check()


async def test_one_senders_own_order_is_kept(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        for number in range(30):
            await session.send(str(number))
        heard = [(await bob.wait_for_session_event(session.session_id)).text for _ in range(30)]
        assert heard == [str(number) for number in range(30)]


async def test_a_private_word(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = await team(net, "alice", "bob", "carol")
        session = await converse(alice, bob, carol, type="discussion")
        await session.send("psst", audience=[bob.agent_id])
        await settle()
        assert (net.pending("bob"), net.pending("carol")) == (1, 0)
        seen = await net.hc.read_wal(session.session_id, as_agent=carol.agent_id)
        assert "psst" not in [e.text for e in seen]
        assert "psst" in [e.text for e in await net.hc.read_wal(session.session_id, as_agent=bob.agent_id)]
        with pytest.raises(NotAMemberError):
            stranger = await net.agent("dave", hc=await net.client())
            await stranger.hub_client.read_wal(session.session_id)


# Ending.


async def test_who_may_close(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = await team(net, "alice", "bob", "carol")
        first, second = await converse(alice, bob), await converse(alice, bob)
        async with refused(net, NotAMemberError):
            await carol.close_session(first.session_id)
        closed = await bob.close_session(first.session_id, "bored")
        assert (closed.state, closed.close_reason) == ("closed", "bored")
        assert (await net.audit("session_closed"))[0].by == bob.agent_id
        closed = await net.hub.close_session(second.session_id, "curfew")
        assert closed.close_reason == "curfew"
        assert (await net.audit("session_closed"))[1].by is None
        await settle()
        async with refused(net, SessionClosedError, "bored"):
            await first.send("anybody?")


async def test_an_end_is_final(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, ttl=60)
        closed = await session.close("first")
        await settle()
        before = await net.picture()
        assert await session.close("second") == closed
        assert await net.hub.close_session(session.session_id, "third") == closed
        await trio.sleep(3600)
        assert await net.picture() == before
        assert await session.info() == closed
        assert (await net.hub.list_sessions(state="closed"))[0] == closed
        assert await net.hub.list_sessions(state="open") == []


async def test_many_close_at_once(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(alice.close_session, session.session_id, f"reason {number}")
                nursery.start_soon(net.hub.close_session, session.session_id, f"operator {number}")
        assert (await kinds(net, session)).count("session.closed") == 1
        assert len(await net.audit("session_closed")) == 1
        await net.check()


# Time.


async def test_time_is_up_for_every_send_swept_or_not(open_network: OpenNetwork) -> None:
    async with open_network(ttl_sweep_interval=0) as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, ttl="90s")
        await session.send("in time")
        await trio.sleep(100)
        async with refused(net, SessionClosedError, "TTL", "longer ttl"):
            await session.send("late")
        assert not await net.hc.can_send(session.session_id, bob.agent_id)
        assert (await session.info()).state == "active", "nobody has swept yet"
        assert await net.hub._ttl_tick() == 1
        assert await net.hub._ttl_tick() == 0
        expired = await session.info()
        assert (expired.state, expired.close_reason) == ("expired", "ttl_expired")
        assert [r.reason for r in await net.audit("session_expired")] == ["ttl_expired"]
        assert (await kinds(net, session))[-1] == "session.expired"
        await net.check()


async def test_the_sweeper_ends_what_is_late(open_network: OpenNetwork) -> None:
    async with open_network(ttl_sweep_interval=30) as net:
        alice, bob = await team(net, "alice", "bob")
        short, long = await converse(alice, bob, ttl=45), await converse(alice, bob, ttl="1d")
        await trio.sleep(61)
        assert (await short.info()).state == "expired"
        assert (await long.info()).state == "active"


async def test_which_ttl_counts(open_network: OpenNetwork) -> None:
    async with open_network(adapters=[Notebook()]) as net:
        ruled = await net.agent("ruled", rule=Rule(limits=LimitsBlock(session_ttl_default="10m")))
        free = await net.agent("free", rule=Rule(limits=LimitsBlock(session_ttl_default=None)))

        async def seconds(agent: AgentClient, **options: Any) -> float:
            metadata = (await agent.open("notebook", agent.agent_id, **options)).metadata
            assert metadata.expires_at is not None
            return round(parse_iso(metadata.expires_at) - parse_iso(metadata.created_at))

        assert await seconds(ruled, ttl="1h") == 3600
        assert await seconds(ruled) == 600
        assert await seconds(free) == 100
        assert await seconds(free, ttl=7.0) == 7


async def test_a_ttl_that_ends_before_the_invitation_is_answered(open_network: OpenNetwork) -> None:
    async with open_network(ttl_sweep_interval=1, invite_ack_timeout=60) as net:
        alice, _ = await team(net, "alice", "bob")
        with pytest.raises(ProtocolError, match="ttl_expired"):
            await alice.open(target="bob", ttl=5)
        assert (await newest(net)).state == "expired"


async def test_deadlines_survive_a_restart(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        active = await converse(alice, bob, ttl=200)
        wire = await net.wire()
        carol = await wire.register("carol")
        opening = OpenSession(carol.agent_id, "conversation", ("bob",), invite_ack_timeout=50)
        await wire.post(RequestFrame(99, OpenSession.op, opening))
        await settle()
        store = copied(net.store)
    async with open_network(store, ttl_sweep_interval=10) as net:
        pending = await newest(net)
        await trio.sleep(61)
        assert (await net.hub.get_session(pending.session_id)).is_terminal()
        assert (await net.hub.get_session(active.session_id)).state == "active"
        await trio.sleep(160)
        assert (await net.hub.get_session(active.session_id)).state == "expired"
        await net.check()


async def test_snapshots_cannot_be_changed(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        knobs: dict[str, Any] = {"max_turns": 5}
        labels: dict[str, Any] = {"list": [1]}
        session = await converse(alice, bob, knobs=knobs, labels=labels)
        knobs["max_turns"] = 1
        labels["list"].append(2)
        metadata = await session.info()
        assert (metadata.knobs["max_turns"], metadata.labels["list"]) == (5, [1])
        for change in (
            lambda: metadata.labels.update(x=1),
            lambda: metadata.labels["list"].append(2),
            lambda: setattr(metadata, "state", "closed"),
        ):
            with pytest.raises((TypeError, attrs.exceptions.FrozenInstanceError)):
                change()


async def test_a_poisonous_payload_is_refused_before_it_is_logged(open_network: OpenNetwork) -> None:
    """What a session type cannot fold never reaches the log, so no log keeps a hub from opening."""

    class Fragile(SessionAdapter):
        manifest = Manifest("fragile")

        def fold(self, state: Any, envelope: Envelope) -> Any:
            return (state or 0) + envelope.event_data["number"]

    async with open_network(adapters=[Fragile()]) as net:
        net.adapters.register(Fragile())
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, type="fragile")
        await session.send({"number": 1}, event_type="add")
        for poison in ({}, {"number": "x"}, {"number": None}):
            async with refused(net, ProtocolError, "fragile"):
                await session.send(poison, event_type="add")
        await session.send({"number": 1}, event_type="add")
        store = net.store
    async with open_network(store, adapters=[Fragile()]) as net:
        assert net.hub.health().status == "ok"


class Stricter(Notebook):
    """The same session type after an update that cannot read its old logs."""

    def fold(self, state: Any, envelope: Envelope) -> Any:
        raise KeyError("number")


async def test_one_unreadable_session_is_set_aside_and_the_rest_works(open_network: OpenNetwork) -> None:
    async with open_network(adapters=[Notebook()]) as net:
        alice, bob = await team(net, "alice", "bob")
        odd, fine = await alice.open("notebook", alice.agent_id), await converse(alice, bob)
        await odd.send("note")
        await fine.send("hello")
        store = net.store
    async with open_network(store, adapters=[Stricter()]) as net:
        with pytest.raises(QuarantinedError, match="notebook"):
            await net.hub.get_session(odd.session_id)
        with pytest.raises(QuarantinedError, match="set aside"):
            await net.hub.get_session(odd.session_id)
        health = net.hub.health()
        assert health.status == "degraded"
        assert odd.session_id in health.quarantined
        assert [r.what for r in await net.audit("quarantined")] == [f"session {odd.session_id}"]
        assert await net.texts(odd.session_id) == ["note"], "its log can be read all the same"
        assert (await net.hub.get_session(fine.session_id)).state == "active"
        assert net.pending("bob") == 1


async def test_expectations_of_an_opening_replace_the_types_own(open_network: OpenNetwork) -> None:
    async with open_network(expectation_sweep_interval=5) as net:
        alice, bob = await team(net, "alice", "bob")
        quick = Expectation("reply_within", "auto_close", {"seconds": 20})
        session = await converse(alice, bob, type="consulting", expectations=[quick])
        await session.send("why?")
        await trio.sleep(30)
        closed = await session.info()
        assert closed.close_reason == "expectation_violated:reply_within"
        assert [r.violators for r in await net.audit("expectation_violated")] == [[bob.agent_id]]
        await net.check()


async def test_depth_counts_from_the_session_it_was_opened_in(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        seen: list[int] = []

        async def delegating(text: str) -> str:
            inner = await bob.open("consulting", "carol")
            seen.append(inner.metadata.depth)
            return (await inner.ask(text)).text

        await net.agent("carol", echo)
        bob = await net.agent("bob", delegating)
        session = await alice.open("consulting", "bob")
        assert (await session.ask("deep?", timeout=5)).text == "re: deep?"
        assert (session.metadata.depth, seen) == (0, [1])


async def test_delegation_has_a_bottom(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        rule = Rule(limits=LimitsBlock(delegation_depth=2))
        failures: list[Exception] = []
        clients: dict[str, AgentClient] = {}

        async def pass_on(me: str, to: str, text: str) -> str:
            try:
                inner = await clients[me].open("consulting", to)
                return (await inner.ask(text)).text
            except AccessDeniedError as error:
                failures.append(error)
                return "too deep"

        for me, to in (("b", "c"), ("c", "d"), ("d", "e")):
            clients[me] = await net.agent(me, partial(pass_on, me, to), rule=rule)
        await net.agent("e", echo)
        session = await alice.open("consulting", "b")
        assert (await session.ask("down", timeout=60)).text == "too deep"
        assert "delegation_depth=2" in str(failures[0])
        with pytest.raises(InvalidInput):
            Envelope(session.session_id, alice.agent_id, depth=-1)
