"""A hub on a real socket with two honest agents, and peers who attack it."""

from __future__ import annotations

import gc
import logging
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio

from agorio import (
    AgentClient,
    AuthRegistry,
    Hub,
    HubClient,
    Limits,
    MemoryKnowledgeStore,
    NoAuth,
    Passport,
    Session,
    WsLink,
    serve_ws,
)
from agorio.actors.runtime.events import ActorCrash
from agorio.actors.sessions.credentials import HmacCredentials
from agorio.hub.auth_hmac import HmacAuth
from agorio.hub.connections import Connection, ConnectionActor
from agorio.transports.guarded_stream import GuardedStream
from agorio.transports.websocket_server import WebsocketEndpoint, WebsocketServer
from tests.websocket.live_grammar import ALICE, BOB, OWN, OWN_SESSION, SESSION, Play
from tests.websocket.raw import HELLO, RawPeer, handshake, text, ws_frame

PATIENCE = 20.0  # only a hub that hangs gets there
RST = (1).to_bytes(4, sys.byteorder) + bytes(4)  # struct linger: on, for 0 s


class Errors(logging.Handler):
    """What the hub logs as an error of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@attrs.define(eq=False)
class Attacker:
    """One hostile peer on a socket of its own."""

    stream: trio.SocketStream
    raw: RawPeer
    number: int
    ids: dict[str, str]
    reading: trio.CancelScope = attrs.Factory(trio.CancelScope)

    async def begin(self, opening: str) -> None:
        """Get so far by fair means."""
        if opening == "nothing":
            return
        await self.raw.say(handshake())
        await self.raw.until(b"\r\n\r\n")
        if opening == "upgraded":
            return
        await self.raw.say(HELLO)
        await self.raw.until(b"welcome")
        if opening == "registered":
            await self.register()

    async def register(self) -> None:
        """Become somebody, and open a session of one's own."""
        who = {"passport": {"name": f"eve-{self.number}"}, "attach": True}
        await self.raw.say(text({"kind": "request", "request_id": 90, "op": "register", "params": who}))
        self.ids[OWN] = await self.found(b'"agent_id":"', b'"request_id":90')
        opening = {"creator_id": self.ids[OWN], "type": "conversation", "participants": ["bob"]}
        await self.raw.say(text({"kind": "request", "request_id": 91, "op": "open_session", "params": opening}))
        self.ids[OWN_SESSION] = await self.found(b'"session_id":"', b'"request_id":91,"result"')

    async def found(self, before: bytes, after: bytes) -> str:
        """What stands behind `before`, once `after` has arrived."""
        received = await self.raw.until(after)
        answer = received[max(received.find(after), 0) :]
        return answer.partition(before)[2].partition(b'"')[0].decode(errors="replace") or "nobody"

    async def listen(self) -> None:
        """Read whatever comes, and forget it."""
        with self.reading, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self.stream.receive_some(65536):
                pass

    async def act(self, act: str, data: bytes) -> None:
        """One step."""
        if act == "say":
            for token, known in self.ids.items():
                data = replaced(data, token.encode(), known.encode())
            with trio.move_on_after(1):
                await self.raw.say(data)
        elif act == "deaf":
            self.reading.cancel()
        elif act == "hang up":
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_eof()
        else:
            await self.reset()

    async def reset(self) -> None:
        """End the connection without a word."""
        if self.stream.socket.fileno() != -1:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            await trio.aclose_forcefully(self.stream)


def replaced(data: bytes, token: bytes, known: bytes) -> bytes:
    """The data with the token replaced; a short frame's header is made anew, since its length changes."""
    if token not in data or len(data) < 6:
        return data
    size = data[1] & 127
    start = 6 if size < 126 else 8 if size == 126 else 14
    claimed = size if size < 126 else int.from_bytes(data[2 : start - 4], "big")
    if len(data) - start != claimed:
        return data.replace(token, known)
    return ws_frame(data[start:].replace(token, known), data[0] & 15, last=bool(data[0] & 128))


@attrs.define(eq=False)
class Scene:
    """The hub and its honest agents."""

    hub: Hub
    server: WebsocketServer
    session: Session
    errors: Errors
    crashes: list[str]
    ids: dict[str, str]
    plays: int = 0
    """Attacks so far."""
    left: Counter[str] = attrs.Factory(Counter)
    """Ends of connections that are still there when all attacks are over, the honest one's among them."""
    tasks: int = 0
    """Tasks that are still there then."""

    async def play(self, play: Play) -> None:
        """Attack; then everybody else is as before."""
        self.plays += 1
        peers = []
        async with trio.open_nursery() as nursery:
            for number, opening in enumerate(play.openings):
                stream = await trio.open_tcp_stream("127.0.0.1", self.server.port)
                peer = Attacker(stream, RawPeer(stream), number, dict(self.ids))
                peers.append(peer)
                await peer.begin(opening)
                nursery.start_soon(peer.listen)
            try:
                for step in play.steps:
                    await peers[step.peer].act(step.act, step.data)
                await self.is_well()
            finally:
                for peer in peers:
                    await trio.aclose_forcefully(peer.stream)
            nursery.cancel_scope.cancel()
        await self.is_quiet()

    async def say(self, data: bytes) -> None:
        """Bytes from somebody who has agreed on nothing."""
        self.plays += 1
        stream = await trio.open_tcp_stream("127.0.0.1", self.server.port)
        try:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            await self.is_well()
        finally:
            await trio.aclose_forcefully(stream)
        await self.is_quiet()

    async def is_well(self) -> None:
        """The honest agents still talk, and nothing has failed inside."""
        with trio.fail_after(PATIENCE):
            assert (await self.session.ask("still there?")).text == "STILL THERE?"
        assert not self.errors.lines
        assert self.crashes == []

    async def is_quiet(self) -> None:
        """Nothing is left of the attackers."""
        with trio.fail_after(PATIENCE):
            while self.server.statistics().current_connections > 1 or self.hub.statistics().current_connections > 1:
                await trio.sleep(0)


def living(*classes: type) -> Counter[str]:
    """How many objects of these classes there are."""
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in classes)


async def shout(message: str) -> str:
    return str(message).upper()  # anybody may put anything to an agent


# The honest agents prove who they are, so that nobody else can: anybody may be eve.
SECRETS = {"alice": "s-alice", "bob": "s-bob"}


async def join(hc: HubClient, name: str, **options: Any) -> AgentClient:
    return await hc.register(shout, Passport(name), credentials=HmacCredentials(SECRETS[name]), **options)


@asynccontextmanager
async def open_scene(**limits: Any) -> AsyncIterator[Scene]:
    """A hub on a socket of 127.0.0.1."""
    errors, crashes = Errors(), list[str]()

    def happened(event: object) -> None:
        if isinstance(event, ActorCrash) and not event.name.startswith("client"):
            crashes.append(repr(event))

    logger = logging.getLogger("agorio")
    logger.addHandler(errors)
    try:
        async with (
            Hub.open(MemoryKnowledgeStore(), auth=AuthRegistry(NoAuth(), HmacAuth(SECRETS)), on_event=happened) as hub,
            serve_ws(hub, limits=Limits(**limits)) as server,
            HubClient(WsLink(f"ws://127.0.0.1:{server.port}")) as hc,
        ):
            alice, bob = await join(hc, "alice", attach_plugin=False), await join(hc, "bob")
            session = await alice.open("conversation", "bob")
            ids = {ALICE: alice.agent_id, BOB: bob.agent_id, SESSION: session.session_id}
            yield Scene(hub, server, session, errors, crashes, {**ids, OWN: "nobody", OWN_SESSION: "none"})
    finally:
        logger.removeHandler(errors)


def drive(attack: Callable[[Callable[[Any], None]], None], act: str) -> Scene:
    """Run a Hypothesis test against one scene for all its examples; Hypothesis is in a thread, the hub is in trio."""

    kinds = (Connection, ConnectionActor, WebsocketEndpoint, GuardedStream)
    before = living(*kinds)  # a test that has failed keeps what it had

    async def main() -> Scene:
        async with open_scene() as scene:

            def one(example: Any) -> None:
                trio.from_thread.run(getattr(scene, act), example)

            await trio.to_thread.run_sync(attack, one)
            await scene.is_well()
            scene.left = living(*kinds) - before
            scene.tasks = trio.lowlevel.current_statistics().tasks_living
            return scene

    return trio.run(main)
