"""`FaultyLink` over real websockets on the loopback: the hub meets the faults as a network deals them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from agorio import Hub, HubClient, Limits, MemoryKnowledgeStore, Passport, WsLink, serve_ws
from agorio.actors.sessions.wire import WIRE
from agorio.testing import EchoAgent, FaultyLink, ScriptedAgent, check_link, wait_until
from agorio.transports.reconnect import Reconnect
from agorio.transports.websocket_server import serve_links

# Real sockets need the system's time; nothing here waits for a deadline unless something is broken.
AT_MOST = 30
SOON = Reconnect(initial=0.01, max_delay=0.05)


@pytest.mark.parametrize("wrap", [lambda link: link, FaultyLink])
async def test_a_websocket_link_keeps_the_promises_of_a_link(wrap: Any) -> None:
    @asynccontextmanager
    async def make(host: Any) -> AsyncIterator[Any]:
        async with serve_links(host, WIRE, "127.0.0.1", 0) as server:
            yield wrap(WsLink(f"ws://127.0.0.1:{server.port}"))

    with trio.fail_after(AT_MOST):
        await check_link(make)


async def test_a_delayed_link_says_everything_in_order() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            link = FaultyLink(WsLink(f"ws://127.0.0.1:{server.port}"), seed=1, delay=(0.0, 0.01))
            async with HubClient(link) as hc:
                await hc.register(EchoAgent())
                ann = await hc.register(None, Passport("ann"), attach_plugin=False)
                session = await ann.open("conversation", "echo")
                assert [(await session.ask(str(n))).text for n in range(10)] == [str(n) for n in range(10)]
        assert link.injected == {}


async def test_cuts_are_made_good_without_a_loss() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            link = FaultyLink(WsLink(f"ws://127.0.0.1:{server.port}", reconnect=SOON), seed=2)
            async with HubClient(link) as hc:
                await hc.register(EchoAgent())
                ann = await hc.register(None, Passport("ann"), attach_plugin=False)
                session = await ann.open("conversation", "echo")
                for number in range(12):
                    if number % 3 == 0:
                        assert link.cut_all() == 1
                    assert (await session.ask(str(number))).text == str(number)
                log = [e.text for e in await hub.read_wal(session.session_id) if e.text]
            assert log == [str(number) for number in range(12) for _ in "ab"]
            assert link.injected["cut"] == 4
            # A cut breaks the stream: the hub has seen no goodbye of these connections.
            assert server.statistics().total_connections == 5


async def test_chance_cuts_the_same_connections_from_one_seed() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            link = FaultyLink(WsLink(f"ws://127.0.0.1:{server.port}", reconnect=SOON), seed=4)
            async with HubClient(link) as hc:
                bob = await hc.register(None, Passport("bob"), handler=_take)
                ann = await hc.register(None, Passport("ann"), attach_plugin=False)
                session = await ann.open("conversation", "bob")
                link.odds["cut"] = 0.1
                for number in range(20):
                    await session.send(str(number))
                await link.heal()
                await wait_until(lambda: bob.statistics().total_handled >= 20)
                said = [e.text for e in await hub.read_wal(session.session_id) if e.text]
        assert said == [str(number) for number in range(20)]
        assert link.injected["cut"] > 1


async def _take(envelope: object) -> None:
    await trio.lowlevel.checkpoint()


async def test_the_hub_gives_a_half_open_link_up_and_its_mail_comes_again() -> None:
    limits = Limits(heartbeat=0.2, dead_after=1.5)
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub, limits=limits) as server:
            quiet = FaultyLink(WsLink(f"ws://127.0.0.1:{server.port}", reconnect=None))
            well = WsLink(f"ws://127.0.0.1:{server.port}")
            async with HubClient(quiet) as lost, HubClient(well) as hc:
                await lost.register(EchoAgent())
                ann = await hc.register(None, Passport("ann"), attach_plugin=False)
                session = await ann.open("conversation", "echo")
                assert quiet.half_open_all() == 1
                await session.send("are you there?")
                await wait_until(lambda: server.statistics().current_connections == 1, what="the hub notices")
                assert quiet.clients[0].is_open  # this side has heard nothing of it
                await hc.register(EchoAgent(), attach=True)
                assert (await ann.wait_for_session_event(session.session_id, _is_echo)).text == "are you there?"
                await quiet.heal()


def _is_echo(envelope: object) -> bool:
    return getattr(envelope, "text", "") == "are you there?" and getattr(envelope, "causation_id", None) is not None


async def test_a_slow_reader_delays_nobody_else() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            link = FaultyLink(WsLink(f"ws://127.0.0.1:{server.port}"))
            async with HubClient(link) as slow, HubClient(WsLink(f"ws://127.0.0.1:{server.port}")) as quick:
                snail = ScriptedAgent("snail", then="silence")
                await slow.register(snail)
                await quick.register(EchoAgent())
                ann = await quick.register(None, Passport("ann"), attach_plugin=False)
                with_snail = await ann.open("conversation", "snail")
                with_echo = await ann.open("conversation", "echo")
                link.slow_reader = 3600.0
                for number in range(50):
                    await with_snail.send(str(number))
                    assert (await with_echo.ask(str(number))).text == str(number)
                assert len(snail.heard) < 2
                link.slow_reader = 0.0
                link.cut_all()
                await wait_until(lambda: len(snail.heard) >= 50, what="the snail catches up")
        assert [call.text for call in snail.heard][-1] == "49"
