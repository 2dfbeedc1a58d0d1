"""Ten thousand idle agents and ten thousand idle sessions in one process. `python benchmarks/scale.py [--quick]`.

Agents share one client. Memory is the process's resident memory, so it holds everything: the hub's records, the memory
store's log and documents, the audit trail, the agents' side, and what the allocator keeps. Times are those of the last
stretch before each mark, not averages from the beginning, so that growth would show.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from common import Row, resident, show

from agorio import AgentClient, Hub, HubClient, LocalLink, MemoryKnowledgeStore, Passport

MARKS = (1_000, 2_000, 5_000, 10_000)
WARM_UP = 200


async def silent(text: str) -> str:
    """An agent that has nothing to say."""
    return ""


@attrs.frozen
class Stretch:
    """What was seen between two marks."""

    up_to: int
    """How many there were at its end."""
    micros: float
    """Microseconds per step."""
    size: float
    """Resident bytes per step, from the beginning."""


@attrs.frozen
class Seen:
    """What one run has shown."""

    agents: list[Stretch]
    """Registering."""
    sessions: list[Stretch]
    """Opening."""
    close_seconds: float
    """Closing the hub with all of it."""


async def settle() -> None:
    """Let everything run that is ready to."""
    for _ in range(100):
        await trio.lowlevel.checkpoint()


async def in_stretches(marks: tuple[int, ...], act: Callable[[int], Awaitable[object]]) -> list[Stretch]:
    """Act so often, looking at the clock and at the memory at each mark."""
    await settle()
    before, done, seen = resident(), 0, []
    for mark in marks:
        begin = time.perf_counter()
        for number in range(done, mark):
            await act(number)
        await settle()
        micros = (time.perf_counter() - begin) / (mark - done) * 1e6
        seen.append(Stretch(mark, micros, (resident() - before) / mark))
        done = mark
    return seen


async def run(marks: tuple[int, ...]) -> Seen:
    """Register agents, open a conversation from each to the next, close."""
    agents: list[AgentClient] = []
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        client = HubClient(LocalLink(hub), hub=hub)

        async def register(number: int) -> None:
            agents.append(await client.register(silent, Passport(f"agent-{len(agents)}")))

        async def open_session(number: int) -> None:
            await agents[number].open("conversation", f"agent-{(number + 1) % len(agents)}")

        for number in range(WARM_UP):  # imports, caches and the allocator's first blocks are not the agents'
            await register(number)
        for number in range(WARM_UP):
            await open_session(number)
        registering = await in_stretches(marks, register)
        opening = await in_stretches(marks, open_session)
        begin = time.perf_counter()
    return Seen(registering, opening, time.perf_counter() - begin)


def rows(seen: Seen) -> list[Row]:
    """The table."""
    lines = []
    for name, stretches in (("registration", seen.agents), ("opening a session", seen.sessions)):
        first = stretches[0].micros
        lines += [
            Row(f"{name}, up to {one.up_to:,}", one.micros, first, "us (bare: start)", False, "flat")
            for one in stretches
        ]
    last = seen.agents[-1].up_to
    return [
        *lines,
        Row("memory of an idle agent", seen.agents[-1].size, None, "bytes RSS", aim="below 12,288"),
        Row("memory of an idle session", seen.sessions[-1].size, None, "bytes RSS", aim="below 4,096"),
        Row(f"closing with {last:,} of each", seen.close_seconds * 1000, None, "ms", aim="below 2,000"),
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(description="Many idle agents and sessions in one process.")
    parser.add_argument("--quick", action="store_true", help="a tenth as many, rough figures")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    arguments = parser.parse_args()
    marks = tuple(mark // 10 for mark in MARKS) if arguments.quick else MARKS
    show("Ten thousand", rows(await run(marks)), as_json=arguments.json)


if __name__ == "__main__":
    trio.run(main)
