"""How a store's worker thread gets its time: the interpreter lets it run soon, and virtual time waits for it.

trio's thread gives the interpreter's lock up for microseconds at each turn of its loop, too short for another thread
to wake, and each time the other's patience (5 ms by default) begins anew. Under a loop that never idles a commit was
seen to wait for seconds after its fsync; with a patience below the loop's turn it is served at once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import trio

SWITCH_INTERVAL = 0.0001


class Pace:
    """Counts who needs it; the interval is put back when nobody does."""

    def __init__(self) -> None:
        self._users = 0
        self._before = 0.0

    def enter(self) -> None:
        """Somebody needs it."""
        self._users += 1
        if self._users == 1:
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(min(self._before, SWITCH_INTERVAL))

    def leave(self) -> None:
        """Somebody needs it no longer."""
        self._users -= 1
        if not self._users:
            sys.setswitchinterval(self._before)


pace = Pace()  # the interval is the interpreter's, so there is one of these

_held: WeakKeyDictionary[trio.abc.Clock, tuple[int, float]] = WeakKeyDictionary()


@contextmanager
def no_time_passes() -> Iterator[None]:
    """Keep an autojump clock from jumping: trio sees no work while a thread does it, and would expire every deadline.

    Any other clock is left alone.
    """
    let_time_pass = hold_time()
    try:
        yield
    finally:
        let_time_pass()


def hold_time() -> Callable[[], None]:
    """The same from now until the function that this returns is called."""
    clock = trio.lowlevel.current_clock()
    if not hasattr(clock, "autojump_threshold"):
        return _nothing
    users, before = _held.get(clock, (0, clock.autojump_threshold))
    _held[clock] = users + 1, before
    clock.autojump_threshold = math.inf
    return partial(_let_time_pass, clock)


def _let_time_pass(clock: Any) -> None:
    users, before = _held.pop(clock)
    if users > 1:
        _held[clock] = users - 1, before
    else:
        clock.autojump_threshold = before


def _nothing() -> None:
    """A clock that does not jump needs no holding."""
