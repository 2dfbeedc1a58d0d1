"""Clocks for tests: the hub's `clock=` by hand, and trio's autojump clock to run a test in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing

from ..mailbox.clock import iso, parse_duration, parse_iso
from ..mailbox.errors import InvalidInput

T = TypeVar("T")


class MockClock:
    """A clock for `Hub.open(clock=...)` that stands still until it is told to move.

    It drives what the hub judges by its own time (stamps, TTLs, rates, expectations), together with
    `hub._ttl_tick()` and `hub._expectation_tick()`. Sleeps and timeouts follow trio's clock; to move both together use
    `run_in_virtual_time` and leave the hub's clock alone.
    """

    def __init__(self, start: str | float = "2026-01-01T00:00:00Z") -> None:
        self._now = parse_iso(start) if isinstance(start, str) else float(start)

    def __call__(self) -> str:
        """The time as ISO-8601 text."""
        return iso(self._now)

    def time(self) -> float:
        """The time in seconds since 1970."""
        return self._now

    def advance(self, by: str | float) -> None:
        """Move on by a duration such as `90` or `"15m"`."""
        self._now += parse_duration(by, "advance") or 0.0

    def set(self, to: str | float) -> None:
        """Jump to a moment; a hub survives a step back, but a test that wants one must ask for it with `rewind`."""
        moment = parse_iso(to) if isinstance(to, str) else float(to)
        if moment < self._now:
            raise InvalidInput(f"{iso(moment)} is before {iso(self._now)}; use rewind() to step back", field="to")
        self._now = moment

    def rewind(self, by: str | float) -> None:
        """Step back, as a wall clock may that is set."""
        self._now -= parse_duration(by, "rewind") or 0.0


def run_in_virtual_time(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """`trio.run` under the autojump clock: sleeps take no real time, and a hub's clock moves with trio's."""
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))
