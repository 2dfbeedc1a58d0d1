"""What the benchmarks share: the table's lines, the bare channel that everything is compared with, resident memory."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import attrs
import trio

PAGE_SIZE = 4096


@attrs.frozen
class Row:
    """One line of the table."""

    what: str
    """What was measured."""
    ours: float
    """Our figure."""
    bare: float | None
    """Bare trio's figure in the same run, or None where there is nothing to compare with."""
    unit: str
    """What both are in."""
    more_is_better: bool = True
    """Whether the ratio is ours/bare or bare/ours; above 1 is better than bare trio either way."""
    aim: str = ""
    """What is aimed at, in words."""

    def render(self) -> str:
        """The line."""
        bare = "" if self.bare is None else f"{self.bare:,.1f}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return f"{self.what:<46}{self.ours:>14,.1f}{bare:>14}{ratio:>8}  {self.unit:<14}{self.aim}".rstrip()

    @property
    def ratio(self) -> float | None:
        """How we compare with bare trio."""
        if not self.bare or not self.ours:
            return None
        return self.ours / self.bare if self.more_is_better else self.bare / self.ours


HEADER = f"{'':<46}{'agorio':>14}{'bare trio':>14}{'ratio':>8}  {'unit':<14}aim"


def show(title: str, rows: Iterable[Row], *, as_json: bool = False) -> None:
    """Print a table, or its rows as JSON for `all.py`."""
    if as_json:
        json.dump([attrs.asdict(row) for row in rows], sys.stdout)
        return
    print(f"{title}\n{HEADER}")
    for row in rows:
        print(row.render())


async def bare_round_trips(count: int) -> float:
    """Round trips per second over two bare memory channels: what one message and its answer cost in trio itself."""
    there, at_work = trio.open_memory_channel[int](1)
    back, at_home = trio.open_memory_channel[int](1)

    async def echo() -> None:
        async for item in at_work:
            await back.send(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        begin = time.perf_counter()
        for item in range(count):
            await there.send(item)
            await at_home.receive()
        rate = count / (time.perf_counter() - begin)
        await there.aclose()
    return rate


async def best_of_both(
    ours: Callable[[], Awaitable[float]], bare: Callable[[], Awaitable[float]], rounds: int = 3
) -> tuple[float, float]:
    """The best rates of both, measured in turns, so that a busy neighbour disturbs both sides alike."""
    pairs = [(await bare(), await ours()) for _ in range(rounds)]
    return max(rate for _, rate in pairs), max(rate for rate, _ in pairs)


def resident() -> int:
    """Resident memory of this process in bytes, after a collection of garbage; Linux only."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE
