"""The kernel's pure rules: who is restarted, when it is too much, how long to rest, who waits for whom, what failed."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.runtime import Backoff, WaitGraph
from agorio.actors.runtime.faults import describe, refusal_in, sole, split
from agorio.actors.runtime.restarts import Budget, affected, next_streak, wants_restart
from agorio.mailbox.errors import InvalidInput, NotFoundError, Refuse

nodes = st.integers(0, 5)


@given(st.lists(st.tuples(st.booleans(), nodes, nodes), max_size=60))
def test_the_wait_graph_refuses_exactly_what_would_close_a_circle(steps: list[tuple[bool, int, int]]) -> None:
    graph: WaitGraph[int] = WaitGraph()
    edges: Counter[tuple[int, int]] = Counter()
    for add, waiter, target in steps:
        if add:
            cycle = graph.add(waiter, target)
            assert (cycle is not None) is reaches(edges, target, waiter)
            if cycle is None:
                edges[waiter, target] += 1
            else:
                assert cycle[0] == cycle[-1] == waiter
                assert cycle[1] == target
                assert all(edges[pair] for pair in itertools.pairwise(cycle[1:]))
        elif edges[waiter, target]:
            graph.remove(waiter, target)
            edges[waiter, target] -= 1
        assert len(graph) == edges.total()
        assert graph.edges() == frozenset(pair for pair, count in edges.items() if count)


def reaches(edges: Counter[tuple[int, int]], start: int, end: int) -> bool:
    seen, todo = {start}, [start]
    while todo:
        node = todo.pop()
        new = {b for (a, b), count in edges.items() if a == node and count} - seen
        seen |= new
        todo += new
    return end in seen


@given(st.lists(st.floats(0, 10), max_size=30), st.integers(0, 4), st.floats(0, 5))
def test_the_budget_counts_what_lies_in_its_window(gaps: list[float], most: int, within: float) -> None:
    budget = Budget(most, within)
    now, times = 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        inside = sum(now - time <= within for time in times)
        assert budget.count(now, ValueError(str(now))) == inside
        assert budget.is_spent() is (inside > most)
        assert len(budget.causes()) == inside
    budget.clear()
    assert not budget.is_spent()
    assert budget.causes() == []


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_exit"),
    [("permanent", True, True), ("transient", True, False), ("temporary", False, False)],
)
def test_who_wants_a_restart(restart: str, after_crash: bool, after_exit: bool) -> None:
    assert wants_restart(restart, crashed=True) is after_crash  # type: ignore[arg-type]
    assert wants_restart(restart, crashed=False) is after_exit  # type: ignore[arg-type]


def test_who_is_affected() -> None:
    assert list(affected("one_for_one", "abc", "b")) == ["b"]
    assert list(affected("one_for_all", "abc", "b")) == ["a", "b", "c"]
    assert list(affected("rest_for_one", "abc", "b")) == ["b", "c"]


def test_a_streak_ends_with_an_incarnation_that_held_out() -> None:
    assert next_streak(3, uptime=5.0, within=5.0) == 4
    assert next_streak(3, uptime=5.1, within=5.0) == 1


def test_backoff_grows_to_its_maximum() -> None:
    rng = random.Random(0)
    backoff = Backoff(min=1, max=10, factor=3)
    assert [backoff.delay(streak, rng) for streak in (1, 2, 3, 4, 100_000)] == [1, 3, 9, 10, 10]
    assert Backoff().delay(9, rng) == 0
    assert all(10 <= Backoff(min=10, jitter=0.2).delay(1, rng) <= 12 for _ in range(50))
    with pytest.raises(InvalidInput, match="factor"):
        Backoff(factor=0.5)


def test_splitting_what_an_incarnation_ended_with() -> None:
    value, key, stop = ValueError("v"), KeyError("k"), KeyboardInterrupt()
    assert split(value) == (value, None)
    assert split(stop) == (None, stop)
    assert split(BaseExceptionGroup("", [ExceptionGroup("", [value])])) == (value, None)
    ordinary, rest = split(BaseExceptionGroup("", [value, ExceptionGroup("", [key]), stop]))
    assert isinstance(ordinary, ExceptionGroup)
    assert sole(ordinary) is ordinary
    assert rest is stop


def test_refusals_are_found_where_they_stand_alone() -> None:
    refusal, missing = Refuse("no"), NotFoundError("no such")
    assert refusal_in(refusal) is refusal
    assert refusal_in(ExceptionGroup("", [ExceptionGroup("", [missing])])) is missing
    assert refusal_in(ExceptionGroup("", [refusal, ValueError()])) is None
    assert refusal_in(ValueError()) is None
    assert describe(ExceptionGroup("", [ValueError("v")])) == "ValueError('v')"
