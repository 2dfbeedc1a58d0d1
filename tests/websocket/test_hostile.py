"""Peers that mean harm. The hub answers or hangs up; its other agents notice nothing, and memory stays bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair

from agorio import Hub, HubClient, MemoryKnowledgeStore, Passport, Session
from agorio.actors.sessions.operations import operations
from agorio.transports.limits import Limits
from tests.websocket.memory import MemoryWsLink, open_memory_link
from tests.websocket.raw import HELLO, RawPeer, handshake, text, ws_frame

Attack = Callable[[RawPeer], Awaitable[None]]


@attrs.define(eq=False)
class Scene:
    """A hub with two honest agents in conversation, and a way for others to connect."""

    hub: Hub
    link: MemoryWsLink
    session: Session
    nursery: trio.Nursery

    async def peer(self) -> RawPeer:
        near, far = memory_stream_pair()
        assert self.link.server is not None
        self.nursery.start_soon(self.link.server.handle, far)
        return RawPeer(near)

    async def greeted(self) -> RawPeer:
        peer = await self.upgraded()
        await peer.say(HELLO)
        await peer.until(b"welcome")
        return peer

    async def upgraded(self) -> RawPeer:
        peer = await self.peer()
        await peer.say(handshake())
        await peer.until(b"\r\n\r\n")
        return peer

    async def check(self) -> None:
        """The honest agents still talk, and nobody else is left."""
        assert (await self.session.ask("still there?")).text == "STILL THERE?"


async def shout(message: str) -> str:
    return message.upper()


@asynccontextmanager
async def scene(**limits: Any) -> AsyncIterator[Scene]:
    async with (
        Hub.open(MemoryKnowledgeStore()) as hub,
        open_memory_link(hub, limits=Limits(**limits)) as link,
        HubClient(link) as hc,
        trio.open_nursery() as nursery,
    ):
        alice = await hc.register(shout, Passport("alice"), attach_plugin=False)
        await hc.register(shout, Passport("bob"))
        yield Scene(hub, link, await alice.open("conversation", "bob"), nursery)
        nursery.cancel_scope.cancel()


async def answered(attacks: list[bytes], **limits: Any) -> list[bytes]:
    """What each of these bytes is answered with, until the hub hangs up."""
    answers = []
    async with scene(**limits) as stage:
        for attack in attacks:
            peer = await stage.peer()
            await peer.say(attack)
            answers.append(await peer.to_the_end())
        await stage.check()
    return answers


@pytest.mark.parametrize(
    "attack",
    [
        b"",
        b"\0" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        handshake(b"Sec-WebSocket-Extensions: \xff\xfe"),
        handshake(protocol=b"\xff\xfe"),
        handshake(b"X-Long: " + b"x" * 40_000),
        handshake()[:60],
    ],
    ids=["silence", "zeros", "plain http", "tls", "extensions", "protocol", "long header", "half a handshake"],
)
async def test_broken_handshakes(attack: bytes) -> None:
    (answer,) = await answered([attack])
    assert b" 101 " not in answer


async def test_another_subprotocol_is_refused() -> None:
    for answer in await answered([handshake(protocol=None), handshake(protocol=b"chat")]):
        assert b" 400 " in answer
        assert b"agorio.v1" in answer


async def test_a_foreign_page_is_refused() -> None:
    (answer,) = await answered([handshake(b"Origin: https://evil.example")])
    assert b" 403 " in answer


async def test_a_handshake_that_never_ends() -> None:
    async with scene() as stage:
        peer = await stage.peer()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, peer)
            await peer.to_the_end()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start == pytest.approx(5.0, abs=0.2)
        await stage.check()


async def drip(peer: RawPeer) -> None:
    for byte in handshake():
        await peer.say(bytes([byte]))
        await trio.sleep(0.5)


async def test_silence_after_the_upgrade() -> None:
    async with scene() as stage:
        peer = await stage.peer()
        await peer.say(handshake())
        start = trio.current_time()
        assert b"no greeting" in await peer.to_the_end()
        assert 5.0 <= trio.current_time() - start <= 8.0
        await stage.check()


async def test_no_identity_and_nothing_to_say() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_pings, peer)
            await peer.until(b"idle for 300 s")
            nursery.cancel_scope.cancel()
        assert 280 <= trio.current_time() - start <= 350


async def answer_pings(peer: RawPeer) -> None:
    while True:
        await trio.sleep(1)
        at = peer.received.rfind(b"\x89\x04")
        if at >= 0:
            await peer.say(ws_frame(peer.received[at + 2 : at + 6], 10))


async def test_a_peer_that_is_dead() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        start = trio.current_time()
        await peer.to_the_end()
        assert trio.current_time() - start <= 45
        await stage.check()


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (ws_frame(b"x" * 2000), 1009),
        (ws_frame("🎉".encode() * 260), 1009),
        (b"".join(ws_frame(b"x" * 400, 0 if n else 1, last=False) for n in range(4)), 1009),
        (ws_frame(b"", claimed=2**62), 1009),
        (ws_frame(b"", 1, last=False) + ws_frame(b"", 0, last=False) * 50, 1008),
        (ws_frame(b"x" * 125, 9, claimed=126), 1002),
    ],
    ids=["large", "large in bytes only", "large in fragments", "2^62", "fragments", "long ping"],
)
async def test_a_broken_limit_is_told_and_the_connection_ends(attack: bytes, code: int) -> None:
    async with scene(max_message=1024, max_fragments=32) as stage:
        peer = await stage.greeted()
        await peer.say(attack)
        answer = await peer.to_the_end()
        assert b"\x88" in answer
        assert code.to_bytes(2, "big") in answer
        await stage.check()


async def test_text_that_is_no_utf8_ends_the_connection() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        await peer.say(ws_frame(b"\xff\xfe"))
        await peer.to_the_end()
        await stage.check()


async def test_endless_empty_fragments_are_not_even_buffered() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        await peer.say(ws_frame(b"", 1, last=False))
        for _ in range(200):
            await peer.say(ws_frame(b"", 0, last=False) * 100)
        assert b"fragments" in await peer.to_the_end()
        await stage.check()


async def test_floods_are_read_slowly() -> None:
    async with scene(messages_per_second=100, bytes_per_second=100_000) as stage:
        for flood in (ws_frame(b"x", 9) * 500, text({"kind": "ping"}) * 500, text(*[{"kind": "ping"}] * 500)):
            peer = await stage.greeted()
            start = trio.current_time()
            await peer.say(flood)
            await trio.sleep(0.1)
            await peer.say(text({"kind": "ping", "nonce": 77}))
            await peer.until(b'"nonce":77')
            assert trio.current_time() - start >= 3.5
        await stage.check()


async def test_a_flood_of_connections() -> None:
    async with scene(max_connections=20) as stage:
        peers = [await stage.peer() for _ in range(100)]
        await trio.sleep(0.1)
        assert stage.link.server is not None
        statistics = stage.link.server.statistics()
        assert statistics.current_connections == 20
        assert statistics.total_turned_away == 81
        await stage.check()
        await trio.sleep(6)
        assert stage.link.server.statistics().current_connections == 1
        assert len(peers) == 100
        newcomer = await stage.greeted()
        assert b"welcome" in newcomer.received


async def test_a_flood_from_one_address_leaves_room_for_others() -> None:
    async with scene(max_per_peer=3) as stage:
        for _ in range(10):
            await stage.peer()
        await trio.sleep(0.1)
        assert stage.link.server is not None
        assert stage.link.server.statistics().total_turned_away == 8
        await stage.check()


async def test_a_peer_that_does_not_read() -> None:
    async with scene(write_timeout=3.0) as stage:
        peer = await stage.greeted()
        peer.stream.receive_stream.close()  # type: ignore[attr-defined]
        for _ in range(100):
            await peer.say(text(*[{"kind": "ping"}] * 100))
        await stage.check()
        await trio.sleep(10)
        assert stage.link.server is not None
        assert stage.link.server.statistics().current_connections == 1


async def test_bad_frames_are_answered_one_by_one() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        await peer.say(text({"kind": "fly", "request_id": 3}, {"kind": "ping", "nonce": 9}))
        await peer.until(b'"nonce":9')
        assert b'"request_id":3' in peer.received
        assert b"bad_frame" in peer.received
        for nonsense in (b"nonsense", b"[" * 5000, b'{"kind":"ping","nonce":NaN}'):
            await peer.say(ws_frame(nonsense))
        await peer.say(text({"kind": "ping", "nonce": 10}))
        await peer.until(b'"nonce":10')
        assert peer.received.count(b"bad_frame") == 4
        await stage.check()


async def test_whoever_does_not_begin_with_a_greeting_is_shown_out() -> None:
    async with scene() as stage:
        peer = await stage.upgraded()
        await peer.say(text({"kind": "request", "request_id": 1, "op": "unregister", "params": {"agent_id": "x"}}))
        answer = await peer.to_the_end()
        assert b"bad_frame" in answer
        assert b"the first frame must be Hello" in answer
        await stage.check()


async def test_frames_that_come_with_the_handshake_wait_for_nobody() -> None:
    (answer,) = await answered([handshake() + HELLO * 1000])
    assert b"no greeting" in answer or b"welcome" in answer


ARGUMENTS: dict[str, dict[str, Any]] = {
    "open_session": {"creator_id": "{bob}", "type": "conversation", "participants": ["alice"]},
    "report_usage": {"tokens": 1},
    "report_turn_failure": {"envelope_id": "e", "exc_type": "x", "exc_message": "y"},
    "observe_task": {"request": {"spec": {"title": "t"}}},
    "update_task": {"event_type": "ag2.task.progress", "event_data": {}},
    "checkpoint_task": {"task_id": "t", "state": {}},
    "report_mirror_failure": {"event_type": "x", "exc_message": "y"},
    "add_example": {"example": {"title": "t"}},
    "set_resume": {"resume": {}},
    "set_rule": {"rule": {}},
    "names_for": {"agent_ids": []},
    "actor_call": {"message": 1},
    "withdraw": {"sequence": 1},
    "actor_ask": {"name": "alice", "message": 1},
    "actor_send": {"name": "alice", "message": 1},
    "identity_lost": {"code": "superseded", "message": "x"},
}
# Nobody needs an identity to get one, or to take back a question.
GRANTED = {"register", "auth_challenge", "cancel_request"}


@pytest.mark.parametrize("op", sorted(set(operations()) - GRANTED))
async def test_no_operation_without_an_identity(op: str) -> None:
    async with scene() as stage:
        bob = next(info.agent_id for info in stage.hub.agents() if info.name == "bob")
        names = {field.name for field in attrs.fields(operations()[op])}
        known = {
            "agent_id": bob,
            "session_id": stage.session.session_id,
            "task_id": "t",
            "name_or_id": "bob",
            "name": "bob",
        }
        params = {key: value for key, value in known.items() if key in names} | {"window": 1, "causation_id": "c"}
        params = (
            {key: value for key, value in params.items() if key in names} | {"skill_md": "x"} | ARGUMENTS.get(op, {})
        )
        params = json.loads(json.dumps(params).replace("{bob}", bob))
        peer = await stage.greeted()
        await peer.say(
            text({"kind": "request", "request_id": 5, "op": op, "params": params}, {"kind": "ping", "nonce": 3})
        )
        await peer.until(b'"nonce":3')
        await trio.sleep(1)
        assert b'"kind":"response"' not in peer.received
        answer = peer.received[peer.received.index(b'"kind":"error"') :]
        assert b'"auth_failed"' in answer or b'"access_denied"' in answer or b'"bad_frame"' in answer, answer
        assert b"invalid" not in answer
        await stage.check()


async def test_forged_sender_receipts_and_subscriptions() -> None:
    async with scene() as stage:
        ids = {info.name: info.agent_id for info in stage.hub.agents()}
        session_id = stage.session.session_id
        before = await stage.hub.read_wal(session_id)
        peer = await stage.greeted()
        envelope: dict[str, Any] = {"session_id": session_id, "sender_id": ids["alice"], "event_type": "ag2.msg.text"}
        envelope |= {"event_data": {"text": "send me money"}, "envelope_id": "forged", "sequence": 99}
        await peer.say(
            text(
                {"kind": "send", "request_id": 1, "envelope": envelope},
                {"kind": "receipt", "recipient_id": ids["bob"], "session_id": session_id, "sequence": 4},
                {"kind": "subscribe", "subscription_id": 1, "session_id": session_id, "agent_id": ids["alice"]},
                {"kind": "ping", "nonce": 4},
            )
        )
        await peer.until(b'"nonce":4')
        await trio.sleep(1)
        await peer.say(text({"kind": "ping", "nonce": 5}))
        await peer.until(b'"nonce":5')
        assert peer.received.count(b"auth_failed") == 3
        assert await stage.hub.read_wal(session_id) == before
        await stage.check()


async def test_stamps_of_a_sender_are_ignored() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        await peer.say(
            text({"kind": "request", "request_id": 1, "op": "register", "params": {"passport": {"name": "eve"}}})
        )
        await peer.until(b'"kind":"response"')
        eve = next(info.agent_id for info in stage.hub.agents() if info.name == "eve")
        opening = {"creator_id": eve, "type": "conversation", "participants": ["bob"]}
        await peer.say(text({"kind": "request", "request_id": 2, "op": "open_session", "params": opening}))
        await peer.until(b'"type":"SessionMetadata"')
        (session,) = await stage.hub.list_sessions(agent_id=eve)
        envelope: dict[str, Any] = {"session_id": session.session_id, "sender_id": eve, "event_type": "ag2.msg.text"}
        envelope |= {"envelope_id": "forged", "created_at": "1999", "sequence": 99, "event_data": {"text": "hi"}}
        await peer.say(text({"kind": "send", "request_id": 3, "envelope": envelope}))
        assert b'"kind":"accept"' in await peer.until(b'"kind":"accept"'), peer.received
        logged = next(one for one in await stage.hub.read_wal(session.session_id) if one.text == "hi")
        assert logged.envelope_id != "forged"
        assert logged.sequence < 99
        assert logged.created_at > "2000"
        # Somebody else's session stays closed to it.
        stolen = {"session_id": stage.session.session_id, "agent_id": eve}
        await peer.say(text({"kind": "request", "request_id": 4, "op": "read_wal", "params": stolen}))
        await peer.until(b'"request_id":4')
        await peer.until(b"not_a_member")
        await stage.check()


async def test_too_many_questions_at_once() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        await peer.say(
            text({"kind": "request", "request_id": 1, "op": "register", "params": {"passport": {"name": "eve"}}})
        )
        await peer.until(b'"kind":"response"')
        eve = next(info.agent_id for info in stage.hub.agents() if info.name == "eve")
        wait = {"kind": "request", "op": "actor_stopped", "params": {"agent_id": eve, "name": "eve"}}
        for first in range(2, 1402, 100):
            await peer.say(text(*[{**wait, "request_id": number} for number in range(first, first + 100)]))
        await peer.say(text({"kind": "ping", "nonce": 8}))
        await peer.until(b'"nonce":8')
        assert peer.received.count(b"rate_limited") >= 300
        await stage.check()


async def test_a_message_of_many_frames_leaves_everybody_else_their_turn() -> None:
    async with scene() as stage:
        peer = await stage.greeted()
        await peer.say(text(*[{"kind": "ping", "nonce": number} for number in range(1, 301)]))
        answer = await peer.until(b'"nonce":300}')
        # Answers are written while later frames of the same message still wait.
        assert answer.count(b'[{"kind":"pong"') > 1
        await stage.check()


async def test_a_registration_that_is_taken_back_half_way_is_whole() -> None:
    """It hears what came of it: an identity that nobody holds would have its name taken for good."""
    async with scene() as stage:
        peer = await stage.greeted()
        register = {"kind": "request", "request_id": 1, "op": "register", "params": {"passport": {"name": "mallory"}}}
        cancel = {"kind": "request", "request_id": 2, "op": "cancel_request", "params": {"request_id": 1}}
        await peer.say(text(register, cancel))
        assert b'"Registered"' in await peer.until(b'"Registered"')
        (mallory,) = [info for info in stage.hub.agents() if info.name == "mallory"]
        assert mallory.connected
        await stage.check()
