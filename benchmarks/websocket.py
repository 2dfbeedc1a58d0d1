"""What crossing a websocket costs, beside a bare trio-websocket echo in the same run. `python benchmarks/websocket.py
[--quick]`.

Ours is a send that the hub has judged, logged and accepted; the echo is the same text sent back and nothing else. Both
run over sockets of 127.0.0.1 with both ends in one process, so both are charged for both ends. Pipelined means 64
senders
that each wait for their own answer: the echo has one message per text, we have as many per message as have gathered.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, open_websocket_url, serve_websocket

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from common import Row, show

from agorio import Hub, HubClient, Limits, MemoryKnowledgeStore, Passport, Session, WsLink, serve_ws

TEXT = "hello there"
SENDERS = 64
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
async def open_echo(size: int) -> AsyncIterator[Say]:
    """A bare echo for texts as long as our frames."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo_server, "127.0.0.1", 0, None)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}") as connection:
            echo = Echo(connection, size)
            nursery.start_soon(echo.listen)
            yield echo.say
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_session() -> AsyncIterator[Session]:
    """A conversation over a websocket; its recipient is offline, so that sends and nothing else are measured."""
    limits = Limits(messages_per_second=1e6, bytes_per_second=1e12)
    async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub, limits=limits) as server:
        url = f"ws://127.0.0.1:{server.port}"
        async with HubClient(WsLink(url)) as hc:
            sender = await hc.register(silent, Passport("sender"), attach_plugin=False)
            async with HubClient(WsLink(url)) as other:
                await other.register(silent, Passport("recipient"))
                session = await sender.open("conversation", "recipient")
            yield session


async def one_by_one(say: Say, count: int) -> float:
    """Microseconds of one round trip, the median."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await say()
        times.append(time.perf_counter() - begin)
    return sorted(times)[count // 2] * 1e6


async def all_at_once(say: Say, count: int) -> float:
    """Round trips per second of many senders at once."""

    async def many() -> None:
        for _ in range(count // SENDERS):
            await say()

    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(SENDERS):
            nursery.start_soon(many)
    return count / (time.perf_counter() - begin)


async def measure(scale: int) -> list[Row]:
    """The table; `scale` 10 is the whole of it. Measured in turns, so that a busy neighbour disturbs both alike."""
    alone: list[tuple[float, float]] = []
    piped: list[tuple[float, float, float]] = []
    async with open_session() as session, open_echo(450) as echo:

        async def send() -> None:
            await session.send(TEXT)

        await all_at_once(send, 64 * scale)
        for _ in range(5):
            alone.append((await one_by_one(send, 100 * scale), await one_by_one(echo, 100 * scale)))
            sequential = 1e6 / alone[-1][1]
            piped.append((await all_at_once(send, 640 * scale), sequential, await all_at_once(echo, 640 * scale)))
    ours, bare = min(pair[0] for pair in alone), min(pair[1] for pair in alone)
    rate = max(row[0] for row in piped)
    return [
        Row("an accepted send, median", ours, bare, "µs", False, "at least 0.50"),
        Row("pipelined sends, to the echo one by one", rate, max(row[1] for row in piped), "envelopes/s", aim="5"),
        Row("pipelined sends, to the pipelined echo", rate, max(row[2] for row in piped), "envelopes/s"),
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(description="What crossing a websocket costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    arguments = parser.parse_args()
    show("Over a websocket", await measure(1 if arguments.quick else 10), as_json=arguments.json)


if __name__ == "__main__":
    trio.run(main)
