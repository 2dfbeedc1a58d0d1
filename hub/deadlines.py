"""What is due when: a heap of session ids by instant, so that a sweep costs what is due and not what exists."""

from __future__ import annotations

import heapq
from collections.abc import Container


class Deadlines:
    """Instants in seconds since 1970 and the keys that are due then; a key may be entered more than once."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, key: str) -> None:
        """`key` is due at `at`."""
        heapq.heappush(self._heap, (at, key))

    def due(self, now: float) -> list[str]:
        """Take out the keys that are due, earliest first."""
        keys = []
        while self._heap and self._heap[0][0] <= now:
            keys.append(heapq.heappop(self._heap)[1])
        return keys

    def take_due(self, now: float) -> str | None:
        """Take out the earliest key that is due, or None."""
        return heapq.heappop(self._heap)[1] if self._heap and self._heap[0][0] <= now else None

    def keep(self, keys: Container[str]) -> None:
        """Forget all other keys: most of what was entered may be over long before it is due."""
        self._heap = [(at, key) for at, key in self._heap if key in keys]
        heapq.heapify(self._heap)
