"""A simulated week of 1,000 sessions with mixed rules and expectations. `python benchmarks/sweeps.py [--quick]`.

Everything runs on the virtual clock, so a week takes as long as its work does. Each session speaks now and then, falls
silent, violates what is expected of it and speaks again. Printed are the time per sweep, what the sweeps had to read,
and the memory in use day by day, which must not grow. Figures depend on the machine; the shape is what to read.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import trio
import trio.testing

from agorio import (
    AgentClient,
    Append,
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
from agorio.hub.stores.protocol import Change

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
    """What the sweeps of one kind have cost, in whole microseconds."""

    counts: Counter[int] = attrs.Factory(Counter)
    """How many sweeps took how long; a list of all would be the only thing here that grows."""

    def timed(self, sweep: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """The sweep with a stopwatch."""

        async def run() -> None:
            start = time.perf_counter()
            await sweep()
            self.counts[_rounded((time.perf_counter() - start) * 1e6)] += 1

        return run

    def describe(self, name: str) -> str:
        """One line."""
        total = self.counts.total()
        mean = sum(took * times for took, times in self.counts.items()) / total
        return (
            f"{name:>12}: {total:,} sweeps, mean {mean:,.0f} us, median {self._share(0.5):,} us, "
            f"99th percentile {self._share(0.99):,} us, worst {max(self.counts) / 1e3:,.1f} ms"
        )

    def _share(self, share: float) -> int:
        left = share * self.counts.total()
        for took in sorted(self.counts):
            left -= self.counts[took]
            if left <= 0:
                return took
        return max(self.counts)


def _rounded(microseconds: float) -> int:
    """To two digits, so that there are few different values."""
    digits = max(0, len(str(int(microseconds))) - 2)
    return int(round(microseconds, -digits))


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


class ExactStore(MemoryKnowledgeStore):
    """Keeps bodies without the encoder's spare bytes, so that what it holds can be told from its records."""

    def commit_nowait(self, changes: Sequence[Change]) -> None:
        """As in the store below it."""
        super().commit_nowait([_exact(change) if isinstance(change, Append) else change for change in changes])


def _exact(change: Append) -> Append:
    return attrs.evolve(change, bodies=tuple(bytes(bytearray(body)) for body in change.bodies))


def stored(store: MemoryKnowledgeStore) -> tuple[int, int]:
    """How many records the memory store holds, and their bytes."""
    streams = list(store._streams.values())
    return sum(map(len, streams)), sum(sys.getsizeof(body) for stream in streams for body in stream)


async def week(count: int, days: int, is_traced: bool) -> None:
    """Run it and print the memory of each day, or the times, which tracing memory would spoil."""
    ttl, expectation = Sweeps(), Sweeps()
    if is_traced:
        tracemalloc.start()
    store = ExactStore()
    async with Hub.open(store, ttl_sweep_interval=0, expectation_sweep_interval=0) as hub:
        hub.register_sweeper("ttl-timed", 30, ttl.timed(hub._ttl_tick))
        hub.register_sweeper("expectations-timed", 10, expectation.timed(hub._expectation_tick))
        hc = HubClient(LocalLink(hub), hub=hub)
        sessions = await opened(hc, count)
        watched = hub._open_services().expectations
        print(f"{count:,} sessions, {days} days, a sweep every 10 s, {'memory' if is_traced else 'time'}")
        for day in range(days):
            await chatter(sessions, 1, random.Random(day), per_day=2)
            if is_traced:
                print(f"  day {day + 1}: {memory(store)}")
        if not is_traced:
            print(
                f"  {watched.total_violations:,} violations found, {watched.total_folds:,} envelopes folded for it, "
                f"{len(watched._due):,} entries in the heap"
            )
            print(ttl.describe("ttl"))
            print(expectation.describe("expectations"))
        await hc.close()
    tracemalloc.stop()


def memory(store: MemoryKnowledgeStore) -> str:
    """What is in use beside the store's own records."""
    gc.collect()
    records, in_store = stored(store)
    beside = tracemalloc.get_traced_memory()[0] - in_store
    return f"{beside / 1e6:.1f} MB beside the store, which holds {records:,} records, {in_store / 1e6:.1f} MB"


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 sessions, one day")
    quick = parser.parse_args().quick
    count, days = (100, 1) if quick else (1000, 7)
    for is_traced in (False, True):
        started = time.perf_counter()
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(week, count, days, is_traced, clock=clock)
        print(f"{time.perf_counter() - started:.1f} s in all")


if __name__ == "__main__":
    main()
