"""The promises of a hub, each with a name that a failure cites.

`await check_invariants(hub)` holds a hub to all of them at once; `check_now(hub)` to those that need no reading, which
may be done after every step. A simulation watches from outside as well, and so holds a hub to what it has told others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

import attrs

from . import held_in_logs as logs
from . import held_now as now
from .evidence import Evidence, Past
from .ledger import Ledger

if TYPE_CHECKING:
    from ..hub.hub import Hub

Check = Callable[[Evidence], Iterator[str]]


class InvariantBroken(AssertionError):
    """A promise of the hub does not hold. `name` says which, `problem` how."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


@attrs.frozen
class Invariant:
    """One promise."""

    name: str
    """What failures cite."""
    promise: str
    """What is promised, in a sentence."""
    now: Check | None = None
    """Looks at the hub's tables; cheap."""
    logs: Check | None = None
    """Looks at the logs, once they have been read."""
    outside: bool = False
    """Whether it takes a ledger, which only a simulation keeps."""


def _of(now: Check | None = None, logs: Check | None = None, *, outside: bool = False) -> Invariant:
    check = now or logs
    assert check is not None
    promises = [c.__doc__ or "" for c in (now, logs) if c is not None]
    return Invariant(check.__name__, " ".join(promises), now, logs, outside)


def _watched(name: str, promise: str) -> Invariant:
    return Invariant(name, promise, outside=True)


INVARIANTS: dict[str, Invariant] = {
    invariant.name: invariant
    for invariant in (
        _of(logs=logs.sequence_without_gaps),
        _of(logs=logs.fold_equals_live),
        _of(logs=logs.nobody_out_of_turn),
        _of(now.terminal_never_changes, logs.terminal_never_changes),
        _of(logs=logs.idempotency_key_once),
        _of(logs=logs.one_audit_record_per_event),
        _of(logs=logs.audit_chain_unbroken),
        _of(logs=logs.expectation_fires_once),
        _of(logs=logs.task_ends_once),
        _of(now.inbox_counts_exact),
        _of(now.inbox_cap_kept),
        _of(now.session_cap_kept),
        _of(now.in_flight_exact),
        _of(now.cursors_only_forward),
        _of(now.cursor_below_pending),
        _of(now.session_pending_exact),
        _of(now.no_two_incarnations),
        _of(now.names_and_ids_match),
        _of(now.capability_index_exact),
        _of(now.open_sessions_counted),
        _of(now.open_tasks_counted),
        _of(now.one_connection_per_identity),
        _of(now.only_registered_agents_act),
        _of(now.tail_meets_live),
        _of(now.deadlines_kept),
        _of(now.everything_settles),
        _of(logs=logs.expires_on_time),
        _of(logs=logs.restart_changes_nothing, outside=True),
        _of(logs=logs.accepted_is_durable, outside=True),
        _of(logs=logs.handled_means_acknowledged, outside=True),
        _of(logs=logs.denied_never_delivered, outside=True),
        _of(logs=logs.delivered_once_in_order_or_dead_lettered, outside=True),
        _watched("visible_only_when_durable", "Nobody is delivered what a power cut could still undo."),
        _watched("one_turn_at_a_time", "An agent with a concurrency of one is asked one thing at a time."),
        _watched("no_crash_of_its_own", "No actor crashes but over a fault that was put in."),
        _watched("closing_is_bounded", "A hub that closes is down within seconds, whatever its store and links do."),
        _watched("answers_come", "Every question to the hub is answered once faults have stopped."),
    )
}


def problems_now(seen: Evidence) -> Iterator[InvariantBroken]:
    """What the hub's tables break, and what has been seen from outside since the last look."""
    for invariant in INVARIANTS.values():
        if invariant.now is not None:
            for problem in invariant.now(seen):
                yield InvariantBroken(invariant.name, problem)
    if seen.ledger is not None:
        while seen.ledger.problems:
            yield InvariantBroken(*seen.ledger.problems.pop(0))


def problems_of_logs(seen: Evidence) -> Iterator[InvariantBroken]:
    """What the logs break, after `await evidence.gather()`."""
    for invariant in INVARIANTS.values():
        if invariant.logs is not None:
            for problem in invariant.logs(seen):
                yield InvariantBroken(invariant.name, problem)


def check_now(hub: Hub, past: Past | None = None, *, ledger: Ledger | None = None) -> None:
    """Raise `InvariantBroken` unless the hub's tables keep every promise that they can be held to at once.

    `past` is the same object from call to call, for the promises about change: cursors, ended sessions.
    """
    for broken in problems_now(Evidence(hub, past or Past(), ledger)):
        raise broken


async def check_invariants(
    hub: Hub, *, only: Collection[str] = (), ledger: Ledger | None = None, is_settled: bool = False
) -> tuple[str, ...]:
    """Hold the hub to every invariant, or to those of these names; the names that were checked.

    Raises `InvariantBroken`. `is_settled` says that everything under way has had its time, so that nothing may be
    left. If cancelled: nothing has changed.
    """
    unknown = set(only) - set(INVARIANTS)
    if unknown:
        raise ValueError(f"there is no invariant {sorted(unknown)[0]!r}; there are: {', '.join(INVARIANTS)}")
    seen = await Evidence(hub, ledger=ledger, is_settled=is_settled).gather()
    for broken in (*problems_now(seen), *problems_of_logs(seen)):
        if not only or broken.name in only:
            raise broken
    return tuple(name for name, i in INVARIANTS.items() if (not only or name in only) and (ledger or not i.outside))
