"""The one clock: seconds since 1970 in UTC as a float inside, ISO-8601 text ending in `Z` at the edges.

Comparisons are made on the float. The default clock is trio's, anchored once at the wall time, so trio's autojump
`MockClock` moves every TTL, expectation, rate and timeout of a hub together, and a step of the wall clock moves none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

import trio

from .errors import InvalidInput


class Clock(Protocol):
    """Where a hub takes the time from."""

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""


def iso(seconds: float) -> str:
    """`seconds` since 1970 as ISO-8601 UTC with microseconds, ending in `Z`."""
    return _Stamper.render(seconds)


def parse_iso(text: str) -> float:
    """Seconds since 1970 of an ISO-8601 text; one without an offset is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"{text!r} is no ISO-8601 time; write it as 2026-01-31T12:00:00Z") from exc
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class _Stamper:
    """Renders times; the date and second are formatted once per second, since stamps come in their thousands."""

    _second = -1
    _prefix = ""

    @classmethod
    def render(cls, seconds: float) -> str:
        micros = round(seconds * 1_000_000)
        second, micro = divmod(micros, 1_000_000)
        if second != cls._second:
            cls._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            cls._second = second
        return f"{cls._prefix}.{micro:06d}Z"


class TrioClock:
    """Wall time that moves with trio's clock from the moment of its creation, inside a trio run."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() - trio.current_time()

    def time(self) -> float:
        return trio.current_time() + self._offset


class ForeignClock:
    """Wall time that moves with a given clock of trio's, such as a `MockClock`, from the moment of its creation."""

    __slots__ = ("_clock", "_offset")

    def __init__(self, clock: trio.abc.Clock) -> None:
        self._clock = clock
        self._offset = time.time() - clock.current_time()

    def time(self) -> float:
        return self._clock.current_time() + self._offset


class CallableClock:
    """Adapts a callable that returns ISO-8601 text, seconds or a datetime, as tests hand to `Hub.open(clock=...)`."""

    __slots__ = ("_call", "_last_text", "_last_time")

    def __init__(self, call: Callable[[], str | float | datetime]) -> None:
        self._call = call
        self._last_text = ""
        self._last_time = 0.0

    def time(self) -> float:
        value = self._call()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if value != self._last_text:
            self._last_time = parse_iso(value)
            self._last_text = value
        return self._last_time


ClockLike: TypeAlias = Clock | trio.abc.Clock | Callable[[], str | float | datetime]


def as_clock(clock: ClockLike | None) -> Clock:
    """The clock that `Hub.open(clock=...)` means; None is trio's."""
    if clock is None:
        return TrioClock()
    if isinstance(clock, trio.abc.Clock):
        return ForeignClock(clock)
    if hasattr(clock, "time"):
        return clock
    if callable(clock):
        return CallableClock(clock)
    raise InvalidInput(
        f"clock={clock!r} is neither a callable returning ISO-8601 text, seconds or a datetime, nor a clock of trio's, "
        "nor an object with time()"
    )


LONGEST = 100 * 366 * 86400.0  # beyond it the end would have no ISO-8601 time
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(value: str | float | None, field: str = "ttl") -> float | None:
    """Seconds of `90`, `"90"`, `"90s"`, `"15m"`, `"1.5h"`, `"2d"` or `"1w"`; None stays None (no limit).

    Raises `InvalidInput` for anything that is not a positive, finite duration: a negative or zero TTL would mean a
    session that is dead before it opens, never one that lives for ever.
    """
    if value is None:
        return None
    seconds = _duration_seconds(value, field)
    if not math.isfinite(seconds) or seconds <= 0:
        raise InvalidInput(f"{field}={value!r} must be a positive duration such as 90, '15m' or '2h'", field=field)
    if seconds > LONGEST:
        raise InvalidInput(f"{field}={value!r} is more than a hundred years", field=field)
    return seconds


def _duration_seconds(value: str | float, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"{field}={value!r} is no duration; write seconds or '15m'", field=field)
    if not isinstance(value, str):
        return float(value)
    text = value.strip().lower()
    number, unit = (text[:-1], _UNITS[text[-1]]) if text and text[-1] in _UNITS else (text, 1)
    try:
        return float(number) * unit
    except ValueError as exc:
        raise InvalidInput(f"{field}={value!r} is no duration; write seconds, '15m' or '2h'", field=field) from exc
