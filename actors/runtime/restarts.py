"""What a supervisor decides when a child ends: pure rules, no tasks, time as an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeVar

from .child import Restart, Strategy

N = TypeVar("N")


class Budget:
    """Restarts within a sliding window. One more than `max_restarts` within `within` seconds is too many."""

    __slots__ = ("_causes", "_times", "max_restarts", "within")

    def __init__(self, max_restarts: int, within: float) -> None:
        self.max_restarts = max_restarts
        self.within = within
        self._times: deque[float] = deque()
        self._causes: deque[BaseException | None] = deque()

    def count(self, now: float, cause: BaseException | None) -> int:
        """Count a restart; how many the window holds now."""
        while self._times and now - self._times[0] > self.within:
            self._times.popleft()
            self._causes.popleft()
        self._times.append(now)
        self._causes.append(cause)
        return len(self._times)

    def is_spent(self) -> bool:
        """True if the restart counted last was one too many."""
        return len(self._times) > self.max_restarts

    def causes(self) -> list[Exception]:
        """The errors behind the last restarts, oldest first."""
        return [cause for cause in self._causes if isinstance(cause, Exception)]

    def clear(self) -> None:
        """Forget the past: the supervisor itself starts again."""
        self._times.clear()
        self._causes.clear()


def wants_restart(restart: Restart, crashed: bool) -> bool:
    """Whether a child with this rule is started again after it ended by itself."""
    return restart == "permanent" or (restart == "transient" and crashed)


def affected(strategy: Strategy, order: Sequence[N], crashed: N) -> Sequence[N]:
    """Who is restarted, in start order, when `crashed` ends."""
    if strategy == "one_for_one":
        return (crashed,)
    if strategy == "one_for_all":
        return order
    return order[order.index(crashed) :]


def next_streak(streak: int, uptime: float, within: float) -> int:
    """The length of the row of crashes that backoff grows with; one that held out longer than `within` starts anew."""
    return 1 if uptime > within else streak + 1
