"""The conformance checks: our own pass, and each promise that is broken is named.

`check_adapter` is tested beside the session types, in `tests/sessions/test_check_adapter.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from agorio import Document, KnowledgeStore, LocalLink, Mailbox, MemoryKnowledgeStore, Record
from agorio.hub.stores.protocol import Change, Put
from agorio.mailbox.errors import ActorStopped, LinkClosed
from agorio.testing import check_adapter, check_link, check_mailbox, check_store
from agorio.transports.frames import Frame, NotifyFrame, ReceiptFrame
from agorio.transports.local import LocalLinkClient

# Links.


class Leaky(LocalLinkClient):
    async def send_frame(self, frame: Frame) -> None:
        if not isinstance(frame, ReceiptFrame):
            await super().send_frame(frame)
        await trio.lowlevel.checkpoint()


class Doubling(LocalLinkClient):
    async def _twice(self) -> AsyncIterator[Frame]:
        async for frame in super().frames():
            yield frame
            if isinstance(frame, NotifyFrame):
                yield frame

    def frames(self) -> Any:
        return self._twice()


class NeverClosing(LocalLinkClient):
    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


class Deaf(LocalLinkClient):
    async def send_frame(self, frame: Frame) -> None:
        try:
            await super().send_frame(frame)
        except LinkClosed:
            await trio.lowlevel.checkpoint()


class AlwaysOpen(LocalLinkClient):
    async def send_frame(self, frame: Frame) -> None:
        if self.endpoint is None:
            await self.open()
        await super().send_frame(frame)


class OpensAgain(LocalLinkClient):
    async def open(self) -> None:
        self._closed = False
        await super().open()


class Impatient(LocalLinkClient):
    async def _until_cancelled(self) -> AsyncIterator[Frame]:
        async for frame in super().frames():
            yield frame

    def frames(self) -> Any:
        return self._until_cancelled()


class Broken(LocalLinkClient):
    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionError("no route")


class Sluggish(LocalLinkClient):
    async def send_frame(self, frame: Frame) -> None:
        await super().send_frame(frame)
        await trio.sleep_forever()


class Shared(LocalLink):
    """All of its clients are one."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self._only = LocalLinkClient(host)

    def client(self) -> LocalLinkClient:
        return self._only


def link_of(kind: type[LocalLinkClient] | type[LocalLink]) -> Any:
    @asynccontextmanager
    async def make(host: Any) -> AsyncIterator[Any]:
        if issubclass(kind, LocalLink):
            yield kind(host)
        else:
            link = LocalLink(host)
            link.client = lambda: kind(host)  # type: ignore[method-assign]
            yield link

    return make


async def test_the_local_link_keeps_its_promises() -> None:
    await check_link(link_of(LocalLink))


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Leaky, r"Frames reach the hub unchanged and in order: nothing happens within 10 s"),
        (Doubling, r"Frames reach the client unchanged and in order: sent NotifyFrame.* and received NotifyFrame"),
        (NeverClosing, r"When the client closes, the hub's end is over.*: nothing happens within 10 s"),
        (Deaf, r"When the client closes, .*: the client may still send over a closed link"),
        (AlwaysOpen, r"A link that is not open says so.*: sends before it is open"),
        (OpensAgain, r"A link that is not open says so.*: a closed client opens again"),
        (Shared, r"Two clients of one link are two connections.*: nothing happens within 10 s"),
        (Impatient, r"Cancelling whoever reads loses no connection: the frames have ended"),
        (Broken, r"Frames reach the hub unchanged and in order: it raised ConnectionError\('no route'\)"),
        (Sluggish, r"Frames reach the hub unchanged and in order: nothing happens within 10 s"),
    ],
)
async def test_a_link_that_breaks_a_promise(kind: Any, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        await check_link(link_of(kind))


# Mailboxes.


class LastFirst(Mailbox[Any]):
    def drain_nowait(self, max_items: int = 64, *, lease: bool = False) -> list[Any]:
        return super().drain_nowait(max_items, lease=lease)[::-1]


class Swallowing(Mailbox[Any]):
    def put_nowait(self, item: Any, **options: Any) -> None:
        if self.free or options.get("force") or self._overflow not in ("reject", "block"):
            super().put_nowait(item, **options)


class Silent(Mailbox[Any]):
    def __init__(self, *args: Any, on_dead_letter: Any = None, **options: Any) -> None:
        super().__init__(*args, **options)


class Forgetting(Mailbox[Any]):
    def put_back(self, item: Any, *, leased: bool = False) -> None:
        super().release()
        super().put_nowait(item)


class Unhurried(Mailbox[Any]):
    def put_control(self, item: Any) -> None:
        super().put_nowait(item, force=True)


class Endless(Mailbox[Any]):
    async def get(self) -> Any:
        try:
            return await super().get()
        except ActorStopped:
            return None


class Sleepy(Mailbox[Any]):
    def _admit(self, count: int) -> None:
        """Nobody who waits for a slot is let in."""


class Unfair(Mailbox[Any]):
    def _next_putter(self, *, accepted: bool) -> Any:
        assert self._putters is not None
        self._putters.move_to_end(next(reversed(self._putters)), last=False)
        return super()._next_putter(accepted=accepted)


class Stubborn(Mailbox[Any]):
    async def put(self, item: Any, **options: Any) -> None:
        try:
            await super().put(item, **options)
        except trio.Cancelled:
            super().put_nowait(item, force=True)
            raise


async def test_our_mailbox_keeps_its_promises() -> None:
    await check_mailbox(Mailbox)


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (LastFirst, r"A full mailbox refuses and changes nothing.*: found \[4, 2, 1\] where \[1, 2, 4\] was expected"),
        (Swallowing, r"A full mailbox refuses and changes nothing.*does not raise InboxFull"),
        (Silent, r"The dropping policies drop what they say, and report each loss once: "),
        (Forgetting, r"A leased item holds its slot.*: found 2 where 1"),
        (Unhurried, r"Control goes ahead of everything.*: found 1 where 'stop'"),
        (Endless, r"After closing nothing comes in.*: get\(\) of a closed, empty mailbox does not raise ActorStopped"),
        (Sleepy, r"Whoever waits for an item or for a slot goes on.*: nothing happens within 10 s"),
        (Unfair, r"Whoever waits for an item or for a slot goes on.*: found \[1, 3, 2\] where \[1, 2, 3\]"),
        (Stubborn, r"Cancelling who waits loses neither an item nor a slot: "),
        (lambda *args, **options: object(), r"What was put first is taken first.*: it raised AttributeError"),
    ],
)
async def test_a_mailbox_that_breaks_a_promise(kind: Any, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        await check_mailbox(kind)


# Stores. More of them are in tests/store/test_check.py.


class Crowded(MemoryKnowledgeStore):
    async def last(self, stream: str) -> int:
        return max(1, await super().last(stream))


class Ageless(MemoryKnowledgeStore):
    async def get(self, key: str) -> Document | None:
        found = await super().get(key)
        return None if found is None else Document(found.key, 1, found.body)


class Torn(MemoryKnowledgeStore):
    async def commit(self, changes: Sequence[Change]) -> None:
        if len(changes) == 2 and isinstance(changes[1], Put) and changes[1].key.startswith("key/"):
            self.commit_nowait(changes[:1])
            await trio.sleep(0.001)
            self.commit_nowait(changes[1:])
        else:
            await super().commit(changes)


class Racing(MemoryKnowledgeStore):
    async def commit(self, changes: Sequence[Change]) -> None:
        if any(getattr(change, "stream", "") == "race" for change in changes):
            changes = [change for change in changes if not hasattr(change, "stream")]
        await super().commit(changes)


class Behind(MemoryKnowledgeStore):
    def read_nowait(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        return super().read_nowait(stream, after + 1, limit)

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        await trio.lowlevel.checkpoint()
        return super().read_nowait(stream, after, limit)


class Fresh(MemoryKnowledgeStore):
    async def open(self) -> None:
        if self._users:
            self._streams.clear()
        await super().open()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Crowded, r"last\(\) of an unknown stream is 1, it should be 0"),
        (Ageless, r"a document put four times is Document\(key='a', version=1"),
        (Torn, r"whether a cancelled commit's append happened"),
        (Racing, r"the number of writers that appended the first record is 20, it should be 1"),
        (Behind, r"read_nowait\(\) is \[\]"),
        (Fresh, r"last\(\) after the store was opened twice is 0"),
    ],
)
async def test_a_store_that_breaks_a_promise(kind: type[MemoryKnowledgeStore], problem: str) -> None:
    async def make() -> KnowledgeStore:
        return kind()

    with pytest.raises(AssertionError, match=problem):
        await check_store(make)


def test_the_check_of_session_types_is_in_the_kit() -> None:
    import agorio

    assert check_adapter is agorio.check_adapter
