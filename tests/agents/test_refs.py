"""Actors by name: the kernel's words reach a registered agent through the hub and over a client's link alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from agorio import (
    AccessBlock,
    AccessDeniedError,
    ActorCrashed,
    AgentClient,
    Hub,
    HubClient,
    InvalidInput,
    LocalLink,
    MemoryKnowledgeStore,
    NotFoundError,
    Passport,
    Ref,
    Refuse,
    Resume,
    Rule,
)


class Scholar:
    name = "scholar"

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.cancelled = 0

    async def ask(self, question: str) -> str:
        self.heard.append(question)
        if question == "crash":
            raise ValueError("a bad day")
        if question == "refuse":
            raise Refuse("not today")
        if question == "slow":
            try:
                await trio.sleep(100)
            except trio.Cancelled:
                self.cancelled += 1
                raise
        return f"re: {question}"


@asynccontextmanager
async def network() -> AsyncIterator[tuple[Hub, HubClient, Scholar, AgentClient]]:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        client = HubClient(LocalLink(hub), hub=hub)
        scholar = Scholar()
        await client.register(scholar, Passport("scholar"), Resume())
        alice = await client.register(None, Passport("alice"), Resume(), attach_plugin=False)
        yield hub, client, scholar, alice


def by_hub(hub: Hub, client: HubClient) -> Any:
    return hub.ref("scholar")


def by_link(hub: Hub, client: HubClient) -> Any:
    return client.ref("scholar")


both_ways = pytest.mark.parametrize("find", [by_hub, by_link])


@both_ways
async def test_ask_brings_the_agents_reply(autojump_clock: object, find: Callable[..., Any]) -> None:
    async with network() as (hub, client, _, _):
        assert await find(hub, client).ask("hello") == "re: hello"


@both_ways
async def test_a_refusal_is_a_reply_and_a_crash_names_its_cause(
    autojump_clock: object, find: Callable[..., Any]
) -> None:
    async with network() as (hub, client, _, _):
        ref = find(hub, client)
        with pytest.raises(Refuse, match="not today"):
            await ref.ask("refuse")
        with pytest.raises(ActorCrashed, match="ValueError: a bad day"):
            await ref.ask("crash")
        assert await ref.ask("and now?") == "re: and now?"


@both_ways
async def test_the_askers_deadline_cancels_the_running_handler(
    autojump_clock: object, find: Callable[..., Any]
) -> None:
    async with network() as (hub, client, scholar, _):
        with trio.move_on_after(5) as scope:
            await find(hub, client).ask("slow")
        await trio.testing.wait_all_tasks_blocked()
        assert scope.cancelled_caught
        assert scholar.cancelled == 1
        assert await find(hub, client).ask("next") == "re: next"


@both_ways
async def test_tell_and_send_reach_the_agent_in_order(autojump_clock: object, find: Callable[..., Any]) -> None:
    async with network() as (hub, client, scholar, _):
        ref = find(hub, client)
        ref.tell("one")
        await ref.send("two")
        assert await ref.ask("three") == "re: three"
        assert scholar.heard == ["one", "two", "three"]


async def test_a_message_waits_for_the_turn_in_hand(autojump_clock: object) -> None:
    async with network() as (hub, _, scholar, alice):
        session = await alice.open(type="conversation", target="scholar")
        await session.send("slow")
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        assert await hub.ref("scholar").ask("quick") == "re: quick"
        assert trio.current_time() - started >= 99
        assert scholar.heard == ["slow", "quick"]


async def test_death_watch_crosses_the_link(autojump_clock: object) -> None:
    async with network() as (hub, client, _, alice):
        reasons = []

        async def watch() -> None:
            reasons.append(await client.ref("scholar", asker=alice).stopped())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            await hub.unregister((await hub.list_agents(query="scholar"))[0].agent_id)
        assert reasons == ["stopped"]


async def test_rules_hold_for_asks_by_name(autojump_clock: object) -> None:
    async with network() as (_, client, scholar, _):
        rule = Rule(access=AccessBlock(outbound_to=["nobody"]))
        mute = await client.register(None, Passport("mute"), Resume(), attach_plugin=False, rule=rule)
        with pytest.raises(AccessDeniedError, match="outbound_to"):
            await client.ref("scholar", asker=mute).ask("psst")
        assert scholar.heard == []


async def test_bad_refs_teach(autojump_clock: object) -> None:
    async with network() as (hub, client, _, _):
        with pytest.raises(NotFoundError, match="list_agents"):
            hub.ref("nobody")
        with pytest.raises(NotFoundError):
            await client.ref("nobody").ask("hello")
        with pytest.raises(Refuse, match="has no ask"):
            await hub.ref("alice").ask("hello")
        with pytest.raises(InvalidInput, match="register an agent"):
            HubClient(LocalLink(hub), hub=hub).ref("scholar")


async def test_an_agent_that_is_away_refuses(autojump_clock: object) -> None:
    async with network() as (hub, client, _, _):
        await client.close()
        with pytest.raises(Refuse, match="not connected"):
            await hub.ref("scholar").ask("hello")


async def test_a_lost_link_fails_the_asker_with_the_cause(autojump_clock: object) -> None:
    async with network() as (hub, _, _, _):
        caught = []

        async def ask() -> None:
            with pytest.raises(ActorCrashed, match="link") as info:
                await hub.ref("scholar").ask("slow")
            caught.append(info.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            hub._open_services().directory.entry("scholar").inbox.connection.close("cut")  # type: ignore[union-attr]
        assert len(caught) == 1


async def test_an_address_of_an_agent_elsewhere_is_a_ref(autojump_clock: object) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(Scholar())
        assert isinstance(hc.ref("scholar"), Ref)
        assert isinstance(hub.ref("scholar"), Ref)
        assert not isinstance("scholar", Ref)


async def test_crashes_beyond_number_are_their_agents_own_affair(autojump_clock: object) -> None:
    """More of them than any group of the hub bears take down nobody else, and each is in the audit."""

    async def broken(text: str) -> str:
        raise ValueError(text)

    async def provoke(hub: Hub, name: str) -> None:
        for _ in range(8):
            with pytest.raises(ActorCrashed, match="ValueError"):
                await hub.ref(name).ask("go")

    async with network() as (hub, bystander, _, _):
        crowd = HubClient(LocalLink(hub), hub=hub)
        names = [f"broken-{number}" for number in range(150)]
        for name in names:
            await crowd.register(broken, Passport(name), Resume())
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(provoke, hub, name)
        assert trio.current_time() < begun + 5
        await trio.sleep(5)
        assert await bystander.ref("scholar").ask("still there?") == "re: still there?"
        assert hub.health().status == "ok"
        restarted = [r.actor for r in await hub.audit_log.read_all() if r.kind == "actor_restarted"]
        assert restarted.count("hub/agents/broken-7") == 8
        assert len([name for name in restarted if name.startswith("hub/agents/")]) == 1200


async def test_an_agents_mail_is_retried_though_its_actor_rests(autojump_clock: object) -> None:
    """The timers of an inbox stop with its actor, and go on with the next one."""
    async with network() as (hub, client, scholar, alice):
        session = await alice.open(type="conversation", target="scholar")
        async with trio.open_nursery() as nursery:

            async def crash() -> None:
                with pytest.raises(ActorCrashed):
                    await hub.ref("scholar").ask("crash")

            nursery.start_soon(crash)
            await session.send("crash")
        await trio.sleep(60)
        assert scholar.heard.count("crash") > 2
        assert await client.ref("scholar").ask("well?") == "re: well?"
