"""`check_store`: whether a store keeps the promises that the hub builds on. It needs no test library.

Give it an async function that returns a new, empty, unopened store; it opens and closes them. Every store must bring
everything back after `close` and `open`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence

import trio

from ...mailbox.errors import ConflictError, StoreError
from .protocol import Append, Change, Document, KnowledgeStore, NowaitStore, Put, Record, Trim

MakeStore = Callable[[], Awaitable[KnowledgeStore]]
_BODIES = (b"", b"\x00\xff", b"x" * 5000, "ä€😀".encode(), b'{"a":1}')


async def check_store(make: MakeStore) -> None:
    """Raise `AssertionError`, saying what is wrong, unless stores from `make` are fit for a hub.

    If cancelled: the store being checked is closed.
    """
    for check in _CHECKS:
        store = await make()
        _expect(isinstance(store, KnowledgeStore), f"{type(store).__name__} lacks methods of KnowledgeStore")
        await store.open()
        try:
            await check(store)
        finally:
            with trio.CancelScope(shield=True):
                await store.close()


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _same(found: object, wanted: object, what: str) -> None:
    _expect(found == wanted, f"{what} is {found!r}, it should be {wanted!r}")


async def _refused(store: KnowledgeStore, changes: Sequence[Change], why: str) -> None:
    before = await _picture(store)
    try:
        await store.commit(changes)
    except ConflictError:
        _same(await _picture(store), before, f"the store after a refused commit ({why})")
        return
    raise AssertionError(f"a commit was accepted although {why}")


async def _picture(store: KnowledgeStore) -> tuple[list[Record], list[Record], list[Document]]:
    return await store.read("one"), await store.read("two"), await store.scan("")


async def _check_empty(store: KnowledgeStore) -> None:
    _same(await store.read("one"), [], "read() of an unknown stream")
    _same(await store.last("one"), 0, "last() of an unknown stream")
    _same(await store.get("one"), None, "get() of an unknown document")
    _same(await store.scan(""), [], "scan() of an empty store")
    await store.commit([])
    await store.commit([Append("one", ())])
    _same(await store.last("one"), 0, "last() after an append of nothing")


async def _check_logs(store: KnowledgeStore) -> None:
    await store.commit([Append("one", _BODIES[:2], 0), Append("two", (b"other",))])
    await store.commit([Append("one", _BODIES[2:], 2)])
    wanted = [Record(number, body) for number, body in enumerate(_BODIES, 1)]
    _same(await store.read("one"), wanted, "read()")
    _same(await store.last("one"), len(_BODIES), "last()")
    for after in (0, 1, 3, len(_BODIES), 99):
        for limit in (None, 0, 1, 2, 99):
            end = None if limit is None else after + limit
            found = await store.read("one", after, limit)
            _same(found, wanted[after:end], f"read(after={after}, limit={limit})")
    _same(await store.read("two"), [Record(1, b"other")], "read() of another stream")


async def _check_trims(store: KnowledgeStore) -> None:
    await store.commit([Append("one", _BODIES, 0), Append("two", (b"other",))])
    wanted = [Record(number, body) for number, body in enumerate(_BODIES, 1)]
    for through in (0, 2, 1, 3):
        await store.commit([Trim("one", through)])
        left = wanted[max(2, through) if through else 0 :]
        for after in (0, 1, 2, 3, len(_BODIES), 99):
            rest = [record for record in left if record.sequence > after]
            for limit in (None, 0, 1, 99):
                _same(await store.read("one", after, limit), rest[:limit], f"read(after={after}) behind {through}")
        _same(await store.last("one"), len(_BODIES), "last() of a trimmed stream")
    await store.commit([Append("one", (b"6",), 5), Trim("one", 4)])
    _same(await store.read("one"), [Record(5, _BODIES[4]), Record(6, b"6")], "read() after an append and a trim")
    await _refused(store, [Append("one", (b"x",), 2)], "an append that counts what was trimmed off")
    await store.commit([Trim("one", 99), Trim("new", 7), Trim("none", 0)])
    _same(await store.read("one"), [], "read() of a stream that was trimmed wholly")
    await store.commit([Append("one", (b"7",), 6), Append("new", (b"8",), 7)])
    await store.close()
    await store.open()
    _same(await store.read("one"), [Record(7, b"7")], "read() of a trimmed stream after opening again")
    _same(await store.read("new"), [Record(8, b"8")], "read() of a stream that began in the middle")
    _same(await store.last("none"), 0, "last() of a stream that was trimmed by nothing")
    _same(await store.read("two"), [Record(1, b"other")], "read() of another stream")


async def _check_fences(store: KnowledgeStore) -> None:
    await store.commit([Append("one", (b"1",), 0)])
    await _refused(store, [Append("one", (b"2",), 0)], "the stream is further than expected")
    await _refused(store, [Append("one", (b"2",), 2)], "the stream is not as far as expected")
    await _refused(store, [Append("two", (b"1",)), Append("one", (b"2",), 0)], "its second change is late")
    await _refused(store, [Put("a", b"1"), Append("one", (b"2",), 0)], "the append beside its put is late")
    await _refused(store, [Append("one", (b"2",), 1), Append("one", (b"3",), 1)], "the second append is late")
    await store.commit([Append("one", (b"2",), 1), Append("one", (b"3",), 2), Append("one", (b"4",))])
    _same([record.body for record in await store.read("one")], [b"1", b"2", b"3", b"4"], "a commit of several appends")
    try:
        await store.commit([Append("one", (b"5",), 9)])
    except ConflictError as error:
        _same(error.details.get("actual"), 4, "details['actual'] of the ConflictError")


async def _check_documents(store: KnowledgeStore) -> None:
    await store.commit([Put("a", b"1", 0), Put("b", b"")])
    _same(await store.get("a"), Document("a", 1, b"1"), "a new document")
    await _refused(store, [Put("a", b"2", 0)], "the document exists")
    await _refused(store, [Put("c", b"2", 1)], "the document does not exist")
    await _refused(store, [Put("c", b"2"), Put("a", b"2", 7)], "another version was expected")
    await store.commit([Put("a", b"2", 1), Put("a", b"3", 2), Put("a", b"4")])
    _same(await store.get("a"), Document("a", 4, b"4"), "a document put four times")
    await store.commit([Put("a", None, 4), Put("never", None)])
    _same(await store.get("a"), None, "a removed document")
    await _refused(store, [Put("a", b"5", 4)], "the document was removed")
    await store.commit([Put("a", b"5", 0)])
    _same(await store.get("a"), Document("a", 1, b"5"), "a document put again after its removal")
    await store.commit([Put("a", None), Put("a", b"6", 0), Put("b", None), Put("b", None)])
    _same(await store.scan(""), [Document("a", 1, b"6")], "what is left")


async def _check_scans(store: KnowledgeStore) -> None:
    keys = ["a", "a/", "a/1", "a/10", "a/2", "a0", "b", "ä/1", "🙂"]
    await store.commit([Put(key, key.encode()) for key in reversed(keys)])
    for prefix in ("", "a", "a/", "a/1", "b", "ä", "zz"):
        for after in ("", "a/1", "a/15", "b", "🙂"):
            for limit in (None, 0, 1, 3):
                wanted = [key for key in sorted(keys) if key.startswith(prefix) and key > after][:limit]
                found = [document.key for document in await store.scan(prefix, after, limit)]
                _same(found, wanted, f"scan({prefix!r}, after={after!r}, limit={limit})")
    await store.commit([Put("a/1", None), Put("a/11", b"")])
    _same([document.key for document in await store.scan("a/1")], ["a/10", "a/11"], "scan() after changes")


async def _check_reopening(store: KnowledgeStore) -> None:
    await store.commit([Append("one", _BODIES), Put("a", b"1"), Put("b", b"1")])
    await store.commit([Put("a", b"2"), Put("b", None), Append("two", (b"1",))])
    before = await _picture(store)
    for _ in range(3):
        await store.close()
        await store.close()
        await store.open()
        _same(await _picture(store), before, "the store after closing and opening")
    await _refused(store, [Append("one", (b"6",), 0)], "the stream was longer before the store was opened again")
    await store.commit([Append("one", (b"6",), 5), Put("a", b"3", 2), Put("b", b"1", 0)])
    _same(await store.last("one"), 6, "last() after an append to an opened store")


async def _check_concurrency(store: KnowledgeStore) -> None:
    won: list[int] = []

    async def race(number: int) -> None:
        try:
            await store.commit([Append("race", (b"%d" % number,), 0), Put(f"won/{number}", b"")])
            won.append(number)
        except ConflictError:
            await store.commit([Append("lost", (b"%d" % number,))])

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(race, number)
    _same(len(won), 1, "the number of writers that appended the first record")
    _same(await store.last("race"), 1, "last() of a stream with one winner")
    _same(await store.last("lost"), 19, "last() of a stream to which everybody else appended")
    _same([document.key for document in await store.scan("won/")], [f"won/{won[0]}"], "what the winner put")


async def _check_cancelling(store: KnowledgeStore) -> None:
    for number in range(20):
        with trio.move_on_after(number / 10_000) as scope:
            await store.commit([Append("one", (b"%d" % number,)), Put(f"key/{number}", b"")])
        done = await store.get(f"key/{number}") is not None
        bodies = [record.body for record in await store.read("one")]
        _same(b"%d" % number in bodies, done, "whether a cancelled commit's append happened, when its put tells")
        _expect(done or scope.cancelled_caught, "a commit returned without having happened")


async def _check_nowait(store: KnowledgeStore) -> None:
    if not isinstance(store, NowaitStore):
        return
    store.commit_nowait([Append("one", (b"1", b"2"), 0)])
    _same(store.read_nowait("one", 1), [Record(2, b"2")], "read_nowait()")
    _same(await store.read("one", 1), [Record(2, b"2")], "read() after commit_nowait()")


async def _check_double_opening(store: KnowledgeStore) -> None:
    await store.commit([Append("one", (b"1",))])
    with contextlib.suppress(StoreError):
        await store.open()
    _same(await store.last("one"), 1, "last() after the store was opened twice")


_CHECKS = (
    _check_empty,
    _check_logs,
    _check_trims,
    _check_fences,
    _check_documents,
    _check_scans,
    _check_reopening,
    _check_concurrency,
    _check_cancelling,
    _check_nowait,
    _check_double_opening,
)
