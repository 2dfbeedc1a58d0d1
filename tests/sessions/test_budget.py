"""The rules of budgets: what counts, what is too much, what may be reported."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio import BudgetBlock, InvalidInput, Rule, SessionBudget, Usage
from agorio.actors.sessions.budget import (
    KEYS,
    SLICES,
    Account,
    charged,
    counting,
    exceeded,
    refreshed,
    reported,
)
from agorio.actors.sessions.rule import check_rule
from agorio.hub.loosening import loosened
from agorio.hub.records import from_bytes, to_bytes

usages = st.builds(
    Usage,
    restarts=st.integers(0, 3),
    failed_turns=st.integers(0, 3),
    tokens=st.integers(0, 10**6),
    cost=st.integers(0, 1000).map(lambda cents: cents / 4),
)
instants = st.floats(0, 10_000, allow_nan=False)
charges = st.lists(st.tuples(instants, usages), max_size=80)


def total(used: list[Usage]) -> Usage:
    found = Usage()
    for one in used:
        found += one
    return found


@given(charges)
def test_without_a_window_everything_counts(made: list[tuple[float, Usage]]) -> None:
    account = Account()
    for now, usage in made:  # at any time: the clock may jump both ways
        account = charged(account, usage, now)
    assert counting(account, 0.0) == account.total == total([usage for _, usage in made])
    assert len(account.slices) <= 1


@given(charges, st.floats(1, 5000), instants)
def test_within_a_window_nothing_young_is_left_out_and_nothing_old_stays(
    made: list[tuple[float, Usage]], window: float, end: float
) -> None:
    account = Account()
    made = sorted(made, key=lambda charge: charge[0])
    for now, usage in made:
        account = charged(account, usage, now, window)
    end = max([end, *(now for now, _ in made)])
    used = counting(account, end, window)
    young = total([usage for now, usage in made if now > end - window])
    most = total([usage for now, usage in made if now > end - window * (1 + 2 / SLICES)])
    assert young.tokens <= used.tokens <= most.tokens
    assert young.failed_turns <= used.failed_turns <= most.failed_turns
    assert len(account.slices) <= 2 * SLICES
    assert account.total == total([usage for _, usage in made])


@given(charges, st.floats(1, 5000))
def test_a_clock_that_steps_back_hides_nothing(made: list[tuple[float, Usage]], window: float) -> None:
    account = Account()
    for now, usage in made:
        before = counting(account, now, window)
        account = charged(account, usage, now, window)
        after = counting(account, now, window)
        assert after.tokens == before.tokens + usage.tokens
        assert after.cost == before.cost + usage.cost


@given(charges, usages)
def test_an_account_outlives_the_store(made: list[tuple[float, Usage]], usage: Usage) -> None:
    account = Account()
    for index, (now, one) in enumerate(made):
        account = charged(account, one, now, 60.0, f"k{index}")
    assert from_bytes(to_bytes(account), Account) == account
    assert len(account.keys) <= KEYS
    fresh = refreshed(account)
    assert counting(fresh, 0.0) == Usage()
    assert fresh.total == account.total


def test_a_report_counts_once() -> None:
    account = charged(Account(), Usage(tokens=5), 1.0, key="a")
    assert charged(account, Usage(tokens=5), 2.0, key="a") is account
    assert charged(account, Usage(tokens=5), 2.0, key="b").total.tokens == 10


def test_what_is_too_much() -> None:
    block = BudgetBlock(max_failed_turns=2, max_tokens=100, max_cost=0.5)
    assert exceeded(block, Usage(failed_turns=2, tokens=100, cost=0.5)) is None
    for usage, field in [
        (Usage(failed_turns=3), "budget.max_failed_turns"),
        (Usage(tokens=101), "budget.max_tokens"),
        (Usage(cost=0.51), "budget.max_cost"),
    ]:
        beyond = exceeded(block, usage)
        assert beyond is not None
        assert beyond[0] == field
    assert exceeded(BudgetBlock(max_restarts=0), Usage(restarts=1)) is not None
    assert exceeded(BudgetBlock(), Usage(9, 9, 9, 9)) is None


@pytest.mark.parametrize(
    ("block", "field"),
    [
        (BudgetBlock(max_tokens=0), "budget.max_tokens"),
        (BudgetBlock(max_tokens=1.5), "budget.max_tokens"),  # type: ignore[arg-type]
        (BudgetBlock(max_failed_turns=-1), "budget.max_failed_turns"),
        (BudgetBlock(max_restarts=True), "budget.max_restarts"),
        (BudgetBlock(max_cost=math.nan), "budget.max_cost"),
        (BudgetBlock(max_cost=math.inf), "budget.max_cost"),
        (BudgetBlock(max_cost=0), "budget.max_cost"),
        (BudgetBlock(within="1h"), "budget.within"),
        (BudgetBlock(max_tokens=5, within=-1), "budget.within"),
        (BudgetBlock(per_session=SessionBudget(max_tokens=-5)), "budget.per_session.max_tokens"),
        (BudgetBlock(per_session=3), "budget.per_session"),
    ],
)
def test_what_cannot_be_enforced_is_refused(block: BudgetBlock, field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_rule(Rule(budget=block))
    assert refusal.value.details["field"] == field


def test_a_rule_keeps_what_it_does_not_know() -> None:
    rule = Rule(budget=BudgetBlock(max_tokens=5, per_session={"max_cost": 1.0}, extra={"max_trees": 3}))
    assert rule.budget.per_session == SessionBudget(max_cost=1.0)
    assert from_bytes(to_bytes(rule), Rule) == rule
    assert from_bytes(b'{"budget":{"max_tokens":5,"max_trees":3}}', Rule).budget.extra == {"max_trees": 3}


TIGHT = BudgetBlock(max_tokens=10, within="1h", per_session=SessionBudget(max_cost=2))


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (BudgetBlock(max_tokens=11, within="1h", per_session=SessionBudget(max_cost=2)), "budget.max_tokens"),
        (BudgetBlock(within="1h", per_session=SessionBudget(max_cost=2)), "budget.max_tokens"),
        (BudgetBlock(max_tokens=10, within="59m", per_session=SessionBudget(max_cost=2)), "budget.within"),
        (BudgetBlock(max_tokens=10, within="1h"), "budget.per_session.max_cost"),
        (BudgetBlock(max_tokens=10, per_session=SessionBudget(max_cost=1)), None),
        (BudgetBlock(max_tokens=9, max_cost=1, within="2h", per_session=SessionBudget(max_cost=2)), None),
        (BudgetBlock(10, 10, 10, 10, "1h", SessionBudget(max_cost=2), extra={"more": 1}), "extra"),
    ],
)
def test_an_agent_only_tightens(new: BudgetBlock, field: str | None) -> None:
    assert loosened(Rule(budget=TIGHT), Rule(budget=new)) == field
    assert loosened(Rule(), Rule(budget=attrs_without_extra(new))) is None


def attrs_without_extra(block: BudgetBlock) -> BudgetBlock:
    return BudgetBlock(
        block.max_restarts, block.max_failed_turns, block.max_tokens, block.max_cost, block.within, block.per_session
    )


class Said:
    input_tokens = 3
    output_tokens = 4

    def cost(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("usage", "tokens", "cost"),
    [
        ({"total_tokens": 9, "input_tokens": 1, "output_tokens": 2}, 9, 0.0),
        ({"input_tokens": 1, "output_tokens": 2, "cost": 0.25}, 3, 0.25),
        ({"output_tokens": 2}, 2, 0.0),
        ({"cost": 1}, 0, 1.0),
        (Said(), 7, 0.0),
    ],
)
def test_what_is_reported(usage: Any, tokens: int, cost: float) -> None:
    assert reported(usage) == Usage(tokens=tokens, cost=cost)


@pytest.mark.parametrize("usage", [{}, {"other": 1}, "text", object(), None])
def test_what_is_no_report(usage: Any) -> None:
    assert reported(usage) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"total_tokens": -1},
        {"total_tokens": 1.5},
        {"input_tokens": True},
        {"total_tokens": 2**60},
        {"cost": math.nan},
        {"cost": -0.01},
        {"cost": math.inf},
        {"cost": "much"},
    ],
)
def test_a_report_can_only_add(usage: Any) -> None:
    with pytest.raises(InvalidInput, match=r"usage\."):
        reported(usage)
