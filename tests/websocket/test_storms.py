"""Many cuts at once, a hub that dies with its disk, and callers that give up at every step of opening and closing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agorio import DiskKnowledgeStore, Hub, HubClient, MemoryKnowledgeStore, Passport
from agorio.actors.sessions.wire import WIRE
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import LinkClosed, LinkError
from agorio.transports.frames import HelloFrame, WelcomeFrame
from agorio.transports.limits import Limits
from agorio.transports.websocket_server import WebsocketServer
from tests.websocket.memory import MemoryWsLink, eventually, open_memory_link

CLIENTS = 40


async def echo(text: str) -> str:
    return text.upper()


async def test_a_reconnect_storm_leaves_nothing_behind() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_memory_link(hub) as link, trio.open_nursery() as nursery:
        assert link.server is not None
        server, stop, ready = link.server, trio.Event(), list[str]()

        async def run(number: int) -> None:
            async with HubClient(link) as hc:
                await hc.register(echo, Passport(f"agent-{number}"))
                ready.append(hc.name)
                await stop.wait()

        for number in range(CLIENTS):
            nursery.start_soon(run, number)
        await eventually(lambda: len(ready) == CLIENTS)
        for _ in range(5):
            await link.cut()
            await trio.sleep(0.05)  # some are back, some are on their way, some wait
        await eventually(lambda: all(info.connected for info in hub.agents()))
        await trio.sleep(60)
        assert server.statistics().current_connections == CLIENTS
        assert hub.statistics().current_connections == CLIENTS
        stop.set()
        nursery.cancel_scope.deadline = trio.current_time() + 60
    assert server.statistics().current_connections == 0


@pytest.mark.parametrize("steps", range(1, 40, 3))
async def test_giving_up_while_opening_and_closing_leaves_no_connection(steps: int) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_memory_link(hub) as link:
        assert link.server is not None
        client = link.client()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, steps, scope)
                await client.open()
                await client.send_frame(HelloFrame())
                assert isinstance(await anext(client.frames()), WelcomeFrame)
                await client.close()
                nursery.cancel_scope.cancel()
        await client.close()
        with pytest.raises(LinkError):
            await client.open()
        with pytest.raises(LinkClosed):
            await client.send_frame(HelloFrame())
        server = link.server
        await eventually(lambda: server.statistics().current_connections == 0)


async def _cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_another_incarnation_of_a_hub_on_the_same_disk(tmp_path: Path) -> None:
    """What was accepted and not handled is handled, and a send whose answer was lost is accepted once."""
    heard: list[str] = []

    async def hear(envelope: Envelope) -> None:
        if envelope.text:
            heard.append(envelope.text)

    async with trio.open_nursery() as nursery:
        link = MemoryWsLink(nursery)
        stopping = [trio.Event(), trio.Event()]

        async def run(number: int, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            store = DiskKnowledgeStore(tmp_path / "hub")
            async with Hub.open(store) as hub:
                server = link.server = WebsocketServer(hub, WIRE, Limits(), ())
                task_status.started(hub)
                await stopping[number].wait()
                link.server = None
                await server.drain()

        hub = await nursery.start(run, 0)
        async with HubClient(link) as hc, HubClient(link) as other:
            alice = await hc.register(echo, Passport("alice"), attach_plugin=False)
            await other.register(None, Passport("bob"), handler=hear)
            session = await alice.open("conversation", "bob")
            await session.send("before")
            await eventually(lambda: heard == ["before"])
            link.freeze_answers()
            async with trio.open_nursery() as senders:
                senders.start_soon(session.send, "across")
                while not [one for one in await hub.read_wal(session.session_id) if one.text == "across"]:
                    await trio.sleep(0.01)
                stopping[0].set()
                await eventually(lambda: link.server is None)
                await link.cut()
                await trio.sleep(5)
                hub = await nursery.start(run, 1)
            await session.send("after")
            await eventually(lambda: heard == ["before", "across", "after"])
            log = [one.text for one in await hub.read_wal(session.session_id) if one.text]
            assert log == ["before", "across", "after"]
        stopping[1].set()
