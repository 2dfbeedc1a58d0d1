"""What crossing a websocket costs, beside a bare trio-websocket echo in the same run. `python benchmarks/websocket.py
[--quick]`.

Ours is a send that the hub has judged, logged and accepted; the echo is the same text sent back and nothing else. Both
run over sockets of 127.0.0.1, once with both ends in one process, which is charged for both, and once with the far ends
in a process of their own, as they are deployed. Pipelined means 256 senders that each wait for their own answer: the
echo has one message per text, we have as many per message as have gathered. The hub without any link is measured along:
no link can be faster than what it carries.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, open_websocket_url, serve_websocket

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from common import Row, show

from agorio import Hub, HubClient, Limits, LocalLink, MemoryKnowledgeStore, Passport, WsLink, serve_ws

TEXT = "hello there"
SENDERS = 256
Say = Callable[[], Awaitable[object]]


async def silent(text: str) -> str:
    """An agent that has nothing to say."""
    return ""


async def echo_server(request: WebSocketRequest) -> None:
    connection = await request.accept()
    try:
        while True:
            await connection.send_message(await connection.get_message())
    except ConnectionClosed:
        return


class Echo:
    """A bare echo's client, which may have several texts under way."""

    def __init__(self, connection: object, size: int) -> None:
        self._connection = connection
        self._text = "x" * size
        self._waiting: list[trio.Event] = []

    async def say(self) -> None:
        """One text there and back."""
        answered = trio.Event()
        self._waiting.append(answered)
        await self._connection.send_message(self._text)  # type: ignore[attr-defined]
        await answered.wait()

    async def listen(self) -> None:
        """Answers come in order."""
        while True:
            await self._connection.get_message()  # type: ignore[attr-defined]
            self._waiting.pop(0).set()


@asynccontextmanager
async def open_far_ends() -> AsyncIterator[tuple[int, int]]:
    """The ports of an echo and of a hub."""
    limits = Limits(messages_per_second=1e6, bytes_per_second=1e12)
    async with trio.open_nursery() as nursery:
        echo = await nursery.start(serve_websocket, echo_server, "127.0.0.1", 0, None)
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub, limits=limits) as server:
            yield echo.port, server.port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_far_ends_apart() -> AsyncIterator[tuple[int, int]]:
    """The same, in a process of their own."""
    command = [sys.executable, __file__, "--far"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        ports = b""
        while not ports.endswith(b"\n"):
            ports += await process.stdout.receive_some()
        echo, hub = map(int, ports.split())
        yield echo, hub
        await process.stdin.aclose()


async def be_far_end() -> None:
    """The process of the far ends, until the near one hangs up."""
    async with open_far_ends() as (echo, hub):
        print(echo, hub, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


@asynccontextmanager
async def open_echo(port: int, size: int) -> AsyncIterator[Say]:
    """A bare echo for texts as long as our frames."""
    async with open_websocket_url(f"ws://127.0.0.1:{port}") as connection, trio.open_nursery() as nursery:
        echo = Echo(connection, size)
        nursery.start_soon(echo.listen)
        yield echo.say
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_session(make: Callable[[], HubClient]) -> AsyncIterator[Say]:
    """A conversation whose recipient is offline, so that sends and nothing else are measured."""
    async with make() as hc:
        sender = await hc.register(silent, Passport("sender"), attach_plugin=False)
        async with make() as other:
            await other.register(silent, Passport("recipient"))
            session = await sender.open("conversation", "recipient")
        yield lambda: session.send(TEXT)


async def one_by_one(say: Say, count: int) -> float:
    """Microseconds of one round trip, the median."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await say()
        times.append(time.perf_counter() - begin)
    return sorted(times)[count // 2] * 1e6


async def all_at_once(say: Say, count: int, clock: Callable[[], float] = time.process_time) -> float:
    """Round trips per second of many senders at once.

    One process that never waits is measured by its processor time, which is the same on an idle machine and leaves out
    what a busy one does besides.
    """

    async def many() -> None:
        for _ in range(count // SENDERS):
            await say()

    begin = clock()
    async with trio.open_nursery() as nursery:
        for _ in range(SENDERS):
            nursery.start_soon(many)
    return count / (clock() - begin)


async def compare(where: str, echo_port: int, hub_port: int, scale: int, clock: Callable[[], float]) -> list[Row]:
    """Measured in turns, so that a busy neighbour disturbs both alike; the best round counts."""
    alone: list[tuple[float, float]] = []
    piped: list[tuple[float, float]] = []
    url = f"ws://127.0.0.1:{hub_port}"
    async with open_session(lambda: HubClient(WsLink(url))) as send, open_echo(echo_port, 450) as echo:
        await all_at_once(send, 256 * scale)
        for _ in range(5):
            alone.append((await one_by_one(send, 100 * scale), await one_by_one(echo, 100 * scale)))
            piped.append((await all_at_once(send, 1280 * scale, clock), await all_at_once(echo, 1280 * scale, clock)))
    ours, bare = min(pair[0] for pair in alone), min(pair[1] for pair in alone)
    rate = max(pair[0] for pair in piped)
    return [
        Row(f"{where}: an accepted send, median", ours, bare, "µs", False, "at least 0.50"),
        Row(f"{where}: pipelined, to the echo one by one", rate, 1e6 / bare, "envelopes/s", aim="5"),
        Row(f"{where}: pipelined, to the pipelined echo", rate, max(pair[1] for pair in piped), "envelopes/s"),
    ]


async def ceiling(scale: int) -> Row:
    """The same sends without any link between."""
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_session(lambda: HubClient(LocalLink(hub), hub)) as send:
        await all_at_once(send, 256 * scale)
        rates = [await all_at_once(send, 1280 * scale) for _ in range(5)]
    return Row("no link: pipelined, what hub and client can do", max(rates), None, "envelopes/s")


async def measure(scale: int) -> list[Row]:
    """The table; `scale` 10 is the whole of it."""
    rows = [await ceiling(scale)]
    async with open_far_ends() as (echo, hub):
        rows += await compare("one process", echo, hub, scale, time.process_time)
    async with open_far_ends_apart() as (echo, hub):
        rows += await compare("two processes", echo, hub, scale, time.perf_counter)
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser(description="What crossing a websocket costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--far", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.far:
        await be_far_end()
        return
    show("Over a websocket", await measure(1 if arguments.quick else 10), as_json=arguments.json)


if __name__ == "__main__":
    trio.run(main)
