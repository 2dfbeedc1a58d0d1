"""Whether a changed rule grants more than before. Pure.

An agent may only tighten its own rule, so every field is compared, and where it cannot be told (a pattern that is not
plainly narrower, a field of a newer peer) the answer is that it does grant more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

from ..actors.sessions.budget import FIELDS, cap_of, has_limits
from ..actors.sessions.rule import InboxBlock, RateBlock, Rule
from ..mailbox.clock import parse_duration
from ..mailbox.limits import high_water_mark


def loosened(old: Rule, new: Rule) -> str | None:
    """Which field of `new` grants more than `old`, or None: an agent may only tighten its own rule."""
    for field, before, after in _globs(old, new):
        if not all(covers_any(before, glob) for glob in after):
            return field
    for field, before_cap, after_cap in _caps(old, new):
        if after_cap > before_cap:
            return field
    if old.inbox.max_pending is not None and new.inbox.overflow != old.inbox.overflow:
        return "inbox.overflow"
    return "extra" if (new.extra, _more_of(new)) != (old.extra, _more_of(old)) else None


def _more_of(rule: Rule) -> tuple[object, object]:
    return rule.budget.extra, rule.budget.per_session.extra


def _globs(old: Rule, new: Rule) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    before, after = old.access, new.access
    yield "access.inbound_from", before.inbound_from, after.inbound_from
    yield "access.outbound_to", before.outbound_to, after.outbound_to
    yield "access.session_types.initiate", before.session_types.initiate, after.session_types.initiate
    yield "access.session_types.accept", before.session_types.accept, after.session_types.accept


def _caps(old: Rule, new: Rule) -> Iterator[tuple[str, float, float]]:
    """Field, cap before, cap after; none is infinity."""
    before, after = old.limits, new.limits
    yield "limits.delegation_depth", _cap(before.delegation_depth), _cap(after.delegation_depth)
    yield (
        "limits.max_concurrent_sessions",
        _cap(before.max_concurrent_sessions),
        _cap(after.max_concurrent_sessions),
    )
    yield "limits.max_concurrent_tasks", _cap(before.max_concurrent_tasks), _cap(after.max_concurrent_tasks)
    yield "limits.automatic_turns", _cap(before.automatic_turns), _cap(after.automatic_turns)
    yield "limits.session_ttl_default", _ttl(before.session_ttl_default), _ttl(after.session_ttl_default)
    yield "limits.task_ttl_default", _ttl(before.task_ttl_default), _ttl(after.task_ttl_default)
    yield "rate.envelopes_per_minute", _cap(old.rate.envelopes_per_minute), _cap(new.rate.envelopes_per_minute)
    yield "rate.burst", burst_of(old.rate), burst_of(new.rate)
    yield "inbox.max_pending", _cap(old.inbox.max_pending), _cap(new.inbox.max_pending)
    yield "inbox.high_water", _mark(old.inbox), _mark(new.inbox)
    yield from _budgets(old, new)


def _budgets(old: Rule, new: Rule) -> Iterator[tuple[str, float, float]]:
    """A longer window counts more, so it is the tighter one; none is the longest."""
    before, after = old.budget, new.budget
    for name in FIELDS:
        field = f"max_{name}"
        yield f"budget.{field}", cap_of(getattr(before, field)), cap_of(getattr(after, field))
        yield (
            f"budget.per_session.{field}",
            cap_of(getattr(before.per_session, field)),
            cap_of(getattr(after.per_session, field)),
        )
    if has_limits(before):
        yield "budget.within", -cap_of(before.window), -cap_of(after.window)


def _cap(value: float | None) -> float:
    return value or math.inf


def _ttl(value: str | float | None) -> float:
    seconds = parse_duration(value)
    return math.inf if seconds is None else seconds


def burst_of(block: RateBlock) -> float:
    """How many envelopes the rule admits at once."""
    if not block.envelopes_per_minute:
        return math.inf
    return max(1.0, block.burst or block.envelopes_per_minute / 60.0)


def _mark(block: InboxBlock) -> float:
    return high_water_mark(_cap(block.max_pending), block.high_water or None)


def covers_any(globs: tuple[str, ...], glob: str) -> bool:
    """Whether one of the globs plainly admits every name that `glob` does."""
    return any(covers(wide, glob) for wide in globs)


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` admits every name that `narrow` does; False also where that cannot be told."""
    if wide in ("*", narrow):
        return True
    if not any(char in narrow for char in "*?["):
        return fnmatchcase(narrow, wide)
    if "[" in wide or "[" in narrow:
        return False
    return _covers_from(wide, narrow)


def _covers_from(wide: str, narrow: str) -> bool:
    """The star of `wide` takes any part of `narrow`, its `?` one character or `?`, a character only itself."""
    reached = [not i for i in range(len(narrow) + 1)]
    for char in wide:
        here = [reached[0] and char == "*"]
        for i, other in enumerate(narrow, 1):
            if char == "*":
                here.append(reached[i] or here[-1])
            else:
                here.append(reached[i - 1] and other != "*" and char in ("?", other))
        reached = here
    return reached[-1]
