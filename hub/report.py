"""How the hub is and what it has done: frozen records for operators, metrics and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ..actors.runtime.supervisor import Supervisor
from .directory import AgentInfo, Entry
from .stores.damage import CheckedStore

if TYPE_CHECKING:
    from .services import Services


@attrs.frozen
class Health:
    """How the hub is."""

    status: str
    """`ok`, or `degraded` with reasons."""
    reasons: tuple[str, ...]
    """What is wrong, in words."""
    durable: bool
    """Whether an accepted envelope survives the loss of power."""
    registered_agents: int
    """Agents in the directory."""
    active_sessions: int
    """Sessions that have not ended."""
    pending_deliveries: int
    """Deliveries that hold a slot."""
    deepest_inbox: int
    """The largest number of pending deliveries of one agent."""
    sweepers: tuple[str, ...]
    """Sweepers that are running."""
    quarantined: tuple[str, ...]
    """Documents and sessions that are set aside."""
    parked_agents: tuple[str, ...] = ()
    """Names of agents that wait for an operator to resume them, in all their sessions or in some."""


@attrs.frozen
class HubStatistics:
    """Counts of what the hub has done and holds."""

    total_accepted: int
    """Envelopes accepted, the hub's own included."""
    total_commits: int
    """Commits of the log writer."""
    total_failed_commits: int
    """Commits that the store refused."""
    total_dead_letters: int
    """Deliveries given up."""
    total_audit_records: int
    """Audit records written."""
    current_agents: int
    """Agents registered."""
    current_sessions: int
    """Sessions with work left, folded or not."""
    current_tasks: int
    """Running tasks."""
    current_connections: int
    """Links being served."""
    current_pending: int
    """Deliveries that hold a slot."""
    current_unsettled: int
    """Deliveries that are not acknowledged, bookkeeping included."""


def health_of(services: Services, top: Supervisor) -> Health:
    """Look at every part."""
    entries = list(services.directory)
    pending = [entry.inbox.pending for entry in entries]
    sweepers = top.group("sweepers")
    up = tuple(name for name in sweepers.names() if sweepers.ref(name).is_running)
    reasons = [f"sweeper {name} is not running" for name in sweepers.names() if name not in up]
    found = services.store.damaged_nowait() if isinstance(services.store, CheckedStore) else ()
    known = (*services.quarantined, *services.sessions.quarantined, *(f"{one.kind} {one.name}" for one in found))
    quarantined = tuple(dict.fromkeys(known))
    reasons += [f"{key} is set aside" for key in quarantined]
    if services.writer.total_failures:
        reasons.append(f"the store refused {services.writer.total_failures} commits")
    reasons += [f"audit: {problem}" for problem in services.audit.problems]
    if services.audit.unreadable:
        reasons.append(f"{len(services.audit.unreadable)} audit records are unreadable")
    if services.audit.total_lost:
        reasons.append(f"{services.audit.total_lost} audit records could not be written")
    return Health(
        status="degraded" if reasons else "ok",
        reasons=tuple(reasons),
        durable=services.store.durable,
        registered_agents=len(entries),
        active_sessions=services.sessions.count_open(),
        pending_deliveries=sum(pending),
        deepest_inbox=max(pending, default=0),
        sweepers=up,
        quarantined=quarantined,
        parked_agents=tuple(sorted(entry.name for entry in entries if is_parked(entry))),
    )


def statistics_of(services: Services, top: Supervisor) -> HubStatistics:
    """Read every counter."""
    entries = list(services.directory)
    return HubStatistics(
        total_accepted=services.sessions.total_accepted,
        total_commits=services.writer.total_commits,
        total_failed_commits=services.writer.total_failures,
        total_dead_letters=services.dead_letters.total,
        total_audit_records=services.audit.total_records,
        current_agents=len(entries),
        current_sessions=len(services.sessions),
        current_tasks=len(services.tasks),
        current_connections=len(top.group("connections")),
        current_pending=sum(entry.inbox.pending for entry in entries),
        current_unsettled=sum(
            len(entry.inbox.desk) + entry.inbox.unread + entry.inbox.unread_notes for entry in entries
        ),
    )


def is_parked(entry: Entry) -> bool:
    """Whether the agent waits for an operator, anywhere."""
    return entry.account.parked is not None or bool(entry.inbox.desk.parked)


def agent_info(entry: Entry) -> AgentInfo:
    """What the operator sees of an agent."""
    return AgentInfo(
        name=entry.name,
        agent_id=entry.agent_id,
        kind=entry.passport.kind,
        connected=entry.inbox.connection is not None,
        pending=entry.inbox.pending,
        max_pending=entry.rule.inbox.max_pending,
        open_sessions=entry.open_sessions,
        parked=None if entry.account.parked is None else entry.account.parked.reason,
        parked_in=tuple(sorted(entry.inbox.desk.parked)),
    )
