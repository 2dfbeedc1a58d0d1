"""A hub on the disk store: what a restart and a damaged session leave of it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from agorio import (
    EV_TEXT,
    AgentClient,
    DiskKnowledgeStore,
    Envelope,
    Hub,
    HubClient,
    LocalLink,
    Passport,
    QuarantinedError,
    StoreError,
)
from tests.store.disks import Disk


@asynccontextmanager
async def hub_on(store: DiskKnowledgeStore) -> AsyncIterator[tuple[Hub, HubClient]]:
    async with Hub.open(store) as hub:
        yield hub, HubClient(LocalLink(hub), hub=hub)


async def echo(text: str) -> str:
    return f"re: {text}"


async def agent(hc: HubClient, name: str) -> AgentClient:
    return await hc.register(None, Passport(name), attach_plugin=False, attach=True)


class Inbox:
    """A handler that fails for chosen texts and keeps the others."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.arrived = trio.Event()
        self.wanted = 0

    async def handle(self, envelope: Envelope) -> None:
        if envelope.event_type == EV_TEXT:
            self.texts.append(str(envelope.text))
            if len(self.texts) >= self.wanted:
                self.arrived.set()


async def test_a_consultation_is_there_after_a_restart(path: Path) -> None:
    store = DiskKnowledgeStore(path)
    async with hub_on(store) as (hub, hc):
        await hc.register(echo, Passport("bob"))
        alice = await agent(hc, "alice")
        session = await alice.open(type="consulting", target="bob")
        await session.send("what?")
        reply = await alice.wait_for_session_event(session.session_id, lambda one: one.event_type == EV_TEXT)
        assert reply.text == "re: what?"
        log, audit = await hub.read_wal(session.session_id), await hub.audit_log.read_all()
        assert hub.health().durable
        alice_id = alice.agent_id
    async with hub_on(DiskKnowledgeStore(path)) as (hub, hc):
        assert await hub.read_wal(session.session_id) == log
        assert (await hub.audit_log.read_all())[: len(audit)] == audit
        assert (await hub.get_session(session.session_id)).state == "closed"
        assert (await agent(hc, "alice")).agent_id == alice_id
        assert (await hc.register(echo, Passport("bob"), attach=True)).name == "bob"
        assert hub.health().quarantined == ()


async def test_what_was_pending_is_delivered_after_a_restart(path: Path) -> None:
    async with hub_on(DiskKnowledgeStore(path)) as (hub, hc):
        inbox = Inbox()
        inbox.wanted = 1
        await hc.register(echo, Passport("bob"), handler=inbox.handle)
        alice = await agent(hc, "alice")
        session = await alice.open("conversation", "bob")
        await session.send("handled")
        await inbox.arrived.wait()
        await hc.close()  # bob is away
        async with HubClient(LocalLink(hub), hub=hub) as other:
            alice = await other.register(None, Passport("alice"), attach_plugin=False, attach=True)
            for text in ("one", "two", "three"):
                await alice.send_envelope(
                    Envelope(session.session_id, alice.agent_id, None, EV_TEXT, {"text": text}, idempotency_key=text)
                )
    async with hub_on(DiskKnowledgeStore(path)) as (hub, hc):
        assert [info.pending for info in hub.agents() if info.name == "bob"] == [3]
        inbox = Inbox()
        inbox.wanted = 3
        await hc.register(echo, Passport("bob"), handler=inbox.handle, attach=True)
        await inbox.arrived.wait()
        assert inbox.texts == ["one", "two", "three"], "in order, and not what was handled before"
        alice = await agent(hc, "alice")
        again = Envelope(session.session_id, alice.agent_id, None, EV_TEXT, {"text": "two"}, idempotency_key="two")
        await alice.send_envelope(again)
        texts = [envelope.text for envelope in await hub.read_wal(session.session_id) if envelope.text]
        assert texts == ["handled", "one", "two", "three"], "a retry after a restart returns the first result"


async def test_a_damaged_session_is_set_aside_and_the_rest_works(path: Path) -> None:
    async with hub_on(DiskKnowledgeStore(path)) as (hub, hc):
        await hc.register(echo, Passport("bob"), handler=Inbox().handle)
        alice = await agent(hc, "alice")
        first, second = await alice.open("conversation", "bob"), await alice.open("conversation", "bob")
        for session in (first, second):
            await session.send("hello")
    damage(path, first.session_id)
    async with hub_on(DiskKnowledgeStore(path)) as (hub, hc):
        with pytest.raises(QuarantinedError):
            await hub.read_wal(first.session_id)
        assert any(first.session_id in name for name in hub.health().quarantined)
        assert hub.health().status == "degraded"
        alice = await agent(hc, "alice")
        await hc.register(echo, Passport("bob"), handler=Inbox().handle, attach=True)
        text = Envelope(second.session_id, alice.agent_id, None, EV_TEXT, {"text": "still here"})
        assert (await alice.send_envelope(text)).sequence
        third = await alice.open("conversation", "bob")
        await third.send("new")


async def test_damage_that_is_found_later_shows_in_the_health(path: Path) -> None:
    store = DiskKnowledgeStore(path)
    async with hub_on(store) as (hub, hc):
        await hc.register(echo, Passport("bob"), handler=Inbox().handle)
        session = await (await agent(hc, "alice")).open("conversation", "bob")
        await session.send("hello")
        assert hub.health().status == "ok"
        damage(path, session.session_id)
        with pytest.raises(QuarantinedError):
            await hub.read_wal(session.session_id)
        health = hub.health()
        assert health.quarantined == (f"stream session/{session.session_id}",)
        assert (health.status, health.reasons) == ("degraded", (f"{health.quarantined[0]} is set aside",))


def damage(path: Path, session_id: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    name = f"session/{session_id}"
    connection.execute("UPDATE log SET body=x'00' WHERE stream=(SELECT id FROM stream WHERE name=?) AND seq=3", (name,))
    connection.close()


async def test_a_full_disk_fails_the_send_and_the_hub_stays_up(path: Path) -> None:
    disk = Disk()
    async with hub_on(DiskKnowledgeStore(path, connect=disk.connect)) as (hub, hc):
        await hc.register(echo, Passport("bob"), handler=Inbox().handle)
        session = await (await agent(hc, "alice")).open("conversation", "bob")
        await session.send("before")
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        disk.fault = lambda sql, number: full if sql.startswith("INSERT") else None
        with pytest.raises(StoreError, match="disk is full"):
            await session.send("lost")
        disk.fault = lambda sql, number: None
        await session.send("after")
        texts = [envelope.text for envelope in await hub.read_wal(session.session_id) if envelope.text]
        assert texts == ["before", "after"]


async def test_a_slow_disk_delays_only_those_who_wait_for_it(path: Path) -> None:
    disk = Disk()
    async with hub_on(DiskKnowledgeStore(path, connect=disk.connect)) as (hub, hc):
        inbox, accepted = Inbox(), list[str]()
        inbox.wanted = 1
        await hc.register(echo, Passport("bob"), handler=inbox.handle)
        alice = await agent(hc, "alice")
        session = await alice.open("conversation", "bob")
        await session.send("before")
        await inbox.arrived.wait()

        async def send() -> None:
            await session.send("slow")
            accepted.append("slow")

        async with trio.open_nursery() as nursery:
            disk.hold.clear()
            nursery.start_soon(send)
            await trio.to_thread.run_sync(disk.held.wait)
            assert len(await hub.read_wal(session.session_id)) > 0, "readers go on"
            assert (await hub.get_session(session.session_id)).state == "active"
            assert hub.health().status == "ok"
            assert inbox.texts == ["before"], "nothing is delivered that is not durable"
            assert accepted == []
            disk.hold.set()
        assert accepted == ["slow"]
