"""A client that knows nothing but the protocol's documents gets along with a hub and with agents of agorio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from agorio import AgentClient, Hub, HubClient, MemoryKnowledgeStore, Passport, WsLink, serve_ws
from agorio.actors.sessions.credentials import HmacCredentials
from agorio.hub.auth import AuthRegistry
from agorio.hub.auth_hmac import HmacAuth
from tests.websocket.foreign import SCHEMA, ForeignClient, Refused, connected, fits

SECRETS = {"alice": "a secret of alice's", "bob": "a secret of bob's"}


@attrs.define
class Scene:
    """A hub on a socket, with bob on it, an agent of agorio."""

    hub: Hub
    url: str
    bob: AgentClient


async def shout(text: str) -> str:
    return text.upper()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    auth = AuthRegistry(HmacAuth(SECRETS))
    async with Hub.open(MemoryKnowledgeStore(), auth=auth) as hub, serve_ws(hub) as server:
        url = f"ws://127.0.0.1:{server.port}"
        async with HubClient(WsLink(url)) as hc:
            proof = HmacCredentials(SECRETS["bob"])
            yield Scene(hub, url, await hc.register(shout, Passport("bob"), credentials=proof))


async def open_with_bob(client: ForeignClient, alice: str) -> str:
    session = await client.ask("open_session", creator_id=alice, type="conversation", participants=["bob"])
    assert session["state"] == "active"
    session_id: str = session["session_id"]
    return session_id


async def test_it_proves_itself_and_talks() -> None:
    async with scene() as stage, connected(stage.url) as client:
        with pytest.raises(Refused, match="auth_failed"):
            await client.register("alice", "a guess")
        alice = await client.register("alice", SECRETS["alice"])
        session_id = await open_with_bob(client, alice)
        said = {"session_id": session_id, "sender_id": alice, "event_type": "ag2.msg.text"}
        accept = await client.send(**said, event_data={"text": "grüße 🎉"}, idempotency_key="1")
        again = await client.send(**said, event_data={"text": "grüße 🎉"}, idempotency_key="1")
        assert accept["envelope"] == again["envelope"]
        assert again["duplicate"]
        reply = await client.next("notify", "ag2.msg.text")
        assert reply["envelope"]["event_data"]["text"] == "GRÜSSE 🎉"
        await client.acknowledge(reply)
        log = await client.ask("read_wal", session_id=session_id)
        assert [one["event_data"]["text"] for one in log if one["event_type"] == "ag2.msg.text"] == [
            "grüße 🎉",
            "GRÜSSE 🎉",
        ]
        closed = await client.ask("close_session", agent_id=alice, session_id=session_id)
        assert closed["state"] == "closed"


async def test_it_is_invited_and_takes_up_where_it_was() -> None:
    async with scene() as stage:
        opened: list[str] = []

        async def invite() -> None:
            session = await stage.bob.open("conversation", "alice")
            opened.append(session.session_id)
            await session.send("are you there?")

        async with connected(stage.url) as client, trio.open_nursery() as nursery:
            alice = await client.register("alice", SECRETS["alice"])
            nursery.start_soon(invite)
            invitation = await client.next("notify", "ag2.session.invite")
            said = {"session_id": invitation["envelope"]["session_id"], "sender_id": alice}
            await client.send(**said, event_type="ag2.session.invite.ack")
            await client.acknowledge(invitation)
            first = await client.next("notify", "ag2.msg.text")
            assert "attempt" not in first  # 1 is the default
            await client.hang_up()  # without a receipt
        async with connected(stage.url) as client:
            assert await client.register("alice", SECRETS["alice"], attach=True) == alice
            second = await client.next("notify", "ag2.msg.text")
            assert second["envelope"] == first["envelope"]
            assert second["attempt"] == 2
            await client.acknowledge(second)
            assert await client.ask("can_send", agent_id=alice, session_id=opened[0], event_type="ag2.msg.text")


async def test_it_observes_a_session_and_goes_on_observing() -> None:
    async with scene() as stage:
        async with connected(stage.url) as client:
            alice = await client.register("alice", SECRETS["alice"], window=0)
            session_id = await open_with_bob(client, alice)
            said = {"session_id": session_id, "sender_id": alice, "event_type": "ag2.msg.text"}
            await client.send(**said, event_data={"text": "one"})
            wanted = {"session_id": session_id, "agent_id": alice, "event_types": ["ag2.msg.text"]}
            await client.say({"kind": "subscribe", "subscription_id": 7, **wanted})
            seen = [await client.next("event") for _ in range(2)]
            assert [one["envelope"]["event_data"]["text"] for one in seen] == ["one", "ONE"]
            assert {one["subscription_id"] for one in seen} == {7}
            await client.hang_up()
        async with connected(stage.url) as client:
            await client.register("alice", SECRETS["alice"], attach=True, window=0)
            await client.send(**said, event_data={"text": "two"})
            after = seen[-1]["envelope"]["sequence"]
            await client.say({"kind": "subscribe", "subscription_id": 8, "after": after, **wanted})
            seen = [await client.next("event") for _ in range(2)]
            assert [one["envelope"]["event_data"]["text"] for one in seen] == ["two", "TWO"]


async def test_two_of_one_name() -> None:
    async with scene() as stage, connected(stage.url) as client:
        alice = await client.register("alice", SECRETS["alice"])
        async with connected(stage.url) as other:
            await other.register("alice", SECRETS["alice"], attach=True)
            notice = await client.next("request")
        assert notice["op"] == "identity_lost"
        assert notice["params"]["agent_id"] == alice
        assert notice["params"]["code"] == "superseded"
        with pytest.raises(Refused, match="auth_failed"):
            await client.ask("set_skill", agent_id=alice, skill_md="# mine")


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ({"kind": "ping"}, True),
        ([{"kind": "ping"}, {"kind": "pong", "nonce": 1}], True),
        ({"kind": "ping", "nonce": "1"}, False),
        ({"kind": "nothing"}, False),
        ({"kind": "send", "request_id": 1, "envelope": {"session_id": "s"}}, False),
        ({"kind": "request", "request_id": 1, "op": "unregister", "params": {"agent_id": 5}}, False),
        ({"kind": "request", "request_id": 1, "op": "of a newer hub", "params": {"anything": 5}}, True),
        ([], False),
    ],
)
def test_the_schema_tells_right_from_wrong(value: object, is_valid: bool) -> None:
    assert fits(value, SCHEMA) is is_valid
