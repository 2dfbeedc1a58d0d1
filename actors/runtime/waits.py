"""Who waits for whom: a pure graph that refuses the edge which would close a circle.

Every ask from inside a handler is an edge from the asking actor to the asked one for as long as the question is open.
A handler may ask several at once, so an actor has a set of edges; two questions to the same actor are counted. Because
each edge is checked before it is added, the graph never holds a cycle, and whoever would close one is the victim, at
once and by name. A timeout would find the same deadlock later and could not say whose it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)


class WaitGraph(Generic[N]):
    """Sets of edges `waiter -> target`. One value per application, held by its root supervisor."""

    __slots__ = ("_edges",)

    def __init__(self) -> None:
        self._edges: dict[N, Counter[N]] = {}

    def __len__(self) -> int:
        """How many questions are open."""
        return sum(counts.total() for counts in self._edges.values())

    def find_cycle(self, waiter: N, target: N) -> tuple[N, ...] | None:
        """The circle that the edge `waiter -> target` would close, as `(waiter, target, ..., waiter)`, else None."""
        if waiter == target:
            return (waiter, waiter)
        if target not in self._edges:
            return None
        came_from: dict[N, N] = {}
        todo = [target]
        while todo:
            node = todo.pop()
            for following in self._edges.get(node, ()):
                if following == waiter:
                    return (waiter, *_path(came_from, target, node), waiter)
                if following not in came_from:
                    came_from[following] = node
                    todo.append(following)
        return None

    def add(self, waiter: N, target: N) -> tuple[N, ...] | None:
        """Add the edge and return None, or change nothing and return the circle that it would close."""
        cycle = self.find_cycle(waiter, target)
        if cycle is None:
            counts = self._edges.get(waiter)
            if counts is None:
                counts = self._edges[waiter] = Counter()
            counts[target] += 1
        return cycle

    def remove(self, waiter: N, target: N) -> None:
        """Take back one edge that `add` accepted."""
        counts = self._edges[waiter]
        counts[target] -= 1
        if not counts[target]:
            del counts[target]
            if not counts:
                del self._edges[waiter]

    def edges(self) -> frozenset[tuple[N, N]]:
        """All edges, each once."""
        return frozenset((waiter, target) for waiter, counts in self._edges.items() for target in counts)


def _path(came_from: dict[N, N], start: N, end: N) -> list[N]:
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
