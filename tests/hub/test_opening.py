"""`Hub.open` in its three forms, and what closing does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from agorio.actors.agents.hub_client import HubClient
from agorio.actors.sessions.adapters.conversation import ConversationAdapter
from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.rule import Rule
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import KnowledgeStore
from agorio.mailbox.errors import HubClosedError, LinkClosed, LinkError, StoreError
from agorio.transports.local import LocalLink
from tests.hub.conftest import OpenNetwork
from tests.hub.network import converse, settle
from tests.hub.stores import SlowStore

MakeStore = Callable[[], KnowledgeStore]


async def test_the_constructor_does_nothing() -> None:
    store = MemoryKnowledgeStore()
    before = trio.lowlevel.current_statistics().tasks_living
    hub = Hub(store)
    assert trio.lowlevel.current_statistics().tasks_living == before
    with pytest.raises(HubClosedError, match=r"Hub\.open"):
        await hub.get_passport("x")
    async with Hub.open(store) as other:  # the store was not touched
        assert other.health().status == "ok"


async def test_a_block(make_store: MakeStore) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    async with Hub.open(make_store()) as hub:
        assert hub.health().sweepers == ("ttl", "expectations")
        assert not hub.is_closed
    assert bool(hub.is_closed)
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_by_hand(make_store: MakeStore) -> None:
    store = make_store()
    before = trio.lowlevel.current_statistics().tasks_living
    hub = await Hub.open(store)
    assert hub.statistics().current_agents == 0
    await hub.close()
    await hub.close()
    assert bool(hub.is_closed)
    assert trio.lowlevel.current_statistics().tasks_living == before
    async with Hub.open(store):
        """The store was let go."""


async def test_in_a_nursery(make_store: MakeStore) -> None:
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(Hub.serve, make_store())
        assert hub.health().status == "ok"
        await hub.close()
        await hub.close()
    assert hub.is_closed


async def test_a_block_closed_from_inside_refuses_from_then_on() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        await hub.close()
        with pytest.raises(HubClosedError):
            hub.health()
        await hub.close()


@asynccontextmanager
async def opened(form: str, store: KnowledgeStore) -> AsyncIterator[Hub]:
    """A hub in one of the three forms, for a body that closes it."""
    if form == "block":
        async with Hub.open(store) as hub:
            yield hub
    elif form == "by hand":
        yield await Hub.open(store)
    else:
        async with trio.open_nursery() as nursery:
            yield await nursery.start(Hub.serve, store)


async def slow_turn(hub: Hub) -> str:
    """Begin a turn of two seconds; the session's id."""
    hc = HubClient(LocalLink(hub), hub=hub, grace=10)
    alice = await hc.register(None, Passport("alice"), attach_plugin=False)
    await hc.register(slow_agent, Passport("bob"))
    session = await alice.open("consulting", "bob")
    await session.send("one")
    await trio.sleep(1)
    return session.session_id


async def check_answered(store: KnowledgeStore, session_id: str) -> None:
    async with Hub.open(store) as again:
        assert [e.text for e in await again.read_wal(session_id) if e.text] == ["one", "re: one"]
        assert (await again.get_session(session_id)).state == "closed"


@pytest.mark.parametrize("form", ["block", "by hand", "serve"])
async def test_closing_returns_when_all_is_drained_and_the_store_is_free(make_store: MakeStore, form: str) -> None:
    store = make_store()
    async with opened(form, store) as hub:
        session_id = await slow_turn(hub)
        await hub.close()
        await check_answered(store, session_id)
        await hub.close()


@pytest.mark.parametrize("form", ["block", "serve"])
async def test_whoever_closes_waits_for_the_same_end(make_store: MakeStore, form: str) -> None:
    store, ends = make_store(), []

    async def closing(hub: Hub, patience: float) -> None:
        with trio.move_on_after(patience) as scope:
            await hub.close()
        ends.append((trio.current_time(), scope.cancelled_caught))

    async with opened(form, store) as hub:
        session_id = await slow_turn(hub)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(closing, hub, 0.25)  # it gives up, the hub does not
            nursery.start_soon(closing, hub, 60)
            nursery.start_soon(closing, hub, 60)
        assert ends[0] == (begun + 0.25, True)
        assert ends[1] == ends[2] == (trio.current_time(), False)
        assert trio.current_time() >= begun + 1
        await check_answered(store, session_id)


@pytest.mark.parametrize("form", ["block", "serve"])
async def test_a_turn_that_closes_its_own_hub_is_not_made_to_wait_for_itself(make_store: MakeStore, form: str) -> None:
    store = make_store()
    async with opened(form, store) as hub:
        begun = trio.current_time()

        async def bob(text: str) -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hub.close)
            return f"re: {text}"

        hc = HubClient(LocalLink(hub), hub=hub)
        alice = await hc.register(None, Passport("alice"), attach_plugin=False)
        await hc.register(bob, Passport("bob"))
        session = await alice.open("consulting", "bob")
        await session.send("one")
        await hub.close()
        assert trio.current_time() < begun + 1  # no grace has run out
        await check_answered(store, session.session_id)


async def test_a_cancelled_caller_leaves_a_serving_hub_to_its_end(make_store: MakeStore) -> None:
    store = make_store()
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(Hub.serve, store)
        session_id = await slow_turn(hub)
        with trio.CancelScope() as scope:
            scope.cancel()
            await hub.close()
        assert scope.cancelled_caught
        with pytest.raises(HubClosedError):
            hub.health()
    await check_answered(store, session_id)


async def test_closing_what_was_never_opened_is_no_wait() -> None:
    hub = Hub(MemoryKnowledgeStore())
    await hub.close()
    assert hub.is_closed


async def test_an_opening_is_used_once() -> None:
    opening = Hub.open(MemoryKnowledgeStore())
    async with opening:
        with pytest.raises(RuntimeError, match=r"call Hub\.open again"):
            await opening


async def test_by_hand_in_the_wrong_task() -> None:
    hub = await Hub.open(MemoryKnowledgeStore())

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match=r"task that awaited Hub\.open"):
            await hub.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(elsewhere)
    assert not hub.is_closed
    await hub.close()
    assert hub.is_closed


async def test_by_hand_inside_a_later_nursery() -> None:
    hub = await Hub.open(MemoryKnowledgeStore())
    async with trio.open_nursery():
        with pytest.raises(RuntimeError, match="close those first"):
            await hub.close()
    await hub.close()
    assert hub.is_closed


@pytest.mark.parametrize("scope", [partial(trio.fail_after, 5), partial(trio.CancelScope, shield=True)])
async def test_by_hand_inside_a_later_scope(make_store: MakeStore, scope: Callable[[], Any]) -> None:
    store = make_store()
    hub = await Hub.open(store)
    session_id = await slow_turn(hub)
    with scope(), pytest.raises(RuntimeError, match="needs neither a shield nor a timeout"):
        await hub.close()
    assert hub.health().status == "ok"
    await hub.close()
    await check_answered(store, session_id)


async def test_by_hand_out_of_the_scope_of_the_opening(make_store: MakeStore) -> None:
    store, outer = make_store(), trio.CancelScope()
    with outer:
        with trio.fail_after(5):
            hub = await Hub.open(store)
            try:
                await trio.sleep(1)
            finally:
                await hub.close()
        async with Hub.open(store) as again:
            assert again.health().status == "ok"
    assert hub.is_closed


async def test_a_crash_in_the_body_closes_the_hub(make_store: MakeStore) -> None:
    store = make_store()
    before = trio.lowlevel.current_statistics().tasks_living
    with pytest.raises(ZeroDivisionError):
        async with Hub.open(store) as hub:
            raise ZeroDivisionError
    assert bool(hub.is_closed)
    assert trio.lowlevel.current_statistics().tasks_living == before
    async with Hub.open(store):
        """The store was let go."""


async def test_one_store_one_hub(make_store: MakeStore) -> None:
    store = make_store()
    async with Hub.open(store) as hub:
        with pytest.raises(StoreError, match="close that hub first"):
            async with Hub.open(store):
                raise AssertionError("opened twice")
        assert hub.health().status == "ok"
        with pytest.raises(StoreError):
            await Hub.open(store)
    async with Hub.open(store):
        """Free again."""


async def test_a_cancelled_opening_lets_the_store_go() -> None:
    store = SlowStore(seconds=1)
    with trio.move_on_after(2.5) as scope:
        await Hub.open(store)
    assert scope.cancelled_caught
    async with Hub.open(store):
        """It opens."""


class Listening:
    async def on_event(self, event: object) -> None:
        """Nothing to do."""


def closed_calls(hub: Hub) -> dict[str, Callable[[], Any]]:
    async def chore() -> None:
        """Nothing to do."""

    return {
        "get_session": partial(hub.get_session, "x"),
        "get_resume": partial(hub.get_resume, "x"),
        "get_passport": partial(hub.get_passport, "x"),
        "get_agent": partial(hub.get_agent, "x"),
        "get_rule": partial(hub.get_rule, "x"),
        "get_skill": partial(hub.get_skill, "x"),
        "get_task": partial(hub.get_task, "x"),
        "list_tasks": hub.list_tasks,
        "read_wal": partial(hub.read_wal, "x"),
        "list_sessions": hub.list_sessions,
        "list_agents": hub.list_agents,
        "agents": hub.agents,
        "dead_letters": hub.dead_letters,
        "health": hub.health,
        "statistics": hub.statistics,
        "tree": hub.tree,
        "ref": partial(hub.ref, "x"),
        "close_session": partial(hub.close_session, "x"),
        "set_rule": partial(hub.set_rule, "x", Rule()),
        "set_resume": partial(hub.set_resume, "x", Resume()),
        "set_skill": partial(hub.set_skill, "x", None),
        "unregister": partial(hub.unregister, "x"),
        "register_sweeper": partial(hub.register_sweeper, "mine", 5, chore),
        "unregister_sweeper": partial(hub.unregister_sweeper, "ttl"),
        "subscribe": partial(hub.subscribe, print),
        "register_listener": partial(hub.register_listener, Listening()),
        "register_adapter": partial(hub.register_adapter, ConversationAdapter()),
        "register_expectation": partial(hub.register_expectation, "mine", print),  # type: ignore[arg-type]
        "register_reaction": partial(hub.register_reaction, "mine", print),
        "detach": partial(hub.detach, "x"),
        "redeliver": partial(hub.redeliver, 1),
        "budget": partial(hub.budget, "x"),
        "park_agent": partial(hub.park_agent, "x"),
        "resume_agent": partial(hub.resume_agent, "x"),
        "_retention_tick": hub._retention_tick,
        "_ttl_tick": hub._ttl_tick,
        "_expectation_tick": hub._expectation_tick,
        "accept_link": partial(hub.accept_link, None),  # type: ignore[arg-type]
        "host_client": partial(hub.host_client, None),  # type: ignore[arg-type]
    }


ALSO_AFTER_CLOSING = {"open", "serve", "close", "stop_client", "is_closed", "audit_log", "auth_schemes"}


def test_every_public_method_is_known_to_the_next_test() -> None:
    hub = Hub(MemoryKnowledgeStore())
    public = {name for name in dir(Hub) if not name.startswith("_")}
    known = {*closed_calls(hub), *ALSO_AFTER_CLOSING}
    assert public | {"_ttl_tick", "_expectation_tick", "_retention_tick"} == known


async def test_a_closed_hub_refuses_every_call_with_one_clear_error(make_store: MakeStore) -> None:
    async with Hub.open(make_store()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        alice = await hc.register(None, Passport("alice"), attach_plugin=False)
    for name, call in closed_calls(hub).items():
        with pytest.raises(HubClosedError) as caught:
            result = call()
            if isinstance(result, Awaitable):
                await result
        assert "Hub.open" in str(caught.value), name
    for refused in (partial(hc.get_agent, "alice"), alice.open, partial(hc.register, None, Passport("bob"))):
        with pytest.raises((HubClosedError, LinkClosed)):
            await refused()
    with pytest.raises((HubClosedError, LinkError)):
        await HubClient(LocalLink(hub), hub=hub).register(None, Passport("carol"), attach_plugin=False)
    log = hub.audit_log
    for read in (log.read_all, log.read, log.tail, log.verify, partial(log.get, 1)):
        with pytest.raises(HubClosedError, match=r"Hub\.open"):
            await read()
    with pytest.raises(HubClosedError):
        log.subscribe()
    assert log.anchor.sequence > 0
    await hub.stop_client("client-0")
    await hub.close()


async def slow_agent(text: str) -> str:
    await trio.sleep(2)
    return f"re: {text}"


@pytest.mark.parametrize("how", ["leave", "cancel", "crash"])
async def test_turns_in_hand_are_finished_within_the_grace(make_store: MakeStore, how: str) -> None:
    """However the hub ends, the turn that was running says what it had to say."""
    store = make_store()
    session_id = ""
    with trio.CancelScope() as scope:
        try:
            async with Hub.open(store) as hub:
                hc = HubClient(LocalLink(hub), hub=hub, grace=10)
                alice = await hc.register(None, Passport("alice"), attach_plugin=False)
                await hc.register(slow_agent, Passport("bob"))
                session = await alice.open("consulting", "bob")
                session_id = session.session_id
                await session.send("one")
                await trio.sleep(1)
                if how == "cancel":
                    scope.cancel()
                    await trio.sleep(0)
                elif how == "crash":
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert how == "crash"
    assert scope.cancelled_caught == (how == "cancel")
    async with Hub.open(store) as again:
        assert [e.text for e in await again.read_wal(session_id) if e.text] == ["one", "re: one"]
        assert (await again.get_session(session_id)).state == "closed"


async def test_a_turn_that_outlives_the_grace_is_cut_off_and_redelivered_later(make_store: MakeStore) -> None:
    store, begun, heard = make_store(), trio.current_time(), []

    async def endless(text: str) -> str:
        heard.append(text)
        await trio.sleep(1e6)
        return "never"

    async def quick(text: str) -> str:
        heard.append(text)
        return "at last"

    async with Hub.open(store) as hub:
        hc = HubClient(LocalLink(hub), hub=hub, grace=3)
        alice = await hc.register(None, Passport("alice"), attach_plugin=False)
        await hc.register(endless, Passport("bob"))
        session = await alice.open("consulting", "bob")
        await session.send("one")
        await settle()
    assert trio.current_time() - begun < 60
    async with Hub.open(store) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(quick, Passport("bob"), attach=True)
        await settle()
        assert [e.text for e in await hub.read_wal(session.session_id) if e.text] == ["one", "at last"]
    assert heard == ["one", "one"]


async def test_what_was_accepted_before_the_close_is_there_after_it(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        store = net.store
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        for number in range(5):
            await session.send(str(number))
    async with open_network(store) as net:
        assert await net.texts(session.session_id) == ["0", "1", "2", "3", "4"]
        assert (await net.hub.get_session(session.session_id)).state == "active"
        await net.check()


async def test_an_open_call_is_refused_when_the_hub_closes_under_it(make_store: MakeStore) -> None:
    outcomes: list[str] = []

    async def wait(call: Callable[[], Awaitable[Any]]) -> None:
        with pytest.raises((HubClosedError, LinkClosed)) as caught:
            await call()
        outcomes.append(caught.value.code)

    async with trio.open_nursery() as nursery:
        async with Hub.open(make_store(), invite_ack_timeout=1e6) as hub:
            hc = HubClient(LocalLink(hub), hub=hub)
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            bob = await hc.register(None, Passport("bob"), attach_plugin=False)
            session = await converse(alice, bob)
            nursery.start_soon(wait, partial(alice.open, target="bob"))
            nursery.start_soon(wait, partial(alice.wait_for_session_event, session.session_id))
            await settle()
    assert outcomes == ["hub_closed", "hub_closed"]


async def test_intervals_of_zero_run_no_sweepers(make_store: MakeStore) -> None:
    async with Hub.open(make_store(), ttl_sweep_interval=0, expectation_sweep_interval=0) as hub:
        assert hub.health().sweepers == ()
        assert await hub._ttl_tick() == 0
        assert await hub._expectation_tick() == 0
