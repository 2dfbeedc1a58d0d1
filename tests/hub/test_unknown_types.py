"""Sessions whose type the hub that finds them does not know: they keep, and nobody else is the worse for them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.metadata import Expectation, Manifest
from agorio.hub.dormant import Outline, outline_from_bytes
from agorio.hub.stores.protocol import KnowledgeStore
from agorio.mailbox.errors import NotFoundError, QuarantinedError
from agorio.mailbox.events import EV_SESSION_CLOSED, EV_TEXT
from tests.hub.conftest import OpenNetwork
from tests.hub.network import Network, converse, settle


class Custom(SessionAdapter):
    """A session type of the program's own."""

    manifest = Manifest("custom", expectations=(Expectation("max_silence", "auto_close", {"seconds": 900}),))


class Newer(Custom):
    """The next version of it."""

    manifest = attrs.evolve(Custom.manifest, version=2)


@attrs.frozen
class Left:
    """What a hub that knew the type has left behind."""

    store: KnowledgeStore
    odd: str
    fine: str
    ended: str
    bob: str


async def leave(open_network: OpenNetwork, **options: Any) -> Left:
    """A custom session with a text that bob has not handled, one that has ended, and an ordinary one."""
    async with open_network(adapters=[Custom()]) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        odd = await converse(alice, bob, type="custom", **options)
        await odd.send("why?")
        ended = await converse(alice, bob, type="custom")
        await ended.close()
        fine = await converse(alice, bob)
        await settle()
        return Left(net.store, odd.session_id, fine.session_id, ended.session_id, bob.agent_id)


async def heard_by(net: Network, name: str, session_id: str) -> list[str]:
    """Attach an agent and keep what its handler is told of a session."""
    heard: list[str] = []

    async def listen(envelope: Any) -> None:
        if envelope.event_type in (EV_TEXT, EV_SESSION_CLOSED) and envelope.session_id == session_id:
            heard.append(envelope.text or envelope.event_type)

    await net.agent(name, handler=listen, attach=True)
    await settle()
    return heard


async def test_it_is_listed_and_readable_and_reported(open_network: OpenNetwork) -> None:
    left = await leave(open_network)
    async with open_network(left.store, adapters=[Newer()]) as net:
        health = net.hub.health()
        assert health.quarantined == (f"session {left.odd}",)
        assert health.reasons == (f"session {left.odd} is set aside",)
        (record,) = await net.audit("quarantined")
        assert record.what == f"session {left.odd}"
        assert "'custom' version 1" in record.detail
        await net.agent("alice", attach=True)
        everybody = {left.odd, left.fine, left.ended}
        assert {one.session_id for one in await net.hub.list_sessions()} == everybody
        assert {one.session_id for one in await net.hc.list_sessions()} == everybody
        assert (await net.hub.get_session(left.odd)).manifest == Custom.manifest
        assert (await net.hub.get_session(left.ended)).state == "closed"
        assert await net.texts(left.odd) == ["why?"]
        assert [e.text for e in await net.hc.read_wal(left.odd) if e.text] == ["why?"]


async def test_nothing_is_said_in_it_and_the_refusal_teaches(open_network: OpenNetwork) -> None:
    left = await leave(open_network)
    async with open_network(left.store) as net:
        alice = await net.agent("alice", attach=True)
        session = await alice.session(left.odd)
        before = await net.log(left.odd)
        with pytest.raises(QuarantinedError, match=r"Hub\.open\(adapters=") as caught:
            await session.send("hello?")
        assert caught.value.details["type"] == "custom"
        assert not await net.hc.can_send(left.odd, alice.agent_id)
        with pytest.raises(NotFoundError, match="custom"):
            await alice.open("custom", "bob")
        assert await net.log(left.odd) == before
        assert await net.hc.can_send(left.fine, alice.agent_id)


async def test_the_operator_closes_it_and_its_mail_goes_out(open_network: OpenNetwork) -> None:
    left = await leave(open_network)
    async with open_network(left.store) as net:
        heard = await heard_by(net, "bob", left.odd)
        assert heard == []
        assert net.pending("bob") == 1
        assert (await net.hub.close_session(left.odd)).close_reason == "closed_by_operator"
        await settle()
        assert heard == ["why?", EV_SESSION_CLOSED]
        assert net.pending("bob") == 0
        assert net.hub.health().status == "ok"


async def test_it_ends_with_its_ttl_and_by_no_expectation(open_network: OpenNetwork) -> None:
    left = await leave(open_network, ttl=2000)
    async with open_network(left.store) as net:
        await trio.sleep(1500)
        assert (await net.hub.get_session(left.odd)).state == "active"
        await trio.sleep(1000)
        assert (await net.hub.get_session(left.odd)).close_reason == "ttl_expired"


async def test_a_member_is_unregistered(open_network: OpenNetwork) -> None:
    left = await leave(open_network)
    async with open_network(left.store) as net:
        await net.hub.unregister(left.bob)
        await settle()
        assert (await net.hub.get_session(left.odd)).close_reason == "participant_gone"
        assert (await net.hub.get_session(left.fine)).close_reason == "participant_gone"


@pytest.mark.parametrize("how", ["at the next start", "while it runs"])
async def test_it_goes_on_once_its_type_is_there(open_network: OpenNetwork, how: str) -> None:
    left = await leave(open_network)
    async with open_network(left.store) as net:
        heard = await heard_by(net, "bob", left.odd)
        if how == "while it runs":
            net.hub.register_adapter(Custom())
            await settle()
            assert net.hub.health().status == "ok"
            assert heard == ["why?"]
    if how == "at the next start":
        async with open_network(left.store, adapters=[Custom()]) as net:
            assert net.hub.health().status == "ok"
            assert await heard_by(net, "bob", left.odd) == ["why?"]
            await go_on(net, left)
        return
    async with open_network(left.store, adapters=[Custom()]) as net:
        assert await heard_by(net, "bob", left.odd) == []
        await go_on(net, left)


async def go_on(net: Network, left: Left) -> None:
    alice = await net.agent("alice", attach=True)
    await (await alice.session(left.odd)).send("and now?")
    await trio.sleep(1000)
    assert (await net.hub.get_session(left.odd)).close_reason == "expectation_violated:max_silence"


async def test_its_expectations_count_again_where_its_type_comes_while_the_hub_runs(open_network: OpenNetwork) -> None:
    left = await leave(open_network)
    async with open_network(left.store) as net:
        net.hub.register_adapter(Custom())
        await trio.sleep(1500)
        assert (await net.hub.get_session(left.odd)).close_reason == "expectation_violated:max_silence"


def test_an_outline_of_an_older_hub_names_no_type() -> None:
    assert outline_from_bytes(b'[null,null,false,"a","b"]') == Outline(("a", "b"))
    outline = Outline(("a", "b"), 5.0, 2.0, True, ("custom", 3))
    assert outline_from_bytes(outline.to_bytes()) == outline
