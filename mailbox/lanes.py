"""Which waiting message goes first: a pure structure that a `Mailbox` engages once priorities differ.

One lane per priority, the highest first, first in first out within a lane. Messages of one key (a session, say) are
never reordered: a later urgent one pulls its predecessors into its lane with it, which is priority inheritance. The
rejected road was a heap ordered by priority and number: it would hand out the urgent one before what it answers.

An entry that is promoted leaves a stale place behind in its old lane, recognised by its level and swept up later, so
a push costs amortised constant time: with three priorities an entry moves up at most twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from .priority import Priority

T = TypeVar("T")

_TAKEN = -1
_SWEEP_FROM = 32


class _Entry(Generic[T]):
    __slots__ = ("item", "keep", "key", "level")

    def __init__(self, item: T, key: Hashable, level: int, keep: bool) -> None:
        self.item = item
        self.key = key
        self.level = level
        self.keep = keep


class Lanes(Generic[T]):
    """Messages by priority, in order within each key. Holds no lock, reads no clock."""

    __slots__ = ("_by_key", "_head", "_lanes", "_size", "_stale")

    def __init__(self) -> None:
        self._lanes: tuple[deque[_Entry[T]], ...] = tuple(deque() for _ in Priority)
        self._head: deque[T] = deque()
        self._by_key: dict[Hashable, deque[_Entry[T]]] = {}
        self._stale = [0] * len(Priority)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, item: T, priority: int = Priority.NORMAL, key: Hashable = None, *, keep: bool = False) -> None:
        """Add `item` at the end of its lane; `keep` exempts it from `evict`."""
        entry = _Entry(item, key, int(priority), keep)
        if key is not None:
            self._promote(key, entry.level)
            self._by_key.setdefault(key, deque()).append(entry)
        self._lanes[entry.level].append(entry)
        self._size += 1

    def push_front(self, item: T) -> None:
        """Return an item that had been popped: it goes before everything else and is not evicted."""
        self._head.appendleft(item)
        self._size += 1

    def pop(self) -> T:
        """Take the next item; `IndexError` when there is none."""
        if self._head:
            self._size -= 1
            return self._head.popleft()
        for level in reversed(range(len(self._lanes))):
            entry = self._first(level)
            if entry is not None:
                self._lanes[level].popleft()
                return self._leave(entry)
        raise IndexError("pop from empty lanes")

    def evict(self, priority: int) -> tuple[T] | None:
        """Take out the oldest item of the lowest lane, in a 1-tuple; None if all are kept or above `priority`."""
        for level in range(int(priority) + 1):
            for entry in self._lanes[level]:
                if entry.level == level and not entry.keep:
                    victim = self._leave(entry)
                    self._note_stale(level)
                    return (victim,)
        return None

    def __iter__(self) -> Iterator[T]:
        """The items in the order in which they would be popped."""
        yield from self._head
        for level in reversed(range(len(self._lanes))):
            yield from (entry.item for entry in self._lanes[level] if entry.level == level)

    def _promote(self, key: Hashable, level: int) -> None:
        """Move the waiting items of `key` up to `level`. Older ones never stand lower than younger ones of their key,
        so only a tail of the queue has to move."""
        behind: list[_Entry[T]] = []
        for entry in reversed(self._by_key.get(key, ())):
            if entry.level >= level:
                break
            behind.append(entry)
        for entry in reversed(behind):
            old, entry.level = entry.level, level
            self._lanes[level].append(entry)
            self._note_stale(old)

    def _first(self, level: int) -> _Entry[T] | None:
        lane = self._lanes[level]
        while lane:
            if lane[0].level == level:
                return lane[0]
            lane.popleft()
            self._stale[level] -= 1
        return None

    def _leave(self, entry: _Entry[T]) -> T:
        entry.level = _TAKEN
        self._size -= 1
        if entry.key is not None:
            line = self._by_key[entry.key]
            line.remove(entry)
            if not line:
                del self._by_key[entry.key]
        return entry.item

    def _note_stale(self, level: int) -> None:
        lane = self._lanes[level]
        self._stale[level] += 1
        if self._stale[level] >= _SWEEP_FROM and 2 * self._stale[level] > len(lane):
            live = [entry for entry in lane if entry.level == level]
            lane.clear()
            lane.extend(live)
            self._stale[level] = 0
