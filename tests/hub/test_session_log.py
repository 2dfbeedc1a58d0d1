"""Cursors: whatever order receipts come in, what was handled is never delivered again and what was not always is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agorio.hub.session_log import SessionLog

MEMBERS = ("ann", "bob", "cid")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Envelopes with their recipients, and receipts in any order after them: `("send", n)` or `(member, n)`."""
    moves: list[tuple[str, int]] = []
    pending: list[tuple[str, int]] = []
    for sequence in range(1, draw(st.integers(1, 12))):
        moves.append(("send", sequence))
        pending += [(who, sequence) for who in draw(st.sets(st.sampled_from(MEMBERS)))]
        for _ in range(draw(st.integers(0, len(pending)))):
            moves.append(pending.pop(draw(st.integers(0, len(pending) - 1))))
    return [*moves, *(("left", number) for _, number in pending), *pending[: draw(st.integers(0, len(pending)))]]


def replay(moves: list[tuple[str, int]], reload: bool) -> None:
    addressed = {(who, number) for who, number in moves if who not in ("send", "left")}
    log, handled = SessionLog(), set[tuple[str, int]]()
    expected: set[tuple[str, int]] = set()
    for who, number in moves:
        if who == "send":
            fresh = {pair for pair in addressed if pair[1] == number}
            for member, _ in sorted(fresh):
                log.expect(member)
            expected |= fresh
        elif who in MEMBERS:
            handled.add((who, number))
            lowest = min((n for member, n in expected - handled if member == who), default=None)
            log.settle(who, number, lowest)
            check(log, expected, handled)
            if reload:
                stored = SessionLog()
                stored.take_up(log.cursors())
                check(stored, expected, handled)


def check(log: SessionLog, expected: set[tuple[str, int]], handled: set[tuple[str, int]]) -> None:
    assert {pair for pair in expected if log.handled(*pair)} == handled


@given(histories(), st.booleans())
def test_handled_is_exactly_what_was_receipted(moves: list[tuple[str, int]], reload: bool) -> None:
    replay(moves, reload)


def test_a_session_without_pending_deliveries_has_one_cursor_for_all() -> None:
    log = SessionLog()
    for member in MEMBERS:
        log.expect(member)
    for member in MEMBERS:
        assert log.unsettled
        log.settle(member, 7, None)
    assert not log.unsettled
    assert log.cursors() == {"*": [7]}
    assert log.handled("ann", 7)
    assert not log.handled("ann", 8)


def test_a_receipt_that_nobody_expects_changes_no_other_member() -> None:
    log = SessionLog()
    log.expect("ann")
    log.settle("bob", 1, None)
    assert log.unsettled
    assert not log.handled("ann", 1)


def test_the_first_use_of_a_key_counts_until_it_is_taken_back() -> None:
    log = SessionLog()
    assert log.first("ann", "k") is None
    log.forget("ann", "k")
    assert not log.unsettled
