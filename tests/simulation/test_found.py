"""Bugs that the simulation has found, each as a test of its own: a seed says something else once the code has moved."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agorio.actors.agents.hub_client import HubClient
from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.rule import InboxBlock, Rule
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.errors import ProtocolError, StoreError
from agorio.testing import FaultyStore, check_invariants, check_now, open_test_hub
from agorio.testing.world import WorldClock
from agorio.transports.local import LocalLink
from tests.websocket.memory import eventually, open_memory_link


async def silent(*messages: Any) -> str:
    """An agent that does not come to an answer."""
    await trio.sleep(1e6)
    return ""


@pytest.mark.parametrize("seed", range(8))
async def test_nobody_sweeps_while_a_hub_is_still_reading(seed: int) -> None:
    store, clock = FaultyStore(seed=seed), WorldClock()
    async with open_test_hub(store, clock=clock, ttl_sweep_interval=0) as net:
        ann = await net.person("ann")
        await net.add(silent, name="bob")
        for _ in range(3):
            session = await ann.open("conversation", "bob", ttl=5.0)
            await session.send("hello")
    await trio.sleep(10)
    store.slow = (0.0, 0.3)  # every session is late, and reading takes longer than the interval of the sweeper
    async with Hub.open(store, clock=clock, ttl_sweep_interval=0.1, expectation_sweep_interval=0.1) as hub:
        store.slow = 0.0
        async with HubClient(LocalLink(hub)) as client:
            await client.register(silent, Passport("bob"), attach=True)
            check_now(hub)
            await trio.sleep(1)
            await check_invariants(hub)
        assert {one.state for one in await hub.list_sessions()} == {"expired"}


async def test_an_end_that_the_store_refuses_leaves_the_deadline() -> None:
    store = FaultyStore()
    async with open_test_hub(store, ttl_sweep_interval=1.0) as net:
        ann = await net.person("ann")
        await net.add(silent, name="bob")
        session = await ann.open("conversation", "bob", ttl=5.2)
        await trio.sleep(5.5)
        store.slow, store.refuse = 1.0, 1.0
        with pytest.raises(StoreError):
            await ann.close_session(session.session_id)  # while the sweep comes by and finds it ending
        store.slow = store.refuse = 0.0
        assert await net.closed(session.session_id, timeout=10) == "ttl_expired"


async def test_a_task_that_ends_its_session_by_starting_is_not_charged_for_ever() -> None:
    """Its delivery fails, so the last turn is skipped, so the session closes: all within the commit of the start."""
    async with open_test_hub() as net:
        ann = await net.person("ann")
        bob = await net.add(silent, name="bob", rule=Rule(inbox=InboxBlock(max_pending=1, overflow="drop_newest")))
        aside = await ann.open("conversation", "bob")
        await aside.send("fills the inbox")
        session = await ann.open("discussion", "bob")
        services = net.hub._open_services()
        services.skip_turn(await services.sessions.get(session.session_id), ann.agent_id, "silent")
        async with ann.task("work", session_id=session.session_id):
            await net.settle()
        assert await net.closed(session.session_id) == "all_silent"
        check_now(net.hub)
        assert bob.agent_id in {info.agent_id for info in net.hub.agents()}


async def test_nobody_is_left_waiting_when_the_store_refuses_the_end_of_a_handshake() -> None:
    store = FaultyStore()
    async with Hub.open(store, invite_ack_timeout=2.0, ttl_sweep_interval=0) as hub:
        async with HubClient(LocalLink(hub)) as other, HubClient(LocalLink(hub)) as client:
            ann = await client.register(None, Passport("ann"), attach_plugin=False)
            await other.register(silent, Passport("bob"))
            await other.close()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_opens_in_vain, ann)
                await trio.sleep(1)
                store.refuse = 1.0
            store.refuse = 0.0
        cells = hub._open_services().sessions.cells()
        assert [cell.opened for cell in cells] == [None]
        await check_invariants(hub, only=["everything_settles"], is_settled=True)


async def _opens_in_vain(ann: Any) -> None:
    with pytest.raises(ProtocolError, match="invite_timeout"):
        await ann.open("conversation", "bob")


async def test_a_connection_that_is_made_again_brings_no_old_rule_back() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_memory_link(hub) as link, HubClient(link) as client:
        first = Rule(inbox=InboxBlock(max_pending=5))
        ann = await client.register(silent, Passport("ann"), Resume(["tea"]), rule=first)
        tighter = Rule(inbox=InboxBlock(max_pending=2))
        looser = Rule(inbox=InboxBlock(max_pending=9))
        for changed in (tighter, looser):
            await hub.set_rule(ann.agent_id, changed)
            await hub.set_resume(ann.agent_id, Resume(["coffee"]))
            await link.cut()
            await eventually(lambda: not client.is_connected)
            await eventually(lambda: client.is_connected)
            assert (await hub.get_rule(ann.agent_id)).inbox == changed.inbox
            assert (await hub.get_resume(ann.agent_id)).claimed_capabilities == ("coffee",)
