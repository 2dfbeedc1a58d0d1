"""What an envelope costs through the hub, beside a bare round trip in the same run. `python benchmarks/hub.py
[--quick]`.

An envelope counts when its sender has the hub's acceptance in hand and its recipient's handler has run on it: it was
judged, logged, delivered into the recipient's bounded inbox, handled in a turn and receipted. The bare round trip
beside it is one item over one memory channel and one back over another.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from common import Row, bare_round_trips, best_of_both, show

from agorio import EV_TEXT, Envelope, Hub, HubClient, LocalLink, MemoryKnowledgeStore, Passport, Session

TEXT = "hello there"


async def silent(text: str) -> str:
    """An agent that has nothing to say."""
    return ""


@attrs.define
class Network:
    """Open conversations, and a count of what their recipients have handled."""

    sessions: list[Session] = attrs.field(factory=list)
    """The senders' handles."""
    handled: int = 0
    """Texts that a handler has run on."""
    expected: int = 0
    """How many `all_handled` waits for."""
    all_handled: trio.Event = attrs.field(factory=trio.Event)
    """Set when they have arrived."""

    async def count(self, envelope: Envelope) -> None:
        """The recipients' handler."""
        if envelope.event_type == EV_TEXT:
            self.handled += 1
            if self.handled == self.expected:
                self.all_handled.set()

    async def wait_handled(self, total: int) -> None:
        """Wait until so many texts were handled since the beginning."""
        if self.handled < total:
            self.expected, self.all_handled = total, trio.Event()
            await self.all_handled.wait()


@asynccontextmanager
async def open_network(pairs: int) -> AsyncIterator[Network]:
    """A hub on the memory store with so many conversations of two agents, all on one client."""
    network = Network()
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        client = HubClient(LocalLink(hub), hub=hub)
        for number in range(pairs):
            sender = await client.register(silent, Passport(f"sender-{number}"), attach_plugin=False)
            await client.register(silent, Passport(f"recipient-{number}"), handler=network.count)
            network.sessions.append(await sender.open("conversation", f"recipient-{number}"))
        yield network


async def send_many(session: Session, count: int) -> None:
    for _ in range(count):
        await session.send(TEXT)


async def rate(pairs: int, each: int) -> float:
    """Envelopes per second, accepted and handled."""
    async with open_network(pairs) as network:
        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for session in network.sessions:
                nursery.start_soon(send_many, session, each)
        await network.wait_handled(pairs * each)
        return pairs * each / (time.perf_counter() - begin)


async def latencies(count: int) -> tuple[float, float]:
    """Microseconds from `send` to the acceptance in hand: the median and the 99th percentile."""
    times = []
    async with open_network(1) as network:
        session = network.sessions[0]
        for _ in range(count):
            begin = time.perf_counter()
            await session.send(TEXT)
            times.append(time.perf_counter() - begin)
        await network.wait_handled(count)
    times.sort()
    return times[count // 2] * 1e6, times[count * 99 // 100] * 1e6


async def growth(length: int, window: int, stations: int = 4) -> list[tuple[int, float]]:
    """Microseconds per envelope, accepted and handled, in windows of one long session, by the window's last envelope.

    The first hundred warm up; the other windows lie evenly over the session, its end among them.
    """
    costs = []
    starts = [100, *(length * number // stations - window for number in range(1, stations + 1))]
    async with open_network(1) as network:
        session, sent = network.sessions[0], 0
        for start in starts:
            await send_many(session, start - sent)
            await network.wait_handled(start)
            begin = time.perf_counter()
            await send_many(session, window)
            await network.wait_handled(start + window)
            costs.append((start + window, (time.perf_counter() - begin) / window * 1e6))
            sent = start + window
    return costs


async def measure(scale: int) -> list[Row]:
    """The table; `scale` 10 is the whole of it."""

    def many(pairs: int, each: int) -> Callable[[], Awaitable[float]]:
        return lambda: rate(pairs, each)

    def bare() -> Awaitable[float]:
        return bare_round_trips(2_000 * scale)

    one, one_bare = await best_of_both(many(1, 1_000 * scale), bare)
    crowd, crowd_bare = await best_of_both(many(32, 32 * scale), bare)
    median, late = await latencies(1_000 * scale)
    costs = await growth(10_000 * scale, 100 * scale)
    first = costs[0][1]
    return [
        Row("hub, one sender", one, one_bare, "envelopes/s", aim="0.25 of bare"),
        Row("hub, 32 sessions at once", crowd, crowd_bare, "envelopes/s", aim="0.25 of bare"),
        Row("accepted send, median", median, None, "us"),
        Row("accepted send, 99th percentile", late, None, "us"),
        *(
            Row(f"one session, up to envelope {at:,}", cost, first, "us (bare: start)", False, "flat")
            for at, cost in costs
        ),
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(description="What an envelope costs through the hub.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    arguments = parser.parse_args()
    show("The hub", await measure(1 if arguments.quick else 10), as_json=arguments.json)


if __name__ == "__main__":
    trio.run(main)
