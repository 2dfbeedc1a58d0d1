"""`check_link`: whether a transport keeps the promises that hub and client build on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import trio

from ..mailbox.envelope import Envelope
from ..mailbox.errors import LinkClosed, LinkError
from ..transports.frames import (
    AcceptFrame,
    ErrorFrame,
    Frame,
    HelloFrame,
    NotifyFrame,
    PingFrame,
    PongFrame,
    ReceiptFrame,
    SendFrame,
    WelcomeFrame,
)
from ..transports.link import Link, LinkClient, LinkEndpoint, LinkHost
from .promises import checking

MakeLink = Callable[[LinkHost], AbstractAsyncContextManager[Link]]
PATIENCE = 10.0
MANY = 500


class LinkProbe:
    """A hub of which a link sees only `accept_link`."""

    def __init__(self) -> None:
        self.endpoints: list[LinkEndpoint] = []

    def accept_link(self, endpoint: LinkEndpoint) -> None:
        """Take an endpoint."""
        self.endpoints.append(endpoint)


async def check_link(make: MakeLink) -> None:
    """Raise `AssertionError`, saying what is wrong, unless links of this kind are fit for a hub.

    `make(host)` is a block that yields a link to a host with `accept_link(endpoint)`. If cancelled: nothing is left.
    """
    for check in CHECKS:
        with checking(check, PATIENCE):
            host = LinkProbe()
            async with make(host) as link:
                await check(host, link)


def _require(kept: bool, problem: str) -> None:
    if not kept:
        raise AssertionError(problem)


async def _connect(host: LinkProbe, link: Link) -> tuple[LinkClient, LinkEndpoint]:
    """A greeted pair of ends: over some transports the hub hears of a client by its first frame."""
    client = link.client()
    await client.open()
    await client.send_frame(HelloFrame(client="check"))
    while not host.endpoints:
        await trio.sleep(0.01)
    return client, host.endpoints[-1]


@asynccontextmanager
async def _reading(end: LinkClient | LinkEndpoint) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames that arrive. An end may make them with an async generator, which wants to be closed."""
    frames = end.frames()
    try:
        yield frames
    finally:
        if isinstance(frames, AsyncGenerator):
            with trio.CancelScope(shield=True):
                await frames.aclose()


async def _take(end: LinkClient | LinkEndpoint, count: int) -> list[Frame]:
    found: list[Frame] = []
    async with _reading(end) as frames:
        while len(found) < count:
            try:
                found.append(await anext(frames))
            except StopAsyncIteration:
                raise AssertionError(f"the link ended after {len(found)} of {count} frames") from None
    return found


def _said(number: int) -> Envelope:
    return Envelope("session", "ann", None, event_data={"text": f"line {number} ü 🙂", "deep": {"a": [1, None, True]}})


async def _passes_to_the_hub(host: LinkProbe, link: Link) -> None:
    """Frames reach the hub unchanged and in order."""
    client, endpoint = await _connect(host, link)
    sent: list[Frame] = [HelloFrame(client="check")]
    for number in range(MANY):
        sent.append(SendFrame(number, _said(number)) if number % 2 else ReceiptFrame("bob", "session", number + 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_all, client, sent[1:])
        found = await _take(endpoint, len(sent))
    _require(found == sent, f"sent {_first_difference(sent, found)}")
    await client.close()


async def _send_all(client: LinkClient, frames: list[Frame]) -> None:
    for frame in frames:
        await client.send_frame(frame)


async def _passes_to_the_client(host: LinkProbe, link: Link) -> None:
    """Frames reach the client unchanged and in order."""
    client, endpoint = await _connect(host, link)
    sent: list[Frame] = [WelcomeFrame("check-1", "2026-01-01T00:00:00.000000Z")]
    sent += [NotifyFrame("bob", _said(number)) for number in range(MANY)]
    sent += [AcceptFrame(1, _said(1), True), ErrorFrame("not_found", "no", 2, {"session": "x"}), PingFrame(7)]
    for frame in sent:
        endpoint.send_nowait(frame)
    found = await _take(client, len(sent))
    found = [attrs.evolve(one, limits={}) if isinstance(one, WelcomeFrame) else one for one in found]
    _require(found == sent, f"sent {_first_difference(sent, found)}")  # a transport may tell its limits in the welcome
    await client.close()


def _first_difference(sent: list[Frame], found: list[Frame]) -> str:
    for before, after in zip(sent, found, strict=False):
        if before != after:
            return f"{before} and received {after}"
    return f"{len(sent)} frames and received {len(found)}"


async def _ends_for_the_hub(host: LinkProbe, link: Link) -> None:
    """When the client closes, the hub's end is over, and so is the client's own."""
    client, endpoint = await _connect(host, link)
    async with _reading(endpoint) as frames:
        _require(isinstance(await anext(frames), HelloFrame), "the greeting did not come first")
        await client.close()
        await client.close()
        left = [frame async for frame in frames]
    _require(not left, f"{left} came after the end")
    await _refused(client)
    _require(await _is_refused(endpoint), "the hub may still send")


async def _ends_for_the_client(host: LinkProbe, link: Link) -> None:
    """When the hub closes, the client reads what was sent before, then the end, and may send no more."""
    client, endpoint = await _connect(host, link)
    endpoint.send_nowait(PongFrame(1))
    endpoint.close_nowait("enough")
    endpoint.close_nowait("again")
    async with _reading(client) as frames:
        found = [frame async for frame in frames if not _is_last_word(frame)]
    _require(found == [PongFrame(1)], f"the client read {found}")
    await _refused(client)
    await client.close()


def _is_last_word(frame: Frame) -> bool:
    """An error without a question: a transport may say with it why the link ends."""
    return isinstance(frame, ErrorFrame) and frame.request_id is None


async def _refused(client: LinkClient) -> None:
    for _ in range(100):  # a transport may notice late, but not never
        try:
            await client.send_frame(PingFrame())
        except LinkClosed:
            return
        await trio.sleep(0.01)
    raise AssertionError("the client may still send over a closed link")


async def _is_refused(endpoint: LinkEndpoint) -> bool:
    try:
        endpoint.send_nowait(PingFrame())
    except LinkClosed:
        return True
    return False


async def _must_be_opened(host: LinkProbe, link: Link) -> None:
    """A link that is not open says so, and one that was closed does not open again."""
    client = link.client()
    await _refuses(client, "sends before it is open")
    await client.close()
    try:
        await client.open()
    except LinkError:
        return
    raise AssertionError("a closed client opens again")


async def _refuses(client: LinkClient, problem: str) -> None:
    try:
        await client.send_frame(PingFrame())
    except LinkError:
        return
    raise AssertionError(problem)


async def _stands_apart(host: LinkProbe, link: Link) -> None:
    """Two clients of one link are two connections: closing one leaves the other alone."""
    one, first = await _connect(host, link)
    other = link.client()
    await other.open()
    await other.send_frame(HelloFrame(client="other"))
    while len(host.endpoints) < 2:
        await trio.sleep(0.01)
    await one.close()
    second = host.endpoints[1]
    _require(second is not first, "both clients share one endpoint")
    second.send_nowait(PongFrame(2))
    _require(await _take(other, 1) == [PongFrame(2)], "the other client hears nothing any more")
    await other.close()


async def _survives_cancelling(host: LinkProbe, link: Link) -> None:
    """Cancelling whoever reads loses no connection."""
    client, endpoint = await _connect(host, link)
    async with _reading(client) as frames:
        with trio.move_on_after(0.05):
            await anext(frames)
        endpoint.send_nowait(PongFrame(3))
        try:
            _require(await anext(frames) == PongFrame(3), "a frame was lost")
        except StopAsyncIteration:
            raise AssertionError("the frames have ended with the cancelled read") from None
    await client.close()


CHECKS = (
    _passes_to_the_hub,
    _passes_to_the_client,
    _ends_for_the_hub,
    _ends_for_the_client,
    _must_be_opened,
    _stands_apart,
    _survives_cancelling,
)
