"""What an agent may do and how much may be asked of it: the per-agent policy that the hub enforces."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any, Literal

import attrs

from ...mailbox.clock import parse_duration
from ...mailbox.errors import InvalidInput
from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload
from .budget import BudgetBlock, check_budget
from .identity import MAX_LIST, texts

Overflow = Literal["reject", "drop_oldest", "drop_newest", "block"]
OVERFLOWS = ("reject", "drop_oldest", "drop_newest", "block")
ANYBODY = ("*",)


@attrs.frozen
class SessionTypes:
    """Globs over session types."""

    initiate: tuple[str, ...] = attrs.field(default=ANYBODY, converter=texts)
    """Types that the agent may open."""
    accept: tuple[str, ...] = attrs.field(default=ANYBODY, converter=texts)
    """Types that it may be invited to."""


def _session_types(value: Any) -> SessionTypes:
    if isinstance(value, SessionTypes):
        return value
    if isinstance(value, dict):
        return SessionTypes(**value)
    return SessionTypes(value, value)


@attrs.frozen
class AccessBlock:
    """Who may talk to the agent, whom it may address, which sessions it may be in."""

    inbound_from: tuple[str, ...] = attrs.field(default=ANYBODY, converter=texts)
    """Globs over the names of agents whose envelopes and invitations it accepts."""
    outbound_to: tuple[str, ...] = attrs.field(default=ANYBODY, converter=texts)
    """Globs over the names of agents it may address, broadcasts included."""
    session_types: SessionTypes = attrs.field(factory=SessionTypes, converter=_session_types)
    """Which session types it may open and join; a plain list of globs means both."""


@attrs.frozen
class LimitsBlock:
    """Default lifetimes and caps; None or 0 is no cap."""

    session_ttl_default: str | float | None = "2h"
    """TTL of sessions that the agent opens without one; None leaves it to the session type."""
    task_ttl_default: str | float | None = "15m"
    """TTL of tasks that it starts without one."""
    delegation_depth: int = 5
    """The deepest chain of delegations that it may extend; 0 is no cap."""
    max_concurrent_sessions: int | None = None
    """Open sessions that it created."""
    max_concurrent_tasks: int | None = None
    """Running tasks that it owns."""
    automatic_turns: int | None = 50
    """Turns in a row that default handlers may take in a session of it without anybody else saying something."""


@attrs.frozen
class RateBlock:
    """A token bucket on the hub's clock over the envelopes that the agent sends."""

    envelopes_per_minute: float | None = None
    """Sustained rate; None or 0 is no limit."""
    burst: int | None = None
    """Envelopes at once; None is one second's worth, at least 1."""


@attrs.frozen
class InboxBlock:
    """The cap on deliveries that the agent has not acknowledged."""

    max_pending: int | None = None
    """Pending deliveries at most; None is unbounded."""
    overflow: Overflow = "reject"
    """At the cap: refuse the sender, drop the oldest or the newest as a dead letter, or let the sender wait."""
    high_water: int | None = None
    """Depth at which the hub signals pressure, once per crossing; None is 80 % of the cap."""


@attrs.frozen
class Rule:
    """One agent's governance. Agents may tighten their own, never loosen it; operators may set anything."""

    access: AccessBlock = AccessBlock()
    """Who with whom."""
    limits: LimitsBlock = LimitsBlock()
    """Lifetimes and caps."""
    rate: RateBlock = RateBlock()
    """Envelopes per minute."""
    inbox: InboxBlock = InboxBlock()
    """Pending deliveries."""
    budget: BudgetBlock = BudgetBlock()
    """Restarts, failed turns, tokens and money."""
    version: int = 1
    """Raised by one with each change."""
    extra: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Fields of a newer peer, kept as they came."""


def matches(globs: tuple[str, ...], name: str) -> bool:
    """Whether `name` fits one of the globs, case-sensitively."""
    return globs == ANYBODY or any(fnmatchcase(name, glob) for glob in globs)


def check_rule(rule: Rule) -> Rule:
    """The rule, if every field is in range; raises `InvalidInput` that names the field."""
    _check_globs(rule.access)
    parse_duration(rule.limits.session_ttl_default, "limits.session_ttl_default")
    parse_duration(rule.limits.task_ttl_default, "limits.task_ttl_default")
    _check_count("limits.delegation_depth", rule.limits.delegation_depth, 0)
    _check_count("limits.max_concurrent_sessions", rule.limits.max_concurrent_sessions, 0)
    _check_count("limits.max_concurrent_tasks", rule.limits.max_concurrent_tasks, 0)
    _check_count("limits.automatic_turns", rule.limits.automatic_turns, 0)
    _check_count("rate.burst", rule.rate.burst, 0)
    _check_rate(rule.rate.envelopes_per_minute)
    _check_count("inbox.max_pending", rule.inbox.max_pending, 1)
    _check_count("inbox.high_water", rule.inbox.high_water, 0)
    if rule.inbox.overflow not in OVERFLOWS:
        raise InvalidInput(
            f"inbox.overflow={rule.inbox.overflow!r} is unknown; use one of {', '.join(OVERFLOWS)}",
            field="inbox.overflow",
        )
    check_budget(rule.budget)
    return rule


def _check_globs(access: AccessBlock) -> None:
    lists = {
        "access.inbound_from": access.inbound_from,
        "access.outbound_to": access.outbound_to,
        "access.session_types.initiate": access.session_types.initiate,
        "access.session_types.accept": access.session_types.accept,
    }
    for field, globs in lists.items():
        if len(globs) > MAX_LIST or not all(isinstance(glob, str) and len(glob) <= 128 for glob in globs):
            raise InvalidInput(f"{field} takes at most {MAX_LIST} globs of at most 128 characters", field=field)


def _check_count(field: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{field}={value!r} must be a whole number of at least {least}, or None", field=field)


def _check_rate(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidInput(
            f"rate.envelopes_per_minute={value!r} must be a number of at least 0", field="rate.envelopes_per_minute"
        )
