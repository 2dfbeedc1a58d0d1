"""`FaultyStore`: a store that refuses, dawdles, runs full and loses its power, as often as a seed says.

It keeps the contract of a store all the same: a commit that was acknowledged is there after a power cut, one that was
not is there wholly or not at all, one that was refused is not there. Only `unsynced=` breaks it on purpose, and plays
the disk that acknowledges what it has not written.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import Append, Change, Document, KnowledgeStore, NowaitStore, Put, Record
from ..mailbox.errors import StoreError
from .chance import Chance

NOTICEABLE = 0.01
Delay = float | tuple[float, float]


class FaultyStore:
    """Wraps a store. Without arguments it only hides that the store needs no I/O, as a disk would.

    `refuse` is the probability of a commit to be refused, `refuse_at` names commits by number (1 is the first); `slow`
    is seconds per operation, or `(least, most)`; `capacity` in bytes makes the medium run full until `make_room`;
    `tear` is the probability of a commit to be cut by a power failure, of which `on_power_cut` is told in that very
    step; `read_errors` the probability of a read to fail. `unsynced` seconds after its acknowledgement a commit is
    safe: 0, an honest medium, means before it. `injected` counts what was done, by kind.
    """

    def __init__(
        self,
        store: KnowledgeStore | None = None,
        *,
        seed: int | str = 0,
        rng: random.Random | None = None,
        refuse: float = 0.0,
        refuse_at: Sequence[int] = (),
        slow: Delay = 0.0,
        capacity: int | None = None,
        tear: float = 0.0,
        read_errors: float = 0.0,
        unsynced: float = 0.0,
        on_power_cut: Callable[[], None] | None = None,
    ) -> None:
        self.inner: KnowledgeStore = store if store is not None else MemoryKnowledgeStore()
        self.durable = self.inner.durable
        self.rng = rng or Chance(seed).of("store")
        self.refuse = refuse
        self.refuse_at = frozenset(refuse_at)
        self.slow = slow
        self.capacity = capacity
        self.tear = tear
        self.read_errors = read_errors
        self.unsynced = unsynced
        self.on_power_cut = on_power_cut
        self.injected: Counter[str] = Counter()
        self.total_commits = 0
        self.used = 0
        self._off = False
        self._safe: MemoryKnowledgeStore | None = None
        self._pending: list[tuple[float, tuple[Change, ...]]] = []

    # What the hub calls.

    async def open(self) -> None:
        """Make ready. Raises `StoreError`. If cancelled: not open."""
        self._check_power()
        await self.inner.open()
        if self.unsynced and self._safe is None:
            if not isinstance(self.inner, MemoryKnowledgeStore):
                raise StoreError("unsynced= needs a MemoryKnowledgeStore, of which it can keep an older state")
            self._safe = _copy(self.inner)

    async def close(self) -> None:
        """Flush and let go. If cancelled: closed all the same."""
        if self._off:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._sync(trio.current_time() + self.unsynced)
        await self.inner.close()

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes, or none, durable. Raises `ConflictError`, `StoreError`.

        If cancelled: the commit may or may not have happened, as a whole.
        """
        self._check_power()
        self.total_commits += 1
        torn = self.rng.random() < self.tear
        if torn and self.rng.random() < 0.5:
            self._tear("torn_commit_lost")
        await self._dawdle()
        self._refuse_some(changes)
        if isinstance(self.inner, NowaitStore):
            self.inner.commit_nowait(changes)  # in this very step: the power cannot go in the middle
        else:
            await self.inner.commit(changes)
        self.used += _size(changes)
        self._keep(tuple(changes))
        if torn:
            self._tear("torn_commit_kept")
        await self._dawdle()
        self._check_power()

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a sequence, oldest first. Raises `StoreError`. If cancelled: nothing has changed."""
        await self._before_reading()
        return await self.inner.read(stream, after, limit)

    async def last(self, stream: str) -> int:
        """The newest record's sequence. Raises `StoreError`. If cancelled: nothing has changed."""
        await self._before_reading()
        return await self.inner.last(stream)

    async def get(self, key: str) -> Document | None:
        """One document. Raises `StoreError`. If cancelled: nothing has changed."""
        await self._before_reading()
        return await self.inner.get(key)

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        """Documents under a prefix in key order. Raises `StoreError`. If cancelled: nothing has changed."""
        await self._before_reading()
        return await self.inner.scan(prefix, after, limit)

    # What the test calls.

    @property
    def is_off(self) -> bool:
        """Whether its power was cut; it refuses everything then."""
        return self._off

    def cut_power(self) -> None:
        """Cut the power now: nothing that is asked of this object from here on happens. Doing it again does nothing."""
        if not self._off:
            self._off = True
            self.injected["power_cut"] += 1
            if self.on_power_cut is not None:
                self.on_power_cut()

    async def power_cut(self) -> FaultyStore:
        """Cut the power; the store as the next boot finds it, with the same faults in it.

        If cancelled: the power is cut all the same.
        """
        self.cut_power()
        with trio.CancelScope(shield=True):
            await self.inner.close()
        if self._safe is None:
            found: KnowledgeStore = self.inner
        else:
            self._sync(trio.current_time())
            lost = self.rng.randint(0, len(self._pending))
            self.injected["unsynced_commit_lost"] += lost
            self._apply_pending(len(self._pending) - lost)
            found = self._safe
        return self._successor(found)

    def _successor(self, found: KnowledgeStore) -> FaultyStore:
        store = FaultyStore(
            found,
            rng=self.rng,
            refuse=self.refuse,
            refuse_at=tuple(self.refuse_at),
            slow=self.slow,
            capacity=self.capacity,
            tear=self.tear,
            read_errors=self.read_errors,
            unsynced=self.unsynced,
            on_power_cut=self.on_power_cut,
        )
        store.injected, store.total_commits, store.used = self.injected, self.total_commits, self.used
        return store

    def make_room(self, capacity: int | None = None) -> None:
        """Give the medium room again: a new capacity above what is used, or none."""
        self.capacity = None if capacity is None else self.used + capacity

    def calm(self) -> None:
        """No more faults of its own accord."""
        self.refuse = self.tear = self.read_errors = 0.0
        self.refuse_at = frozenset()
        self.slow = 0.0
        self.make_room()

    # Faults.

    def _check_power(self) -> None:
        if self._off:
            raise StoreError("the power is cut")

    async def _dawdle(self) -> None:
        seconds = _draw(self.slow, self.rng)
        if seconds > NOTICEABLE:
            self.injected["slow_store"] += 1
        await trio.sleep(seconds)
        self._check_power()

    def _refuse_some(self, changes: Sequence[Change]) -> None:
        if self.rng.random() < self.refuse or self.total_commits in self.refuse_at:
            self.injected["refused_commit"] += 1
            raise StoreError(f"commit {self.total_commits} is refused, as it was ordered")
        if self.capacity is not None and self.used + _size(changes) > self.capacity:
            self.injected["full_store"] += 1
            raise StoreError(f"the medium is full: {self.used} of {self.capacity} bytes are used")

    def _tear(self, kind: str) -> None:
        self.injected[kind] += 1
        self.cut_power()
        self._check_power()

    async def _before_reading(self) -> None:
        self._check_power()
        await self._dawdle()
        if self.read_errors and self.rng.random() < self.read_errors:
            self.injected["read_error"] += 1
            raise StoreError("a read fails, as it was ordered")

    # What is safe, where that comes later than the acknowledgement.

    def _keep(self, changes: tuple[Change, ...]) -> None:
        if self._safe is not None:
            self._sync(trio.current_time())
            self._pending.append((trio.current_time() + self.unsynced, changes))

    def _sync(self, now: float) -> None:
        self._apply_pending(sum(at <= now for at, _ in self._pending))

    def _apply_pending(self, count: int) -> None:
        for _, changes in self._pending[:count]:
            assert self._safe is not None
            self._safe.commit_nowait(changes)
        del self._pending[:count]


def _copy(store: MemoryKnowledgeStore) -> MemoryKnowledgeStore:
    """An independent copy that is not open."""
    twin = copy.deepcopy(store)
    twin._users = 0
    return twin


def _size(changes: Sequence[Change]) -> int:
    appended = sum(sum(map(len, change.bodies)) for change in changes if isinstance(change, Append))
    return appended + sum(len(change.body or b"") for change in changes if isinstance(change, Put))


def _draw(delay: Delay, rng: random.Random) -> float:
    return rng.uniform(*delay) if isinstance(delay, tuple) else delay
