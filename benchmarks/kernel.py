"""What the kernel costs, beside trio's bare memory channel in the same run. `python benchmarks/kernel.py [--quick]`.

Figures depend on the machine; the ratios are what to read. Every pair is measured alternately and the best of three
rounds counts, so that a busy neighbour disturbs both sides alike.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

from agorio.actors.runtime import Actor, Child, Group, open_supervisor
from agorio.mailbox.box import Mailbox
from agorio.mailbox.errors import ActorCrashed

CHUNK = 50


@attrs.frozen
class Row:
    """One line of the table."""

    what: str
    """What was measured."""
    ours: float
    """Our figure."""
    bare: float | None
    """The bare channel's figure in the same run."""
    unit: str
    """What both are in."""
    more_is_better: bool = True
    """Whether the ratio is ours/bare or bare/ours."""

    def render(self) -> str:
        ratio = "" if not self.bare else f"{self._ratio(self.bare):8.2f}"
        bare = "" if self.bare is None else f"{self.bare:14,.1f}"
        return f"{self.what:<44}{self.ours:14,.1f}{bare:>14}{ratio:>9}  {self.unit}"

    def _ratio(self, bare: float) -> float:
        return self.ours / bare if self.more_is_better else bare / self.ours


class Counter(Actor):
    """Counts, and echoes questions."""

    seen = 0

    async def receive(self, message: Any, ctx: Any) -> Any:
        if message == "crash":
            raise ValueError("as asked")
        type(self).seen += 1
        return message


async def best(measure: Callable[[], Awaitable[float]], rounds: int = 3) -> float:
    return max([await measure() for _ in range(rounds)])


# Mailbox and channel, without tasks.


async def mailbox_rate(count: int) -> float:
    box: Mailbox[int] = Mailbox(1000)
    begin = time.perf_counter()
    for _ in range(count // CHUNK):
        for item in range(CHUNK):
            box.put_nowait(item)
        box.drain_nowait(CHUNK)
    return count / (time.perf_counter() - begin)


async def nowait_rate(count: int) -> float:
    send, receive = trio.open_memory_channel[int](1000)
    begin = time.perf_counter()
    for _ in range(count // CHUNK):
        for item in range(CHUNK):
            send.send_nowait(item)
        for _ in range(CHUNK):
            receive.receive_nowait()
    return count / (time.perf_counter() - begin)


# Tell: one sender, one consumer, counted when handled.


async def tell_rate(count: int) -> float:
    async with open_supervisor([Child("counter", Counter, capacity=1000)]) as supervisor:
        ref, tell = supervisor.ref("counter"), supervisor.ref("counter").tell
        begin = time.perf_counter()
        for _ in range(count // 500):
            for item in range(500):
                tell(item)
            await ref.ask(-1)
        return count / (time.perf_counter() - begin)


async def loop_rate(count: int) -> float:
    """What one writes without a kernel: `async for` over a memory channel."""
    send, receive = trio.open_memory_channel[int](1000)
    actor = Counter()

    async def consume() -> None:
        async for item in receive:
            await actor.receive(item, None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        begin = time.perf_counter()
        async with send:
            for item in range(count):
                await send.send(item)
    return count / (time.perf_counter() - begin)


# Ask: one round trip after the other.


async def ask_rate(count: int) -> float:
    async with open_supervisor([Child("counter", Counter)]) as supervisor:
        ref = supervisor.ref("counter")
        begin = time.perf_counter()
        for item in range(count):
            await ref.ask(item)
        return count / (time.perf_counter() - begin)


async def round_trip_rate(count: int) -> float:
    there, at_work = trio.open_memory_channel[int](1)
    back, at_home = trio.open_memory_channel[int](1)
    actor = Counter()

    async def serve() -> None:
        async for item in at_work:
            await back.send(await actor.receive(item, None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        begin = time.perf_counter()
        for item in range(count):
            await there.send(item)
            await at_home.receive()
        rate = count / (time.perf_counter() - begin)
        await there.aclose()
    return rate


# Many actors.


def resident() -> int:
    """Resident memory of this process in bytes; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def crowd(count: int) -> tuple[float, ...]:
    """Microseconds per start, bytes per idle actor, seconds to stop them all."""
    async with open_supervisor([Group("crowd")]) as supervisor:
        group = supervisor.group("crowd")
        gc.collect()
        before, begin = resident(), time.perf_counter()
        for number in range(count):
            group.start_soon(Child(f"n{number}", Counter))
        await trio.testing.wait_all_tasks_blocked()
        started = time.perf_counter() - begin
        gc.collect()
        each = (resident() - before) / count
        begin = time.perf_counter()
        await supervisor.stop("crowd")
        return started / count * 1e6, each, time.perf_counter() - begin


async def bare_crowd(count: int) -> tuple[float, ...]:
    """The same with bare tasks that wait on bare channels."""

    async def idle(receive: trio.MemoryReceiveChannel[int]) -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery:
        gc.collect()
        channels: list[Any] = []
        before, begin = resident(), time.perf_counter()
        for _ in range(count):
            send, receive = trio.open_memory_channel[int](1000)
            channels.append(send)
            nursery.start_soon(idle, receive)
        await trio.testing.wait_all_tasks_blocked()
        started = time.perf_counter() - begin
        gc.collect()
        each = (resident() - before) / count
        nursery.cancel_scope.cancel()
    return started / count * 1e6, each


async def start_micros(count: int) -> float:
    """A supervised start that is waited for, one after the other."""
    async with open_supervisor() as supervisor:
        begin = time.perf_counter()
        for number in range(count):
            await supervisor.start(Child(f"n{number}", Counter))
        return (time.perf_counter() - begin) / count * 1e6


async def restart_micros(count: int) -> float:
    """From the question that crashes an actor to its next answer; the median."""
    async with open_supervisor([Child("counter", Counter)], max_restarts=count, within=3600) as supervisor:
        ref, times = supervisor.ref("counter"), []
        for _ in range(count):
            begin = time.perf_counter()
            try:
                await ref.ask("crash")
            except ActorCrashed:
                await ref.ask(0)
            times.append(time.perf_counter() - begin)
    return sorted(times)[count // 2] * 1e6


CROWDS = {"ours": crowd, "bare": bare_crowd}


def in_fresh_process(which: str, count: int) -> list[float]:
    """A crowd measured in a process of its own: memory that an earlier crowd gave back would flatter the next."""
    command = [sys.executable, __file__, "--crowd", which, str(count)]
    return [float(figure) for figure in subprocess.run(command, check=True, capture_output=True).stdout.split()]


async def measure(scale: int) -> list[Row]:
    actors = 1000 * scale
    bare_start, bare_bytes = in_fresh_process("bare", actors)
    start, each, stop = in_fresh_process("ours", actors)
    return [
        Row("mailbox put_nowait + drain", await best(lambda: mailbox_rate(100_000 * scale)),
            await best(lambda: nowait_rate(100_000 * scale)), "items/s"),
        Row("tell, handled (bare: async for)", await best(lambda: tell_rate(50_000 * scale)),
            await best(lambda: loop_rate(10_000 * scale)), "messages/s"),
        Row("ask, sequential (bare: two channels)", await best(lambda: ask_rate(3_000 * scale)),
            await best(lambda: round_trip_rate(3_000 * scale)), "round trips/s"),
        Row(f"start_soon of {actors:,} (bare: task + channel)", start, bare_start, "us each", False),
        Row("supervised start, awaited", await start_micros(100 * scale), None, "us each"),
        Row("memory of an idle actor (bare: the same)", each, bare_bytes, "bytes RSS", False),
        Row(f"ordered stop of {actors:,} idle actors", stop * 1000, None, "ms in all"),
        Row("crash to next answer, median", await restart_micros(50 * scale), None, "us"),
    ]  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description="What the kernel costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    parser.add_argument("--crowd", nargs=2, metavar=("WHICH", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.crowd:
        which, count = arguments.crowd
        print(*await CROWDS[which](int(count)))
        return
    rows = await measure(1 if arguments.quick else 10)
    print(f"{'':<44}{'agorio':>14}{'bare trio':>14}{'ratio':>9}")
    for row in rows:
        print(row.render())


if __name__ == "__main__":
    trio.run(main)
