"""A simulated week of 1,000 sessions with mixed rules and expectations. `python benchmarks/sweeps.py [--quick]`.

Everything runs on the virtual clock, so a week takes as long as its work does. Each session speaks now and then, falls
silent, violates what is expected of it and speaks again. Printed are the time per sweep, what the sweeps had to read,
and the memory in use day by day, which must not grow. Figures depend on the machine; the shape is what to read.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
import trio.testing

from agorio import (
    AgentClient,
    Expectation,
    Hub,
    HubClient,
    InboxBlock,
    LimitsBlock,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    RateBlock,
    Rule,
    Session,
)

DAY = 86_400.0
EXPECTED = (
    [Expectation("max_silence", "audit", {"seconds": "6h"})],
    [Expectation("max_silence", "warn", {"seconds": "1d"}), Expectation("reply_within", "audit", {"seconds": "2h"})],
    [Expectation("reply_within", "warn", {"seconds": "12h"}, applies_to=["respondent"])],
    [Expectation("max_silence", "audit", {"seconds": "3h"}), Expectation("acks_within", "auto_close")],
)
RULES = (
    Rule(),
    Rule(limits=LimitsBlock("2w")),
    Rule(rate=RateBlock(600, 100)),
    Rule(inbox=InboxBlock(1000, "drop_oldest")),
)


@attrs.define
class Sweeps:
    """What the sweeps of one kind have cost."""

    seconds: list[float] = attrs.Factory(list)
    """Each sweep's time."""

    def timed(self, sweep: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """The sweep with a stopwatch."""

        async def run() -> None:
            start = time.perf_counter()
            await sweep()
            self.seconds.append(time.perf_counter() - start)

        return run

    def describe(self, name: str) -> str:
        """One line."""
        ordered = sorted(self.seconds)
        mean, worst = sum(ordered) / len(ordered), ordered[-1]
        middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        return (
            f"{name:>12}: {len(ordered):,} sweeps, mean {mean * 1e6:,.0f} us, median {middle * 1e6:,.0f} us, "
            f"99th percentile {late * 1e6:,.0f} us, worst {worst * 1e3:,.1f} ms"
        )


async def quiet(text: str) -> str:
    """An agent that reads and says nothing."""
    return ""


async def opened(hc: HubClient, count: int) -> list[Session]:
    """The sessions, spread over agents with every kind of rule."""
    agents: list[AgentClient] = []
    for number in range(20):
        rule = RULES[number % len(RULES)]
        agents.append(await hc.register(quiet, Passport(f"agent-{number}"), rule=rule))
    sessions = []
    for number in range(count):
        creator, other = agents[number % 20], agents[(number * 7 + 1) % 20]
        if creator is other:
            other = agents[(number + 1) % 20]
        expectations = EXPECTED[number % len(EXPECTED)]
        sessions.append(await creator.open("conversation", other.agent_id, expectations=expectations, ttl="3w"))
    return sessions


async def chatter(sessions: list[Session], days: float, rng: random.Random, per_day: float) -> None:
    """Somebody says something somewhere, at random."""
    end = trio.current_time() + days * DAY
    while trio.current_time() < end:
        await trio.sleep(rng.expovariate(per_day * len(sessions) / DAY))
        await rng.choice(sessions).send("still here")


async def week(count: int, days: int) -> None:
    """Run it and print the figures."""
    ttl, expectation = Sweeps(), Sweeps()
    async with Hub.open(MemoryKnowledgeStore(), ttl_sweep_interval=0, expectation_sweep_interval=0) as hub:
        hub.register_sweeper("ttl-timed", 30, ttl.timed(hub._ttl_tick))
        hub.register_sweeper("expectations-timed", 10, expectation.timed(hub._expectation_tick))
        hc = HubClient(LocalLink(hub), hub=hub)
        sessions = await opened(hc, count)
        watched = hub._open_services().expectations
        tracemalloc.start()
        print(f"{count:,} sessions, {days} days, a sweep every 10 s")
        for day in range(days):
            await chatter(sessions, 1, random.Random(day), per_day=2)
            gc.collect()
            in_log = sum(map(len, hub._store._streams.values()))  # type: ignore[attr-defined]  # the memory store's own
            held = tracemalloc.get_traced_memory()[0]
            print(
                f"  day {day + 1}: {held / 1e6:6.1f} MB held, {in_log:,} records in the logs, "
                f"{watched.total_violations:,} violations, {watched.total_folds:,} envelopes folded, "
                f"{len(watched._due):,} entries in the heap"
            )
        print(ttl.describe("ttl"))
        print(expectation.describe("expectations"))
        await hc.close()


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 sessions, one day")
    quick = parser.parse_args().quick
    started = time.perf_counter()
    trio.run(week, 100 if quick else 1000, 1 if quick else 7, clock=trio.testing.MockClock(autojump_threshold=0))
    print(f"{time.perf_counter() - started:.1f} s in all")


if __name__ == "__main__":
    main()
