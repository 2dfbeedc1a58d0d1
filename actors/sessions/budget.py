"""Budgets: what an agent may use up before it is parked, what it has used, and when that is too much. Pure.

Usage is kept in slices. A slice counts as a whole until its newest part has left the window, so what counts may be old
by a sixtieth of the window, but nothing that lies within it is ever left out, whatever the clock does. Without a window
there is one slice, which counts until somebody begins a fresh budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ...mailbox.clock import parse_duration
from ...mailbox.errors import InvalidInput
from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload

SLICES = 60
KEYS = 64
MOST = 2**53
FIELDS = ("restarts", "failed_turns", "tokens", "cost")
_REPORTED = ("input_tokens", "output_tokens", "total_tokens", "cost")


@attrs.frozen
class Usage:
    """What was used up."""

    restarts: int = 0
    """Times that an actor of the agent was started again after a crash."""
    failed_turns: int = 0
    """Deliveries that it failed on, each attempt counted."""
    tokens: int = 0
    """Tokens that it has reported."""
    cost: float = 0.0
    """Money that it has reported, in the unit that the operator's limits are in; the hub does not know currencies."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            min(MOST, self.restarts + other.restarts),
            min(MOST, self.failed_turns + other.failed_turns),
            min(MOST, self.tokens + other.tokens),
            min(float(MOST), self.cost + other.cost),
        )


NOTHING = Usage()


@attrs.frozen
class SessionBudget:
    """What an agent may use up in one session, for as long as that lives. None is no limit."""

    max_restarts: int | None = None
    """Restarts; 0 allows none."""
    max_failed_turns: int | None = None
    """Failed turns; 0 allows none."""
    max_tokens: int | None = None
    """Tokens."""
    max_cost: float | None = None
    """Money."""
    extra: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Fields of a newer peer, kept as they came."""


def _per_session(value: Any) -> SessionBudget:
    return SessionBudget(**value) if isinstance(value, dict) else value


@attrs.frozen
class BudgetBlock:
    """What an agent may use up. One that has used more than a limit allows is parked until an operator resumes it."""

    max_restarts: int | None = None
    """Restarts of the agent's actor; 0 allows none, None is no limit."""
    max_failed_turns: int | None = None
    """Failed turns; 0 allows none, None is no limit."""
    max_tokens: int | None = None
    """Tokens that the agent reports; None is no limit."""
    max_cost: float | None = None
    """Money that the agent reports, a number in whatever currency it reports; None is no limit."""
    within: str | float | None = None
    """What was used within this time counts; None counts everything since the last resumption."""
    per_session: SessionBudget = attrs.field(default=SessionBudget(), converter=_per_session)
    """The limits of each single session; beyond them the agent is parked in that session only."""
    extra: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Fields of a newer peer, kept as they came."""

    @property
    def window(self) -> float | None:
        """`within` in seconds; None is for ever."""
        return parse_duration(self.within, "budget.within")


Limits = BudgetBlock | SessionBudget


@attrs.frozen
class Slice:
    """What was used between two instants."""

    first: float
    """When the first of it was, seconds since 1970."""
    last: float
    """When the last of it was."""
    usage: Usage
    """How much."""


@attrs.frozen
class Parking:
    """Why an agent gets no mail."""

    since: float
    """Since when, seconds since 1970."""
    limit: str
    """The field of its rule that it is beyond; empty where the operator has parked it."""
    reason: str
    """In words."""


@attrs.frozen
class Account:
    """What one agent has used, in all or in one session."""

    total: Usage = NOTHING
    """Ever."""
    slices: tuple[Slice, ...] = ()
    """Since the budget began or was begun afresh, oldest first."""
    keys: tuple[str, ...] = ()
    """The newest reports, so that one that comes twice counts once."""
    parked: Parking | None = None
    """Set while it is parked."""


NO_ACCOUNT = Account()


def charged(account: Account, usage: Usage, now: float, window: float | None = None, key: str = "") -> Account:
    """The account with some more used. What has left the window is let go; a report that is known changes nothing."""
    if key and key in account.keys:
        return account
    slices = account.slices if window is None else tuple(_within(account, now, window))
    newest = slices[-1] if slices else None
    if newest is not None and (window is None or now - newest.first < window / SLICES):
        grown = Slice(newest.first, max(now, newest.last), newest.usage + usage)
        slices = (*slices[:-1], grown)
    else:
        slices = (*slices, Slice(now, now, usage))
    keys = (*account.keys, key)[-KEYS:] if key else account.keys
    return attrs.evolve(account, total=account.total + usage, slices=slices, keys=keys)


def _within(account: Account, now: float, window: float) -> Iterator[Slice]:
    return (part for part in account.slices if part.last > now - window)


def counting(account: Account, now: float, window: float | None = None) -> Usage:
    """What counts now."""
    used = NOTHING
    for part in account.slices if window is None else _within(account, now, window):
        used += part.usage
    return used


def exceeded(limits: Limits, used: Usage, prefix: str = "budget") -> tuple[str, str] | None:
    """The first limit that more was used than, as `(field, words)`; None where nothing is."""
    for name in FIELDS:
        limit, amount = getattr(limits, f"max_{name}"), getattr(used, name)
        if limit is not None and amount > limit:
            field = f"{prefix}.max_{name}"
            return field, f"{amount:g} {name.replace('_', ' ')} used, {field} allows {limit:g}"
    return None


def refreshed(account: Account) -> Account:
    """The account with a fresh budget; what was used in all stays known."""
    return attrs.evolve(account, slices=(), parked=None)


def has_limits(limits: Limits) -> bool:
    """Whether there is any limit."""
    return any(getattr(limits, f"max_{name}") is not None for name in FIELDS)


def check_budget(block: BudgetBlock) -> None:
    """Raise `InvalidInput` naming the field that is out of range, or that nothing could ever enforce."""
    if not isinstance(block.per_session, SessionBudget):
        raise InvalidInput("budget.per_session must be a SessionBudget", field="budget.per_session")
    for prefix, limits in (("budget", block), ("budget.per_session", block.per_session)):
        _check_count(f"{prefix}.max_restarts", limits.max_restarts, 0)
        _check_count(f"{prefix}.max_failed_turns", limits.max_failed_turns, 0)
        _check_count(f"{prefix}.max_tokens", limits.max_tokens, 1)
        if limits.max_cost is not None:
            _check_amount(f"{prefix}.max_cost", limits.max_cost, above_zero=True)
    if block.window is not None and not has_limits(block):
        raise InvalidInput(
            "budget.within bounds nothing: set one of max_restarts, max_failed_turns, max_tokens or max_cost with it",
            field="budget.within",
        )


def _check_count(field: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise InvalidInput(f"{field}={value!r} must be a whole number of at least {least}, or None", field=field)


def _check_amount(field: str, value: object, *, above_zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise InvalidInput(f"{field}={value!r} must be a number of at least 0", field=field)
    if above_zero and not value:
        raise InvalidInput(f"{field}=0 would park whoever reports at all; use None for no limit", field=field)
    return float(value)


def reported(usage: Any) -> Usage | None:
    """What an agent says that it has used: a mapping, or an object, with `total_tokens`, or `input_tokens` and
    `output_tokens`, and `cost`.

    None where it says nothing of the kind. Raises `InvalidInput` for what is negative, no number, or too large.
    """
    said = {name: value for name in _REPORTED if (value := _said(usage, name)) is not None}
    if not said:
        return None
    for name in _REPORTED[:3]:
        _check_count(f"usage.{name}", said.get(name), 0)
    tokens = said.get("total_tokens")
    if tokens is None:
        tokens = said.get("input_tokens", 0) + said.get("output_tokens", 0)
    return check_usage(Usage(tokens=tokens, cost=_check_amount("usage.cost", said.get("cost", 0.0))))


def _said(usage: Any, name: str) -> Any:
    value = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
    return None if callable(value) else value


def check_usage(usage: Usage) -> Usage:
    """What an agent reports about itself, if it is in range: it can only add. Raises `InvalidInput`."""
    for name in ("restarts", "failed_turns"):
        if getattr(usage, name):
            raise InvalidInput(f"usage.{name} is counted by the hub, not reported", field=f"usage.{name}")
    _check_count("usage.tokens", usage.tokens, 0)
    _check_amount("usage.cost", usage.cost)
    return usage


def cap_of(limit: float | None) -> float:
    """The limit as a number to be compared: none is infinity."""
    return math.inf if limit is None else limit
