"""What a supervisor is told about its children: plain frozen records."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from ...mailbox.box import OVERFLOWS, Overflow
from ...mailbox.errors import InvalidInput
from ...mailbox.priority import Priority

if TYPE_CHECKING:
    from .actor import Actor

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
OnCrash: TypeAlias = Literal["dead_letter", "redeliver"]

RESTARTS: Final = ("permanent", "transient", "temporary")
STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")
ON_CRASH: Final = ("dead_letter", "redeliver")


def _one_of(*allowed: str) -> Callable[[Any, Any, str], None]:
    def check(_: Any, field: Any, value: str) -> None:
        if value not in allowed:
            raise InvalidInput(f"{field.name}={value!r} is none of {', '.join(allowed)}")

    return check


def _at_least(low: float) -> Callable[[Any, Any, float | None], None]:
    def check(_: Any, field: Any, value: float | None) -> None:
        if value is not None and not value >= low:
            raise InvalidInput(f"{field.name}={value!r} must be {low:g} or more")

    return check


def _named(_: Any, field: Any, value: str) -> None:
    if not value or "/" in value:
        raise InvalidInput(f"{field.name}={value!r}: a child's name is not empty and has no '/', which joins paths")


@attrs.frozen
class Backoff:
    """How long a crashed child rests before it is started again: min, min*factor, min*factor², ... up to max."""

    min: float = attrs.field(default=0.0, validator=_at_least(0))
    """Seconds before the first restart of a streak."""
    max: float = attrs.field(default=30.0, validator=_at_least(0))
    """The longest rest in seconds."""
    factor: float = attrs.field(default=2.0, validator=_at_least(1))
    """What each further crash of the streak multiplies the rest by."""
    jitter: float = attrs.field(default=0.0, validator=_at_least(0))
    """Up to this share is added at random, so that a herd does not return at one moment."""

    def delay(self, streak: int, rng: random.Random) -> float:
        """Seconds to rest before the restart after the `streak`-th crash in a row."""
        rest = min(self.max, self.min * self.factor ** min(streak - 1, 64))
        return rest * (1 + self.jitter * rng.random()) if self.jitter else rest


@attrs.frozen
class Child:
    """An actor as its supervisor knows it. `make` is called for every incarnation, so each starts afresh."""

    name: str = attrs.field(validator=_named)
    """Unique among its siblings."""
    make: Callable[[], Actor]
    """Makes the actor object; called once per incarnation."""
    restart: Restart = attrs.field(default="permanent", validator=_one_of(*RESTARTS), kw_only=True)
    """`permanent`: always restarted. `transient`: after a crash only. `temporary`: never."""
    grace: float = attrs.field(default=5.0, validator=_at_least(0), kw_only=True)
    """Seconds to finish the queue when stopped, then again seconds for `on_stop`."""
    capacity: float = attrs.field(default=1000, validator=_at_least(1), kw_only=True)
    """Slots of the mailbox; `math.inf` for no cap."""
    overflow: Overflow = attrs.field(default="reject", validator=_one_of(*OVERFLOWS), kw_only=True)
    """What `tell` does when the mailbox is full."""
    backoff: Backoff = attrs.field(factory=Backoff, kw_only=True)
    """The rest before a restart."""
    on_crash: OnCrash = attrs.field(default="dead_letter", validator=_one_of(*ON_CRASH), kw_only=True)
    """What becomes of the told message in hand when the handler crashes. A question always fails its asker."""
    max_attempts: int = attrs.field(default=3, validator=_at_least(1), kw_only=True)
    """With `redeliver`: after so many crashes over one message it is dead-lettered."""
    key: Callable[[Any], Hashable] | None = attrs.field(default=None, kw_only=True)
    """The key of a message; those of one key are never reordered by priority."""
    priority: Callable[[Any], Priority] | None = attrs.field(default=None, kw_only=True)
    """The priority of a message that is told without one."""
    max_restarts: int | None = attrs.field(default=None, validator=_at_least(0), kw_only=True)
    """A restart budget of this child's own instead of its share in the supervisor's."""
    within: float | None = attrs.field(default=None, validator=_at_least(0), kw_only=True)
    """The seconds over which `max_restarts` counts; None takes the supervisor's."""


def _as_tuple(children: Iterable[Child | Group]) -> tuple[Child | Group, ...]:
    return tuple(children)


@attrs.frozen
class Group:
    """A supervisor as the child of another: its own children, strategy and restart budget."""

    name: str = attrs.field(validator=_named)
    """Unique among its siblings."""
    children: tuple[Child | Group, ...] = attrs.field(default=(), converter=_as_tuple)
    """Started in this order, stopped in reverse."""
    strategy: Strategy = attrs.field(default="one_for_one", validator=_one_of(*STRATEGIES), kw_only=True)
    """Who is restarted with a crashed child: only it, all, or it and those started after it."""
    max_restarts: int = attrs.field(default=3, validator=_at_least(0), kw_only=True)
    """How many restarts within `within` seconds are borne; one more escalates."""
    within: float = attrs.field(default=5.0, validator=_at_least(0), kw_only=True)
    """The window of the restart budget in seconds."""
    restart: Restart = attrs.field(default="permanent", validator=_one_of(*RESTARTS), kw_only=True)
    """What the parent does when this supervisor gives up."""
    grace: float = attrs.field(default=math.inf, validator=_at_least(0), kw_only=True)
    """Seconds for the whole group to stop; unlimited, since its children have their own."""
    backoff: Backoff = attrs.field(factory=Backoff, kw_only=True)
    """The rest before the group is started again."""
