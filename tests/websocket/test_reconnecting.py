"""A lost connection is made good: identities, turns, sends, requests, subscriptions and waits go on where they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from agorio import AgentClient, Hub, HubClient, LinkChange, MemoryKnowledgeStore, Passport, Reconnect
from agorio.actors.sessions.credentials import HmacCredentials
from agorio.actors.sessions.identity import AuthBlock
from agorio.actors.sessions.wire import WIRE
from agorio.hub.auth import AuthRegistry
from agorio.hub.auth_hmac import HmacAuth
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import LinkClosed, LinkError
from agorio.transports.limits import Limits
from agorio.transports.websocket_server import WebsocketServer
from tests.websocket.memory import MemoryWsLink, eventually, open_memory_link


@attrs.define(eq=False)
class Scene:
    """A hub, a link to it, and a client for each of two agents."""

    hub: Hub
    link: MemoryWsLink
    left: HubClient
    right: HubClient
    changes: list[LinkChange]


@asynccontextmanager
async def scene(store: Any = None, limits: Limits | None = None, **options: Any) -> AsyncIterator[Scene]:
    changes: list[LinkChange] = []
    async with (
        Hub.open(store or MemoryKnowledgeStore(), **options) as hub,
        open_memory_link(hub, limits=limits) as link,
        HubClient(link, on_link=changes.append) as left,
        HubClient(link) as right,
    ):
        yield Scene(hub, link, left, right, changes)


class Slow:
    """An agent whose turns wait to be let go."""

    name = "slow"

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = trio.Event()

    async def ask(self, message: str) -> str:
        self.begun.append(message)
        await self.go.wait()
        return message.upper()


async def echo(text: str) -> str:
    return text.upper()


async def texts(hub: Hub, session_id: str) -> list[str]:
    return [envelope.text for envelope in await hub.read_wal(session_id) if envelope.text]


async def test_a_cut_in_the_middle_of_a_turn() -> None:
    async with scene() as stage:
        slow = Slow()
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(slow, Passport("slow"))
        session = await alice.open("conversation", "slow")
        await session.send("one")
        await session.send("two")
        await eventually(lambda: slow.begun)
        await stage.link.cut()
        await eventually(lambda: stage.link.opened == 4)
        slow.go.set()
        assert (await session.wait()).text == "ONE"
        assert (await session.wait()).text == "TWO"
        # The turn that was in hand was not begun again, and nothing was said twice.
        assert len(slow.begun) == 2
        assert await texts(stage.hub, session.session_id) == ["one", "two", "ONE", "TWO"]
        await eventually(lambda: all(not info.pending for info in stage.hub.agents() if info.name == "slow"))
        assert stage.left.is_connected
        assert [change.is_connected for change in stage.changes] == [True, False, True]


async def test_cuts_all_the_time_lose_and_double_nothing() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        heard: list[str] = []

        async def hear(envelope: Envelope) -> None:
            if envelope.event_type == "ag2.msg.text":
                heard.append(envelope.text)
                await trio.sleep(0.05)

        await stage.right.register(None, Passport("bob"), handler=hear)
        session = await alice.open("conversation", "bob")
        said = [f"{task}.{number}" for task in range(5) for number in range(20)]

        async def say(task: int) -> None:
            for number in range(20):
                await session.send(f"{task}.{number}")
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            for task in range(5):
                nursery.start_soon(say, task)
            for _ in range(15):
                await trio.sleep(0.3)
                await stage.link.cut()
        await eventually(lambda: len(heard) >= len(said))
        await trio.sleep(5)
        assert sorted(await texts(stage.hub, session.session_id)) == sorted(said)
        assert sorted(heard) == sorted(said)


async def test_a_send_whose_answer_is_lost_is_not_doubled() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(echo, Passport("bob"), attach_plugin=False)
        opened: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_with, alice, opened)
            await accept(stage, "bob")
        (session,) = opened
        stage.link.freeze_answers()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send, "once")
            await eventually(lambda: stage.hub.statistics().total_accepted >= 4)
            await stage.link.cut()
        assert await texts(stage.hub, session.session_id) == ["once"]


async def open_with(agent: AgentClient, opened: list[Any]) -> None:
    opened.append(await agent.open("conversation", "bob"))


async def accept(stage: Scene, name: str) -> None:
    client = next(one for one in stage.right.clients.values() if one.name == name)
    for _ in range(1000):
        await trio.sleep(0.01)
        for metadata in await stage.right.list_sessions(agent_id=client.agent_id, state="pending"):
            answer = Envelope(metadata.session_id, client.agent_id, None, "ag2.session.invite.ack")
            await client.send_envelope(answer)
            return


async def test_a_wait_goes_on_over_a_cut() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        bob = await stage.right.register(echo, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        got: list[Envelope] = []

        async def wait() -> None:
            got.append(await session.wait(timeout=600))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(1)
            await stage.link.cut()
            await trio.sleep(1)
            await (await bob.session(session.session_id)).send("hello again")
        assert [one.text for one in got] == ["hello again"]


async def ignore(envelope: Envelope) -> None:
    await trio.lowlevel.checkpoint()


async def test_requests_that_may_be_repeated_are_and_others_fail() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(echo, Passport("bob"), attach_plugin=False)
        stage.link.freeze_answers()
        outcomes: dict[str, Any] = {}

        async def note(name: str, call: Any, *args: Any) -> None:
            try:
                outcomes[name] = await call(*args)
            except LinkClosed as error:
                outcomes[name] = error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "read", stage.left.get_passport, "bob")
            nursery.start_soon(note, "write", alice.set_skill, "# skill")
            await trio.sleep(1)
            await stage.link.cut()
        assert outcomes["read"].name == "bob"
        assert isinstance(outcomes["write"], LinkClosed)
        assert "may have been carried out" in str(outcomes["write"])


async def test_a_half_open_connection_is_noticed_and_replaced() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(echo, Passport("bob"))
        session = await alice.open("conversation", "bob")
        stage.link.freeze()
        await session.send("is anybody there?")
        assert (await session.wait(timeout=600)).text == "IS ANYBODY THERE?"
        assert "ping" in stage.changes[1].reason or "read" in stage.changes[1].reason


async def test_a_hub_that_restarts() -> None:
    store = MemoryKnowledgeStore()
    changes: list[LinkChange] = []
    async with trio.open_nursery() as nursery:
        link = MemoryWsLink(nursery)
        stopping = [trio.Event(), trio.Event()]

        async def run(number: int, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            async with Hub.open(store) as hub:
                server = link.server = WebsocketServer(hub, WIRE, Limits(), ())
                task_status.started(hub)
                await stopping[number].wait()
                link.server = None
                await server.drain()

        await nursery.start(run, 0)
        async with HubClient(link, on_link=changes.append) as hc:
            alice = await hc.register(echo, Passport("alice"), attach_plugin=False)
            await hc.register(echo, Passport("bob"))
            session = await alice.open("conversation", "bob")
            assert (await session.ask("before")).text == "BEFORE"
            stopping[0].set()
            await eventually(lambda: not hc.is_connected)
            await trio.sleep(30)
            hub = await nursery.start(run, 1)
            assert (await session.ask("after", timeout=100)).text == "AFTER"
            assert hc.is_connected
            assert await texts(hub, session.session_id) == ["before", "BEFORE", "after", "AFTER"]
        stopping[1].set()
    assert [change.is_connected for change in changes] == [True, False, True]
    assert "the server is closing" in changes[1].reason
    assert changes[2].attempts > 1


async def test_giving_up() -> None:
    changes: list[LinkChange] = []
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_memory_link(hub) as link:
        link.reconnect = Reconnect(give_up_after=60)
        async with HubClient(link, on_link=changes.append) as hc:
            alice = await hc.register(echo, Passport("alice"), attach_plugin=False)
            await hc.register(echo, Passport("bob"))
            session = await alice.open("conversation", "bob")
            link.server, server = None, link.server
            await link.cut()
            start = trio.current_time()
            with pytest.raises(LinkClosed, match="nobody listens"):
                await session.send("lost")
            assert 60 <= trio.current_time() - start <= 100
            assert changes[-1].is_final
            assert not hc.is_connected
            with pytest.raises(LinkClosed):
                await session.send("still lost")
            link.server = server


async def test_a_link_that_does_not_reconnect() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_memory_link(hub, reconnect=None) as link:
        async with HubClient(link) as hc:
            await hc.register(echo, Passport("alice"))
            assert hc.is_connected
            await link.cut()
            await eventually(lambda: not hc.is_connected)
            with pytest.raises(LinkClosed):
                await hc.list_agents()


async def test_nobody_listens_at_first() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(LinkError, match="cannot be reached"):
            async with HubClient(MemoryWsLink(nursery)):
                pass


async def test_credentials_are_computed_anew() -> None:
    auth = AuthRegistry(HmacAuth({"alice": "secret"}))
    async with scene(auth=auth) as stage:
        passport = Passport("alice", auth=AuthBlock("hmac"))
        alice = await stage.left.register(echo, passport, credentials=HmacCredentials("secret"))
        await stage.link.cut()
        await eventually(lambda: len(stage.changes) == 3)
        assert (await stage.left.get_passport("alice")).agent_id == alice.agent_id


async def test_a_log_larger_than_a_message() -> None:
    async with scene(limits=Limits(max_message=300_000, max_outgoing=700_000)) as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(None, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        for number in range(20):
            await session.send(f"{number}" + "x" * 200_000)
        log = await stage.left.read_wal(session.session_id)
        assert [one.text.rstrip("x") for one in log if one.text] == [str(number) for number in range(20)]
        tail = await stage.left.read_tail(session.session_id, 5)
        assert [one.text.rstrip("x") for one in tail] == [str(number) for number in range(15, 20)]
        with pytest.raises(LinkError, match="at most"):
            await session.send("x" * 400_000)
        await session.send("the link is none the worse")
