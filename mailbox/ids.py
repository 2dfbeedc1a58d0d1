"""Ids that sort by time, strictly increasing per generator even when the wall clock steps back."""

from __future__ import annotations

from collections.abc import Callable

ID_LENGTH = 32


class IdGenerator:
    """Mints ids of 32 hex digits: 16 of nanoseconds, strictly increasing, then 16 of randomness.

    `now_ns` and `random_bits` are arguments so that a seeded run mints the same ids. `floor` continues after the newest
    id of an earlier run, so that ids stay ordered across restarts whatever the wall clock did in between.
    """

    __slots__ = ("_last", "_now_ns", "_random_bits")

    def __init__(self, now_ns: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._now_ns = now_ns
        self._random_bits = random_bits
        self._last = 0

    def __call__(self) -> str:
        """The next id."""
        stamp = self._now_ns()
        if stamp <= self._last:
            stamp = self._last + 1
        self._last = stamp
        return f"{stamp:016x}{self._random_bits(64):016x}"

    def floor(self, newest_id: str) -> None:
        """Mint only ids above `newest_id` from now on; ids of another shape are ignored."""
        if len(newest_id) == ID_LENGTH:
            self._last = max(self._last, int(newest_id[:16], 16))


def looks_like_id(text: str) -> bool:
    """Whether `text` has the shape of a minted id, which names therefore must not have."""
    return len(text) == ID_LENGTH and all(c in "0123456789abcdef" for c in text)
