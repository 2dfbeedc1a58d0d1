"""What a kernel reports, to one sink: `on_event(event)`.

Audit, metrics, tracing and live views all subscribe to this union and to nothing else. Events are facts: the sink is
called in the step in which they became true, and cannot change them.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs


@attrs.frozen
class ActorUp:
    """An incarnation has started and takes mail."""

    name: str
    """The path of the child, from its root supervisor down, like `root/agents/ann`."""
    incarnation: int
    """1 for the first start, one more at each restart."""
    kind: str = "actor"
    """`actor` or `supervisor`."""


@attrs.frozen
class ActorExit:
    """A child has stopped for good; its ref takes no more mail."""

    name: str
    """The path of the child."""
    incarnation: int
    """The last incarnation."""
    reason: str
    """Why, in words: `stopped`, `crashed: ...`."""


@attrs.frozen
class ActorCrash:
    """An incarnation ended with an error. What follows is decided by the child's restart rule."""

    name: str
    """The path of the child."""
    incarnation: int
    """The incarnation that crashed."""
    cause: BaseException
    """The error; a group of several errors of one crash stays a group."""
    started: bool = True
    """False if `on_start` failed."""


@attrs.frozen
class ActorRestart:
    """A crashed or ended child will be started again after `delay` seconds."""

    name: str
    """The path of the child."""
    incarnation: int
    """The incarnation that ended."""
    delay: float
    """Seconds of backoff before the next start."""
    restarts: int
    """How many restarts the budget has counted within its window, this one included."""


@attrs.frozen
class Escalated:
    """A supervisor has used up its restart budget and gives up: it stops its children and raises."""

    name: str
    """The path of the supervisor."""
    child: str
    """The path of the child whose crash was one too many."""
    restarts: int
    """How many restarts fell into the window."""


@attrs.frozen
class Draining:
    """A supervisor has closed its children's intake and lets them finish, in reverse order."""

    name: str
    """The path of the supervisor."""
    children: int
    """How many children were running."""


@attrs.frozen
class Stuck:
    """A child ignores its cancellation. The kernel keeps waiting for it; nobody is abandoned."""

    name: str
    """The path of the child."""
    incarnation: int
    """The incarnation that does not end."""
    stack: tuple[str, ...]
    """Where its task is: one line per frame, outermost first; those of its own child tasks follow."""


@attrs.frozen
class DeadLetter:
    """A message will not be handled."""

    name: str
    """The path of the actor it was for."""
    message: Any
    """The message itself."""
    reason: str
    """Why: the overflow policy, a crash, a stop, too many attempts, a refusal."""


@attrs.frozen
class HighWater:
    """A mailbox has filled up to its high-water mark; reported once per rise."""

    name: str
    """The path of the actor."""
    used: int
    """Slots in use."""
    capacity: float
    """The cap."""


Event: TypeAlias = (
    ActorUp | ActorExit | ActorCrash | ActorRestart | Escalated | Draining | Stuck | DeadLetter | HighWater
)
