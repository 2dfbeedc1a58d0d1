"""Times and durations: floats inside, ISO-8601 text at the edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from agorio.mailbox.clock import LONGEST, CallableClock, TrioClock, as_clock, iso, parse_duration, parse_iso
from agorio.mailbox.errors import InvalidInput

MICROS = st.integers(0, 4 * 10**15)


@given(micros=MICROS)
def test_there_and_back(micros: int) -> None:
    text = iso(micros / 1e6)
    assert text.endswith("Z")
    assert len(text) == 27
    assert round(parse_iso(text) * 1e6) == pytest.approx(micros, abs=1)
    assert datetime.fromisoformat(text) == pytest.approx(
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros), abs=timedelta(microseconds=1)
    )


@given(one=MICROS, two=MICROS)
def test_texts_sort_like_times(one: int, two: int) -> None:
    """To a microsecond, which is what a float of our century still holds."""
    if abs(one - two) > 1:
        assert (iso(one / 1e6) < iso(two / 1e6)) == (one < two)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T00:00:01+00:00", 1),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:01", 1),
        ("1970-01-02", 86400),
        ("1970-01-01T00:00:00.5Z", 0.5),
    ],
)
def test_forms_of_a_time(text: str, seconds: float) -> None:
    assert parse_iso(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-01-01T25:00:00Z", None, 5])
def test_what_is_no_time(text: Any) -> None:
    with pytest.raises(InvalidInput, match="ISO-8601"):
        parse_iso(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(90, 90), (1.5, 1.5), ("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), (" 2D ", 172800), ("1w", 604800)],
)
def test_forms_of_a_duration(value: Any, seconds: float) -> None:
    assert parse_duration(value) == seconds
    assert parse_duration(None) is None


@pytest.mark.parametrize(
    "value",
    ["", "m", "h1", "1x", "-1", "0", 0, -1, "nan", "inf", float("nan"), float("inf"), LONGEST * 2, True, [], b"5"],
)
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(InvalidInput, match="my_field"):
        parse_duration(value, "my_field")


def test_the_longest_duration_still_has_a_date() -> None:
    assert iso(4e9 + LONGEST) > "2196"


async def test_the_default_clock_moves_with_trios(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    begin = clock.time()
    assert begin == pytest.approx(datetime.now(UTC).timestamp(), abs=60)
    await trio.sleep(3600)
    assert clock.time() - begin == pytest.approx(3600)


def test_a_callable_is_a_clock() -> None:
    texts = iter(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"])
    clock = as_clock(lambda: next(texts))
    assert [clock.time() - parse_iso("2026-01-01T00:00:00Z") for _ in range(3)] == [0, 0, 1]
    assert CallableClock(lambda: 5).time() == 5.0


def test_what_is_a_clock() -> None:
    clock = CallableClock(lambda: 0)
    assert as_clock(clock) is clock
    with pytest.raises(InvalidInput, match="neither"):
        as_clock("noon")  # type: ignore[arg-type]
