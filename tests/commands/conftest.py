"""Stores with something in them, and programs that are gone when the test is over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from agorio import (
    EV_TEXT,
    DiskKnowledgeStore,
    Hub,
    HubClient,
    LocalLink,
    Passport,
    Resume,
)

sys.path.append(str(Path(__file__).parent))  # `processes` lies beside the tests

from processes import Program

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


async def fill(path: Path) -> Filled:
    async with Hub.open(DiskKnowledgeStore(path)) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(scholar, Passport("scholar"), Resume(["trivia"]))
        alice = await hc.register(None, Passport("alice"), attach_plugin=False)
        asked = await alice.open(type="consulting", target="scholar")
        await asked.send("What is the answer?")
        await alice.wait_for_session_event(asked.session_id, lambda e: e.event_type == EV_TEXT)
        await asked.wait_closed()
        bob = await hc.register(None, Passport("bob"))
        talk = await alice.open(type="conversation", target="bob")
        await talk.send("This will never be read.")
        await hc.unregister(bob)
        return Filled(path, asked.session_id, talk.session_id)


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return trio.run(fill, tmp_path / "hub.db")
