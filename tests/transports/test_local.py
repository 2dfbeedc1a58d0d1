"""The link within one process: frames by reference, in order, bounded, and an end that both sides see."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from agorio.mailbox.errors import HubClosedError, LinkClosed
from agorio.transports.frames import Frame, PingFrame, PongFrame
from agorio.transports.link import Link, LinkClient, LinkEndpoint
from agorio.transports.local import TO_CLIENT, TO_HUB, LocalLink, LocalLinkClient, LocalLinkEndpoint


class Host:
    """Takes links and leaves them to the test."""

    def __init__(self) -> None:
        self.endpoints: list[LinkEndpoint] = []
        self.is_closed = False

    def accept_link(self, endpoint: LinkEndpoint) -> None:
        if self.is_closed:
            raise HubClosedError("closed")
        self.endpoints.append(endpoint)


async def connected() -> tuple[LocalLinkClient, LinkEndpoint]:
    host = Host()
    client = LocalLink(host).client()
    await client.open()
    return client, host.endpoints[0]


async def collect(frames: object, into: list[Frame]) -> None:
    async for frame in frames:  # type: ignore[attr-defined]
        into.append(frame)


async def test_it_is_a_link() -> None:
    client, endpoint = await connected()
    assert isinstance(LocalLink(Host()), Link)
    assert isinstance(client, LinkClient)
    assert isinstance(endpoint, LinkEndpoint)
    assert endpoint.kind == "local"


async def test_frames_pass_by_reference_in_order_both_ways() -> None:
    client, endpoint = await connected()
    sent: list[Frame] = [PingFrame(number) for number in range(1000)]
    got: list[Frame] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, endpoint.frames(), got)
        for frame in sent:
            await client.send_frame(frame)
        await client.close()
    assert all(one is other for one, other in zip(sent, got, strict=True))
    client, endpoint = await connected()
    answers: list[Frame] = []
    for frame in sent:
        endpoint.send_nowait(frame)
    endpoint.close_nowait("done")
    await collect(client.frames(), answers)
    assert answers == sent, "what was queued before the end can still be read"


async def test_a_client_waits_for_a_busy_hub() -> None:
    client, endpoint = await connected()
    for number in range(TO_HUB):
        await client.send_frame(PingFrame(number))
    with trio.move_on_after(0) as scope:
        await client.send_frame(PingFrame(-1))
    assert scope.cancelled_caught
    got: list[Frame] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_frame, PingFrame(-2))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(collect, endpoint.frames(), got)
        await trio.testing.wait_all_tasks_blocked()
        await client.close()
    assert got == [*(PingFrame(number) for number in range(TO_HUB)), PingFrame(-2)], "a cancelled frame was not sent"


async def test_a_cancelled_sender_has_sent_nothing() -> None:
    client, endpoint = await connected()
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.send_frame(PingFrame(1))
    await client.close()
    got: list[Frame] = []
    await collect(endpoint.frames(), got)
    assert got == []


async def test_a_hub_cuts_off_a_client_that_does_not_read() -> None:
    client, endpoint = await connected()
    for number in range(TO_CLIENT):
        endpoint.send_nowait(PongFrame(number))
    with pytest.raises(LinkClosed, match="unread"):
        endpoint.send_nowait(PongFrame(-1))
    with pytest.raises(LinkClosed):
        endpoint.send_nowait(PongFrame(-2))
    with pytest.raises(LinkClosed):
        await client.send_frame(PingFrame())


@pytest.mark.parametrize("who", ["client", "hub"])
async def test_both_sides_see_the_end(who: str) -> None:
    client, endpoint = await connected()
    got: list[Frame] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, endpoint.frames(), got)
        nursery.start_soon(collect, client.frames(), got)
        await trio.testing.wait_all_tasks_blocked()
        if who == "client":
            await client.close()
            await client.close()
        else:
            endpoint.close_nowait("enough")
            endpoint.close_nowait("again")
    with pytest.raises(LinkClosed):
        endpoint.send_nowait(PongFrame())
    with pytest.raises(LinkClosed):
        await client.send_frame(PingFrame())


async def test_a_link_is_opened_once_and_not_after_its_end() -> None:
    host = Host()
    client = LocalLink(host).client()
    with pytest.raises(LinkClosed, match="open"):
        await client.send_frame(PingFrame())
    with pytest.raises(LinkClosed, match="open"):
        client.frames()
    await client.open()
    await client.open()
    assert len(host.endpoints) == 1
    await client.close()
    with pytest.raises(LinkClosed, match="make another"):
        await client.open()


async def test_a_closed_hub_takes_no_links() -> None:
    host = Host()
    host.is_closed = True
    client = LocalLink(host).client()
    with pytest.raises(HubClosedError):
        await client.open()
    await client.close()


async def test_a_reader_lets_others_run() -> None:
    """A flood of frames does not starve the loop: the reader waits at least once per batch."""
    client, endpoint = await connected()
    for number in range(200):
        endpoint.send_nowait(PongFrame(number))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        got: list[Frame] = []
        async for frame in client.frames():
            got.append(frame)
            if len(got) == 200:
                break
        nursery.cancel_scope.cancel()
    assert turns >= 2


async def attended(said: list[int]) -> tuple[LocalLinkClient, LocalLinkEndpoint, list[int]]:
    """Both ends with readers that sleep, and what each has been given at once."""
    client, endpoint = await connected()
    heard: list[int] = []
    assert isinstance(endpoint, LocalLinkEndpoint)

    def hub_acts(frame: Frame) -> None:
        assert isinstance(frame, PingFrame)
        said.append(frame.nonce)
        endpoint.send_nowait(PongFrame(frame.nonce))
        endpoint.send_nowait(PongFrame(-frame.nonce))

    endpoint.attend(hub_acts)
    client.attend(lambda frame: heard.append(frame.nonce))  # type: ignore[union-attr]
    return client, endpoint, heard


async def test_an_idle_hub_acts_before_the_send_returns(nursery: trio.Nursery) -> None:
    said: list[int] = []
    client, endpoint, heard = await attended(said)
    queued: list[Frame] = []
    nursery.start_soon(collect, endpoint.frames(), queued)
    nursery.start_soon(collect, client.frames(), queued)
    await trio.testing.wait_all_tasks_blocked()
    await client.send_frame(PingFrame(1))
    await client.send_frame(PingFrame(2))
    assert said == [1, 2]
    assert heard == [1, -1, 2, -2]
    await trio.testing.wait_all_tasks_blocked()
    assert queued == []
    await client.close()


async def test_nothing_overtakes_what_is_queued(nursery: trio.Nursery) -> None:
    said: list[int] = []
    client, endpoint, heard = await attended(said)
    await client.send_frame(PingFrame(1))  # nobody reads yet
    await client.send_frame(PingFrame(2))
    assert said == []
    queued: list[Frame] = []
    nursery.start_soon(collect, endpoint.frames(), queued)
    await trio.testing.wait_all_tasks_blocked()
    await client.send_frame(PingFrame(3))
    assert queued == [PingFrame(1), PingFrame(2)]
    assert said == [3]
    assert heard == []  # the client does not read: what is for it waits
    nursery.start_soon(collect, client.frames(), queued)
    await trio.testing.wait_all_tasks_blocked()
    assert queued[2:] == [PongFrame(3), PongFrame(-3)]
    await client.close()


async def test_the_last_words_of_a_hub_that_closes_are_read(nursery: trio.Nursery) -> None:
    client, endpoint = await connected()
    assert isinstance(endpoint, LocalLinkEndpoint)

    def say_goodbye(frame: Frame) -> None:
        endpoint.send_nowait(PongFrame(99))
        endpoint.close_nowait("enough")

    endpoint.attend(say_goodbye)
    queued: list[Frame] = []
    nursery.start_soon(collect, endpoint.frames(), queued)
    nursery.start_soon(collect, client.frames(), queued)
    await trio.testing.wait_all_tasks_blocked()
    await client.send_frame(PingFrame(1))
    await trio.testing.wait_all_tasks_blocked()
    assert queued == [PongFrame(99)]
    with pytest.raises(LinkClosed):
        await client.send_frame(PingFrame(2))


async def test_a_client_that_fails_fails_in_its_reader_and_not_in_the_sender(nursery: trio.Nursery) -> None:
    client, endpoint = await connected()
    assert isinstance(endpoint, LocalLinkEndpoint)
    endpoint.attend(lambda frame: endpoint.send_nowait(PongFrame(13)))

    def fail(frame: Frame) -> None:
        raise ZeroDivisionError

    client.attend(fail)
    failures: list[BaseException] = []

    async def read() -> None:
        try:
            await collect(client.frames(), [])
        except ZeroDivisionError as exc:
            failures.append(exc)

    nursery.start_soon(collect, endpoint.frames(), [])
    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    await client.send_frame(PingFrame(1))
    await trio.testing.wait_all_tasks_blocked()
    assert len(failures) == 1
    await client.close()


async def test_who_only_sends_lets_others_run(nursery: trio.Nursery) -> None:
    said: list[int] = []
    client, endpoint, _ = await attended(said)
    nursery.start_soon(collect, endpoint.frames(), [])
    nursery.start_soon(collect, client.frames(), [])
    await trio.testing.wait_all_tasks_blocked()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not endpoint.close_reason:
            turns += 1
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    for number in range(1_000):
        await client.send_frame(PingFrame(number))
    assert len(said) == 1_000
    assert turns > 10
    endpoint.close_nowait("over")
