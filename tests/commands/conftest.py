"""Stores with something in them, and programs that are gone when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from agorio import (
    AUDIT_KIND_DEAD_LETTER,
    EV_TEXT,
    DiskKnowledgeStore,
    Hub,
    HubClient,
    LocalLink,
    Passport,
    Redelivery,
    Resume,
)
from tests.commands.processes import Program

Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs of agorio."""
    programs: list[Program] = []

    def start_one(*args: object) -> Program:
        programs.append(Program(*args))
        return programs[-1]

    yield start_one
    for program in reversed(programs):
        program.close()


@attrs.frozen
class Filled:
    """A store with two sessions of alice's."""

    path: Path
    """Its file."""
    ended: str
    """The consultation, which has ended."""
    open: str
    """The conversation, in which bob's last delivery was given up."""


async def scholar(text: str) -> str:
    return "The answer\x1b[31m is 42."


async def bob(text: str) -> str:
    raise RuntimeError("bob cannot read")


async def fill(path: Path) -> Filled:
    async with Hub.open(DiskKnowledgeStore(path), redelivery=Redelivery(max_attempts=1)) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(scholar, Passport("scholar"), Resume(["trivia"]))
        alice = await hc.register(None, Passport("alice"), attach_plugin=False)
        asked = await alice.open(type="consulting", target="scholar")
        await asked.send("What is the answer?")
        await alice.wait_for_session_event(asked.session_id, lambda e: e.event_type == EV_TEXT)
        await asked.wait_closed()
        await hc.register(bob, Passport("bob"))
        talk = await alice.open(type="conversation", target="bob")
        async with hub.audit_log.subscribe(kind=AUDIT_KIND_DEAD_LETTER) as letters:
            await talk.send("This will never be read.")
            await anext(letters)
        return Filled(path, asked.session_id, talk.session_id)


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return trio.run(fill, tmp_path / "hub.db")
