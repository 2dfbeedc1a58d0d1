"""Some of the soak's agents: each on a websocket of its own, talking, being cut off, coming back. `soak.py` starts it.

A talk is a conversation with another agent, here or in another process: numbered texts, each sent when the one before
was accepted, the last one a question. Its hearer knows from the numbers alone what was lost, doubled or overtaken.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from array import array
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from soak_lines import Handler, answer_commands, raise_file_limit

from agorio import AgentClient, AgorioError, HubClient, LinkChange, LinkClosed, Passport, Session, WsLink, current_turn

TALK = 10
QUANTILES = 2_000
PATIENCE = 900.0
RST = (1).to_bytes(4, sys.byteorder) + bytes(4)  # struct linger: on, for 0 s


class CutLink(WsLink):
    """A link whose connection can be cut, as a broken network would: without a word."""

    stream: trio.SocketStream | None = None

    async def open_stream(self) -> trio.abc.Stream:
        """Connect, and remember the socket. If cancelled: not connected."""
        stream = await super().open_stream()
        assert isinstance(stream, trio.SocketStream)
        self.stream = stream
        return stream

    async def cut(self) -> None:
        """Reset the connection. If cancelled: it is reset all the same."""
        if self.stream is not None and self.stream.socket.fileno() != -1:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            await trio.aclose_forcefully(self.stream)


@attrs.define
class Books:
    """What the agents of this process have said and heard."""

    accepted: dict[str, int] = attrs.Factory(dict)
    """Texts that the hub has accepted, by session; numbered from 0."""
    heard: dict[str, int] = attrs.Factory(dict)
    """Texts handled, by session, in their order."""
    faults: list[str] = attrs.Factory(list)
    """What must not be."""
    redelivered: int = 0
    """Texts handled again, marked as redeliveries."""
    answers: int = 0
    """Questions that were answered."""
    lost: int = 0
    """Connections lost."""
    late: int = 0
    """Calls that were not answered in time, and were put again."""
    unclear: int = 0
    """Openings of which nobody can tell whether they were carried out, because the connection was lost meanwhile."""
    accept_times: array[float] = attrs.Factory(lambda: array("d"))
    """Seconds from a send to its acceptance."""
    handle_times: array[float] = attrs.Factory(lambda: array("d"))
    """Seconds from a send to its handling."""
    reconnect_times: array[float] = attrs.Factory(lambda: array("d"))
    """Seconds from the loss of a connection to the next one."""

    def hear(self, text: str) -> str:
        """A text has reached its hearer; the answer."""
        number, sent = text.split()
        turn = current_turn()
        assert turn is not None
        place, due = turn.envelope.session_id, self.heard.get(turn.envelope.session_id, 0)
        if int(number.rstrip("?")) > due:
            self.faults.append(f"{place}: {number} was handled where {due} was due")
        elif int(number.rstrip("?")) < due:
            self.redelivered += 1
            if turn.attempt == 1:
                self.faults.append(f"{place}: {number} was handled twice, and not marked")
        else:
            self.heard[place] = due + 1
            self.handle_times.append(time.monotonic() - float(sent))
        return "re" if number.endswith("?") else ""

    def answer(self) -> dict[str, Any]:
        """All of it, as JSON."""
        plain = attrs.asdict(self, filter=lambda field, _: not field.name.endswith("_times"))
        times = {name: quantiles(getattr(self, name)) for name in ("accept_times", "handle_times", "reconnect_times")}
        return {**plain, "sends": len(self.accept_times), **times}


def quantiles(times: array[float]) -> list[float]:
    """At most so many of them, evenly."""
    return [round(one, 6) for one in sorted(times)[:: 1 + len(times) // QUANTILES]]


@attrs.define(eq=False)
class Member:
    """One agent on one link."""

    name: str
    link: CutLink
    books: Books
    client: AgentClient | None = None
    lost_at: float | None = None

    async def ask(self, text: str) -> str:
        """Its turn. If cancelled: it is not over."""
        await trio.lowlevel.checkpoint()
        return "" if text == "re" else self.books.hear(text)

    def changed(self, change: LinkChange) -> None:
        """The link was lost, or is back."""
        if change.is_final:
            self.books.faults.append(f"{self.name} has lost its link for good: {change.reason}")
        elif not change.is_connected:
            self.books.lost, self.lost_at = self.books.lost + 1, time.monotonic()
        elif self.lost_at is not None:
            self.books.reconnect_times.append(time.monotonic() - self.lost_at)
            self.lost_at = None

    async def talk(self, other: str, goes_on: Callable[[], bool], pause: Callable[[], float]) -> None:
        """One conversation, from its opening to its end. If cancelled: it stays open."""
        assert self.client is not None
        try:
            session = await self.client.open(type="conversation", target=other)
        except LinkClosed:
            self.books.unclear += 1
            return
        except AgorioError as error:
            self.books.faults.append(f"{self.name} could not open a talk with {other}: {error}")
            return
        for number in range(TALK):
            is_last = number == TALK - 1 or not goes_on()
            begin = time.monotonic()
            text = f"{number}{'?' if is_last else ''} {begin:.6f}"
            if is_last:
                await self.ask_last(session, text)
            else:
                await session.send(text)
                self.books.accept_times.append(time.monotonic() - begin)
            self.books.accepted[session.session_id] = number + 1
            if is_last:
                break
            await trio.sleep(pause())
        await self.end(session)

    async def ask_last(self, session: Session, text: str) -> None:
        """The question at the end of a talk. If cancelled: it stays asked."""
        try:
            await session.ask(text, timeout=PATIENCE)
            self.books.answers += 1
        except TimeoutError:
            self.books.faults.append(f"{session.session_id}: no answer to {text} within {PATIENCE:g} s")

    async def end(self, session: Session) -> None:
        """Close a talk; a hub with more to do than it can is asked again. If cancelled: it may be open."""
        while True:
            try:
                await session.close()
                return
            except TimeoutError:
                self.books.late += 1

    async def tidy(self) -> None:
        """Close what was opened without this agent's being told. If cancelled: it stays open."""
        assert self.client is not None
        for one in await self.client.hub_client.list_sessions(agent_id=self.client.agent_id, state="open"):
            if one.creator_id == self.client.agent_id:
                await self.client.close_session(one.session_id, "nobody knows of it")


class Crowd:
    """The agents of this process."""

    def __init__(self, url: str, first: int, count: int, of: int, seed: int) -> None:
        self._numbers = range(first, first + count)
        self._of = of
        self._url = url
        self._rng = random.Random(seed * 1_000_003 + first)
        self._stack = AsyncExitStack()
        self._clients: list[HubClient] = []
        self._members: list[Member] = []
        self._books = Books()

    async def __aenter__(self) -> Crowd:
        """Nothing yet. If cancelled: the same."""
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        """Close every connection. If cancelled: they are cut."""
        await self._stack.aclose()

    async def connect(self) -> dict[str, Any]:
        """Connect and register everybody. If cancelled: some are connected."""
        begin = time.monotonic()
        self._members = [Member(f"agent-{n}", CutLink(self._url), self._books) for n in self._numbers]
        for member in self._members:
            hc = await self._stack.enter_async_context(
                HubClient(member.link, on_link=member.changed, request_timeout=PATIENCE)
            )
            member.client = await hc.register(member, Passport(member.name))
            self._clients.append(hc)
        return {"seconds": time.monotonic() - begin}

    async def talk(self, seconds: float, pause: float, cut: int, every: float) -> dict[str, Any]:
        """Have everybody talk for so long while links are cut. If cancelled: talks stay open."""
        self._books = books = Books()
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for member in self._members:
                member.books = books
                nursery.start_soon(self._talk, member, end, pause)
            if cut:
                nursery.start_soon(self._cut, cut, every, end)
        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(member.tidy)
        return {"seconds": seconds}

    async def _talk(self, member: Member, end: float, pause: float) -> None:
        rng = self._rng

        def left() -> float:
            return max(0.0, end - trio.current_time())

        await trio.sleep(rng.uniform(0, min(pause, left())))  # not all at once
        while trio.current_time() < end:
            other = f"agent-{rng.randrange(self._of)}"
            if other != member.name:
                await member.talk(other, lambda: left() > 0, lambda: min(rng.uniform(0.5, 1.5) * pause, left()))

    async def _cut(self, cut: int, every: float, end: float) -> None:
        while trio.current_time() + every < end:
            await trio.sleep(every)
            async with trio.open_nursery() as nursery:
                for member in self._rng.sample(self._members, cut):
                    nursery.start_soon(member.link.cut)

    async def books(self) -> dict[str, Any]:
        """What was said and heard since the last talk began. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return self._books.answer()

    async def leave(self) -> dict[str, Any]:
        """Unregister everybody and close every connection. If cancelled: some have left."""
        for client in self._clients:
            await client.shutdown()
        await self._stack.aclose()
        return {}


async def main(url: str, *numbers: int) -> None:
    raise_file_limit()
    async with Crowd(url, *numbers) as crowd:
        handlers: dict[str, Handler] = {
            "connect": crowd.connect,
            "talk": crowd.talk,
            "books": crowd.books,
            "leave": crowd.leave,
        }
        await answer_commands(handlers)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], *map(int, sys.argv[2:6]))
