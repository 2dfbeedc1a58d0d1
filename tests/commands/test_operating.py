"""Operators' changes to a store, its archive, and looking on while a hub is at work: as real commands and processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from agorio import (
    EV_TEXT,
    BudgetBlock,
    DiskKnowledgeStore,
    Hub,
    HubClient,
    LocalLink,
    Passport,
    Retention,
    Rule,
)
from agorio.actors.agents.websocket import WsLink
from tests.commands.conftest import Filled, Start, scholar
from tests.commands.processes import agorio, url_in


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@attrs.frozen
class Reply:
    body: str
    usage: dict[str, float]


async def spender(text: str) -> Reply:
    return Reply("done", {"total_tokens": 70, "cost": 0.25})


async def park(path: Path) -> str:
    """A store with an agent that is over its budget and has mail."""
    async with Hub.open(DiskKnowledgeStore(path)) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(spender, Passport("spender"), rule=Rule(budget=BudgetBlock(max_tokens=50)))
        alice = await hc.register(None, Passport("alice"), attach_plugin=False)
        session = await alice.open(type="conversation", target="spender")
        async with hub.audit_log.subscribe(kind="agent_parked") as parked:
            await session.send("one")
            await session.send("two")
            await anext(parked)
        return session.session_id


def test_agents_and_resume(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    trio.run(park, path)
    alice, spent = lines(agorio("agents", path, "--json").stdout)
    assert (alice["name"], alice["parked"]) == ("alice", None)
    assert (spent["total"]["tokens"], spent["counting"]["cost"], spent["pending"]) == (70, 0.25, 1)
    assert "70 tokens used, budget.max_tokens allows 50" in agorio("agents", path, "--parked").stdout
    assert "alice" not in agorio("agents", path, "--parked").stdout
    assert "reset=True" in agorio("resume", path, "spender", "--keep-counts", code=2).stderr
    assert "spender is resumed" in agorio("resume", path, "spender").stdout
    assert "is not parked" in agorio("resume", path, "spender", code=1).stderr
    assert "no agent 'x'" in agorio("resume", path, "x", code=2).stderr
    assert agorio("agents", path, "--parked", "--json").stdout == ""
    (resumed,) = lines(agorio("audit", path, "--kind", "agent_resumed", "--json").stdout)
    assert (resumed["name"], resumed["by"], resumed["used"]["tokens"]) == ("spender", "operator", 70)
    agorio("doctor", path)


def test_redeliver(filled: Filled) -> None:
    (letter,) = lines(agorio("dead-letters", filled.path, "--json").stdout)
    number = letter["audit_sequence"]
    assert letter["redelivered"] is False
    assert "waits for bob again" in agorio("dead-letters", filled.path, "--redeliver", number).stdout
    assert "in its inbox already" in agorio("dead-letters", filled.path, "--redeliver", number, code=2).stderr
    assert "is no dead letter" in agorio("dead-letters", filled.path, "--redeliver", 1, code=2).stderr
    (letter,) = lines(agorio("dead-letters", filled.path, "--json").stdout)
    assert letter["redelivered"] is True
    assert "yes" in agorio("dead-letters", filled.path).stdout
    heard: list[str] = []

    async def bob(text: str) -> str:
        heard.append(text)
        return ""

    async def listen() -> None:
        async with Hub.open(DiskKnowledgeStore(filled.path)) as hub:
            hc = HubClient(LocalLink(hub), hub=hub)
            await hc.register(bob, Passport("bob"), attach=True)
            with trio.fail_after(10):
                while not heard:
                    await trio.sleep(0.01)

    trio.run(listen)
    assert heard == ["This will never be read."]
    assert "redelivered before" in agorio("dead-letters", filled.path, "--redeliver", number, code=2).stderr


async def archive(path: Path, folder: Path) -> None:
    async with Hub.open(DiskKnowledgeStore(path), retention=Retention(folder, 0.001, 5, 0)) as hub:
        assert await hub._retention_tick() > 1


def test_an_archive_is_read_checked_and_followed_through(filled: Filled, tmp_path: Path) -> None:
    log = agorio("log", filled.path, filled.ended, "--json").stdout
    audit = agorio("audit", filled.path, "--json").stdout
    folder = tmp_path / "hub.db.archive"
    trio.run(archive, filled.path, folder)
    assert agorio("log", filled.path, filled.ended[-12:], "--json").stdout == log
    assert agorio("audit", filled.path, "--json").stdout.startswith(audit)
    (found,) = lines(agorio("doctor", filled.path, "--json").stdout)
    assert (found["ok"], found["archived"] > 5) == (True, True)
    assert "in the archive" in agorio("doctor", filled.path).stdout
    assert [one["session"] for one in lines(agorio("sessions", filled.path, "--json").stdout)] == [filled.open]

    first, copy, second = tmp_path / "1.jsonl", tmp_path / "copy.db", tmp_path / "2.jsonl"
    agorio("export", filled.path, first)
    agorio("import", first, copy)
    agorio("export", copy, second)
    assert first.read_bytes() == second.read_bytes()
    assert agorio("log", copy, filled.ended, "--archive", folder, "--json").stdout == log
    agorio("doctor", copy, "--archive", folder)
    assert "no such folder" in agorio("doctor", copy, "--archive", tmp_path / "none", code=2).stderr

    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert "say where the archive is" in agorio("doctor", filled.path, code=1).stdout
    assert agorio("log", filled.path, filled.ended, "--archive", moved, "--json").stdout == log
    (file,) = (moved / "sessions").rglob("*.gz")
    data = file.read_bytes()
    file.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    (found,) = lines(agorio("doctor", filled.path, "--archive", moved, "--json", code=1).stdout)
    assert any(one["kind"] == "archive" and filled.ended in one["name"] for one in found["damage"])


def test_filters(filled: Filled) -> None:
    said = lines(agorio("log", filled.path, filled.ended, "--from", "scholar", "--type", "msg.text", "--json").stdout)
    assert [one["event_data"]["text"] for one in said] == ["The answer\x1b[31m is 42."]
    about = lines(agorio("audit", filled.path, "--agent", "bob", "--kind", "dead_letter", "--json").stdout)
    assert [one["name"] for one in about] == ["bob"]
    assert (
        lines(agorio("audit", filled.path, "--session", filled.ended, "--json").stdout)[0]["kind"] == "session_created"
    )


def test_following_what_is_over(filled: Filled) -> None:
    assert agorio("log", filled.path, filled.ended, "--follow", "--json").stdout == (
        agorio("log", filled.path, filled.ended, "--json").stdout
    )
    assert "no session" in agorio("log", filled.path, "nope", "-f", code=2).stderr
    assert "no such store" in agorio("log", filled.path.with_name("x"), "nope", "-f", code=2).stderr


@pytest.mark.slow
def test_following_a_hub_at_work(start: Start, tmp_path: Path) -> None:
    """The log and the audit log are printed as they grow, in another process than the hub's, until the session ends."""
    store = tmp_path / "hub.db"
    url = url_in(start("serve", "--store", store, "--port", 0).wait_line("a hub at"))

    async def talk() -> None:
        async with HubClient(WsLink(url)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            await hc.register(scholar, Passport("scholar"))
            session = await alice.open(type="conversation", target="scholar")
            run = trio.to_thread.run_sync
            log = await run(start, "log", store, session.session_id, "--follow", "--type", "msg.text")
            audit = await run(start, "audit", store, "-f", "--json", "--kind", "session_closed")
            for number in range(3):
                await session.send(f"text {number}")
                await run(log.wait_line, f"text {number}")
                await alice.wait_for_session_event(session.session_id, lambda e: e.event_type == EV_TEXT)
            await session.close("done")
            closed = json.loads(await run(audit.wait_line, "session_closed"))
            assert (closed["session_id"], closed["reason"]) == (session.session_id, "done")
            assert await run(log.process.wait) == 0

    trio.run(talk)


@pytest.mark.slow
def test_a_hub_that_archives(start: Start, filled: Filled, tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        "[store]\npath = 'hub.db'\n[listen]\nport = 0\n"
        "[retention]\narchive = 'old'\narchive_after = 0.001\naudit_keep = 5\ninterval = 0.05\n"
    )
    hub = start("serve", "--config", config)
    hub.wait_line("a hub at")
    follow = start("audit", filled.path, "-f", "--kind", "archived")
    follow.wait_line("archived")
    assert hub.stop() == 0
    assert (tmp_path / "old" / "audit").is_dir()
    agorio("doctor", filled.path, "--archive", tmp_path / "old")
    config.write_text("[retention]\naudit_keep = 5\n")
    assert "needs a store on disk" in agorio("serve", "--config", config, code=2).stderr
