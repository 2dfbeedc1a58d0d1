"""A mailbox's limits and its figures, as plain values."""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import attrs

from .errors import InvalidInput

Overflow: TypeAlias = Literal["reject", "drop_oldest", "drop_newest", "block"]

OVERFLOWS: Final = ("reject", "drop_oldest", "drop_newest", "block")
DROPS: Final = ("drop_oldest", "drop_newest")
HIGH_WATER_SHARE: Final = 0.8


@attrs.frozen
class Statistics:
    """What a mailbox holds and has seen."""

    current_used: int
    """Slots in use: queued plus leased. Never above `max_capacity`, forced items apart."""
    current_queued: int
    """Items that wait to be taken."""
    current_leased: int
    """Items that were taken on lease and not yet released."""
    current_control: int
    """Items in the control lane; they use no slot."""
    max_capacity: float
    """The cap, `math.inf` for none."""
    high_water: float
    """The number of used slots at which `on_high_water` is called, `math.inf` for never."""
    overflow: Overflow
    """What happens to a put that finds no free slot."""
    peak_used: int
    """The largest number of slots ever in use at once."""
    total_put: int
    """Items accepted so far, those of the control lane apart."""
    total_taken: int
    """Items taken so far, those of the control lane apart; one that was put back has not been taken."""
    total_dropped: int
    """Items handed to `on_dead_letter` so far, accepted before or not."""
    tasks_waiting_put: int
    """Tasks that wait for a free slot."""
    tasks_waiting_get: int
    """1 while the consumer sleeps, else 0."""
    is_closed: bool
    """True once intake has ended."""


def check_limits(capacity: float, overflow: str, high_water: int | None) -> None:
    """Raise `InvalidInput` for limits that no mailbox can keep."""
    if capacity != math.inf and not (capacity >= 1 and capacity == int(capacity)):
        raise InvalidInput(f"capacity={capacity!r}: a mailbox has a whole number of slots, 1 or more, or math.inf")
    if overflow not in OVERFLOWS:
        raise InvalidInput(f"overflow={overflow!r} is none of {', '.join(OVERFLOWS)}")
    if high_water is not None and high_water < 1:
        raise InvalidInput(f"high_water={high_water!r} must be 1 or more")


def high_water_mark(capacity: float, high_water: int | None) -> float:
    """The mark that was asked for, else four fifths of a finite capacity, else never."""
    if high_water is not None:
        return high_water
    return capacity if capacity == math.inf else math.ceil(capacity * HIGH_WATER_SHARE)
