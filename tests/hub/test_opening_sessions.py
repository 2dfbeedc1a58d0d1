"""How sessions open: invitations, their answers, quorums, caps, and what happens when nobody answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.rule import LimitsBlock, Rule
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import (
    AccessDeniedError,
    ProtocolError,
    SessionClosedError,
)
from agorio.mailbox.events import EV_SESSION_INVITE_ACK, EV_SESSION_INVITE_REJECT
from tests.hub.conftest import OpenNetwork
from tests.hub.kinds import Notebook
from tests.hub.network import Network, accept_next, converse, settle
from tests.hub.refusals import refused


async def echo(text: str) -> str:
    return f"re: {text}"


async def team(net: Network, *names: str, **options: Any) -> list[AgentClient]:
    return [await net.agent(name, **options) for name in names]


async def kinds(net: Network, session: Session | str) -> list[str]:
    session_id = session if isinstance(session, str) else session.session_id
    return [envelope.event_type.removeprefix("ag2.") for envelope in await net.log(session_id)]


async def newest(net: Network) -> Any:
    return (await net.hub.list_sessions(limit=1))[0]


async def test_from_pending_to_active(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(alice.open, target="bob", intent="chat", labels={"n": 1}))
            await settle()
            pending = await newest(net)
            assert (pending.state, pending.pending_acks) == ("pending", (bob.agent_id,))
            assert [e.text for e in await net.log(pending.session_id)] == [""]
            envelope = Envelope(pending.session_id, alice.agent_id, event_data={"text": "too early"})
            async with refused(net, ProtocolError, "pending", "invitations"):
                await alice.send_envelope(envelope)
            nursery.start_soon(accept_next, bob)
        active = await net.hub.get_session(pending.session_id)
        assert (active.state, active.pending_acks, active.intent, active.labels["n"]) == ("active", (), "chat", 1)
        assert pending.state == "pending", "snapshots are frozen"
        assert await kinds(net, active.session_id) == ["session.invite", "session.invite.ack", "session.opened"]
        await net.check()


async def test_a_rejected_invitation(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(accept_next, bob, is_welcome=False))
            with pytest.raises(ProtocolError, match="invite_rejected"):
                await alice.open(target="bob")
        closed = await newest(net)
        assert (closed.state, closed.close_reason) == ("closed", "invite_rejected")
        assert [r.reason for r in await net.audit("session_closed")] == ["invite_rejected"]
        await net.check()


@pytest.mark.parametrize("seconds", [None, 5.0, 0])
async def test_an_unanswered_invitation(open_network: OpenNetwork, seconds: float | None) -> None:
    async with open_network(invite_ack_timeout=40) as net:
        alice, bob = await team(net, "alice", "bob")
        begin = trio.current_time()
        with pytest.raises(ProtocolError, match="bob did not answer") as caught:
            await alice.open(target="bob", invite_ack_timeout=seconds)
        assert caught.value.details["waiting"] == [bob.agent_id]
        assert trio.current_time() - begin == pytest.approx(40 if seconds is None else seconds, abs=1)
        await settle()
        closed = await newest(net)
        assert closed.close_reason == "invite_timeout"
        late = Envelope(closed.session_id, bob.agent_id, event_type=EV_SESSION_INVITE_ACK)
        async with refused(net, SessionClosedError):
            await bob.send_envelope(late)


async def test_cancelling_open_closes_the_session(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, _ = await team(net, "alice", "bob")
        with trio.move_on_after(3):
            await alice.open(target="bob")
        await settle()
        closed = await newest(net)
        assert (closed.state, closed.close_reason) == ("closed", "open_cancelled")
        assert net.hub.agents()[0].open_sessions == 0
        await net.check()


async def test_a_quorum_opens_before_everybody_has_answered(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol, dave = await team(net, "alice", "bob", "carol", "dave")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_next, bob)
            nursery.start_soon(accept_next, carol)
            session = await alice.open("discussion", ["bob", "carol", "dave"], required_acks=2)
        assert session.metadata.state == "active"
        assert session.metadata.pending_acks == (dave.agent_id,)
        await dave.send_envelope(Envelope(session.session_id, dave.agent_id, event_type=EV_SESSION_INVITE_ACK))
        assert (await session.info()).pending_acks == ()
        await net.check()


async def test_a_quorum_that_cannot_be_reached_any_more(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol, dave = await team(net, "alice", "bob", "carol", "dave")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(accept_next, bob, is_welcome=False))
            nursery.start_soon(partial(accept_next, carol, is_welcome=False))
            with pytest.raises(ProtocolError, match="invite_rejected"):
                await alice.open("discussion", ["bob", "carol", "dave"], required_acks=2)
        assert (await newest(net)).close_reason == "invite_rejected"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(accept_next, bob, is_welcome=False))
            nursery.start_soon(accept_next, carol)
            nursery.start_soon(accept_next, dave)
            session = await alice.open("discussion", ["bob", "carol", "dave"], required_acks=2)
        await session.send("first")
        await settle()
        assert (await session.info()).expected_next == (carol.agent_id,), "who declined has no turn"


async def test_invitations_are_answered_once(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        answer = Envelope(session.session_id, bob.agent_id, event_type=EV_SESSION_INVITE_ACK)
        before = await net.picture()
        await bob.send_envelope(answer)
        await bob.send_envelope(attrs.evolve(answer, event_type=EV_SESSION_INVITE_REJECT))
        await session.close()
        await settle()
        await bob.send_envelope(answer)
        assert before["streams"][f"session/{session.session_id}"] == (
            await net.store.read(f"session/{session.session_id}", 0, 3)
        )
        mine = Envelope(session.session_id, alice.agent_id, event_type=EV_SESSION_INVITE_ACK)
        async with refused(net, ProtocolError, "not invited"):
            await alice.send_envelope(mine)


async def test_many_open_at_once(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        members = [await net.agent(f"a{n}", echo) for n in range(10)]
        sessions: list[Session] = []

        async def open_one(creator: AgentClient, target: AgentClient) -> None:
            sessions.append(await creator.open(target=target.agent_id))

        async with trio.open_nursery() as nursery:
            for creator in members:
                for target in members:
                    if creator is not target:
                        nursery.start_soon(open_one, creator, target)
        assert len({session.session_id for session in sessions}) == 90
        assert all(session.metadata.state == "active" for session in sessions)
        assert {info.open_sessions for info in net.hub.agents()} == {9}
        await net.check()


async def test_a_cap_on_open_sessions_is_exact(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice", rule=Rule(limits=LimitsBlock(max_concurrent_sessions=3)))
        await net.agent("bob", echo)
        opened: list[Session] = []
        refusals: list[str] = []

        async def try_one() -> None:
            try:
                opened.append(await alice.open(target="bob"))
            except AccessDeniedError as error:
                refusals.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(try_one)
        assert (len(opened), len(refusals)) == (3, 7)
        assert "max_concurrent_sessions" in refusals[0]
        await opened[0].close()
        await settle()
        await alice.open(target="bob")
        with pytest.raises(AccessDeniedError):
            await alice.open(target="bob")


async def test_a_session_with_oneself(open_network: OpenNetwork) -> None:
    async with open_network(adapters=[Notebook()]) as net:
        net.adapters.register(Notebook())
        alice = await net.agent("alice")
        session = await alice.open("notebook", alice.agent_id)
        assert session.metadata.state == "active"
        await session.send("buy milk")
        await session.send("done")
        await settle()
        assert (await net.hub.get_session(session.session_id)).close_reason == "noted"
        assert await net.texts(session.session_id) == ["buy milk", "done"]
        await net.check()
