"""Invariants of a hub's tables: each looks at what is in memory now, changes nothing and takes microseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..actors.runtime.coordinator import Coordinator
from ..hub.connections import Connection
from ..hub.session import SessionCell
from .evidence import Evidence

Problems = Iterator[str]


def inbox_counts_exact(seen: Evidence) -> Problems:
    """Every pending delivery holds one slot of its inbox, and nothing else does once no commit is under way."""
    idle = not seen.services.writer.statistics()["queued"]
    for entry in seen.services.directory:
        used, counted = entry.inbox.mailbox.used, entry.inbox.desk.counted() + entry.inbox.unread
        if used < counted or (idle and used != counted):
            yield f"the inbox of {entry.name} counts {used} slots for {counted} pending deliveries"


def inbox_cap_kept(seen: Evidence) -> Problems:
    """No inbox grows beyond its cap; only what a restart brings back may be more than a lowered cap allows."""
    before, now = seen.past.used, {}
    for entry in seen.services.directory:
        used, cap = entry.inbox.mailbox.used, entry.rule.inbox.max_pending
        now[entry.agent_id] = used
        if cap is not None and used > max(cap, before.get(entry.agent_id, used)):
            yield f"the inbox of {entry.name} holds {used} of {cap}"
    seen.past.used = now


def session_cap_kept(seen: Evidence) -> Problems:
    """Nobody opens more sessions than its rule allows; only what it had before a cap was lowered may be more."""
    before, now = seen.past.opened, {}
    for entry in seen.services.directory:
        count, cap = entry.open_sessions, entry.rule.limits.max_concurrent_sessions
        now[entry.agent_id] = count
        if cap and count > max(cap, before.get(entry.agent_id, count)):
            yield f"{entry.name} has {count} open sessions of {cap}"
    seen.past.opened = now


def in_flight_exact(seen: Evidence) -> Problems:
    """What the desk believes to be out is what is out, and is never more than its window."""
    for entry in seen.services.directory:
        desk = entry.inbox.desk
        out = sum(line.counted_out for line in desk._lines.values())
        real = sum(d.counted for line in desk._lines.values() for d in line.out.values())
        if not out == real == desk.in_flight:
            yield f"the desk of {entry.name} counts {desk.in_flight} deliveries out, its lines {out}; there are {real}"


def terminal_never_changes(seen: Evidence) -> Problems:
    """A session that has ended stays ended, at the same time and for the same reason."""
    for cell in seen.cells():
        live = cell.live
        before = seen.past.ended.get(cell.session_id)
        now = (live.state, live.closed_at, live.close_reason, live.sequence)
        if before is not None and before != now:
            yield f"session {cell.session_id} had ended as {before} and is {now}"
        if live.terminal:
            seen.past.ended[cell.session_id] = now


def cursors_only_forward(seen: Evidence) -> Problems:
    """A cursor never moves back, and never beyond the log."""
    now = {}
    for cell in seen.cells():
        for agent_id in cell.setup.participants:
            cursor = cell.log.cursor(agent_id)
            place = (cell.session_id, agent_id)
            now[place] = cursor
            if cursor < seen.past.cursors.get(place, 0):
                yield f"the cursor of {agent_id} in {cell.session_id} went from {seen.past.cursors[place]} to {cursor}"
            if cursor > cell.live.sequence:
                yield f"the cursor of {agent_id} in {cell.session_id} is {cursor}, past the log's {cell.live.sequence}"
    seen.past.cursors = now


def cursor_below_pending(seen: Evidence) -> Problems:
    """Whatever is still pending lies beyond the cursor, so that a restart would deliver it again."""
    for entry in seen.services.directory:
        for session_id in entry.inbox.desk._lines:
            cell = seen.services.sessions.held(session_id)
            lowest = entry.inbox.desk.lowest(session_id)
            if cell is not None and lowest is not None and cell.log.handled(entry.agent_id, lowest):
                yield f"{entry.name} has {lowest} of {session_id} pending, and its cursor says that it was handled"


def session_pending_exact(seen: Evidence) -> Problems:
    """A session knows how many deliveries of it are pending, since it is let go once there are none."""
    waiting: Counter[tuple[str, str]] = Counter()
    for entry in seen.services.directory:
        for session_id, line in entry.inbox.desk._lines.items():
            waiting[session_id, entry.agent_id] = len(line.queued) + len(line.out)
    for dormant in seen.services.sessions.dormant():
        for agent_id, unread in dormant.unread.items():
            waiting[dormant.session_id, agent_id] += sum(unread)
    for cell in seen.services.sessions.everything():
        for agent_id in cell.participants:
            counted = (cell.log._pending or {}).get(agent_id, 0)
            if counted != waiting[cell.session_id, agent_id] and agent_id in seen.services.directory:
                there = waiting[cell.session_id, agent_id]
                yield f"session {cell.session_id} counts {counted} deliveries pending to {agent_id}; there are {there}"


def no_two_incarnations(seen: Evidence) -> Problems:
    """Of every actor there is at most one task, and its recorded state agrees with that."""
    yield from _incarnations(seen.top)


def _incarnations(node: Coordinator) -> Problems:
    kids = node._kids
    tasks = Counter(task.name for task in kids.child_tasks) if kids is not None else Counter()
    for child in node._nodes.values():
        if tasks[child.name] > 1:
            yield f"{child.path} has {tasks[child.name]} incarnations alive"
        if not child.is_running and tasks[child.name]:
            yield f"{child.path} is {child.state} and still has a task"
        if isinstance(child, Coordinator):
            yield from _incarnations(child)


def names_and_ids_match(seen: Evidence) -> Problems:
    """Names and ids of registered agents are in one-to-one correspondence."""
    directory = seen.services.directory
    ids = {entry.name: entry.agent_id for entry in directory}
    if ids != directory._ids or len(ids) != len(directory):
        yield f"the directory finds {directory._ids} by name, and holds {ids}"


def capability_index_exact(seen: Evidence) -> Problems:
    """The index of capabilities is what the résumés say."""
    directory = seen.services.directory
    fresh: dict[str, set[str]] = {}
    for entry in directory:
        for capability in entry.capabilities():
            fresh.setdefault(capability, set()).add(entry.agent_id)
    held = {capability: set(holders) for capability, holders in directory._capable.items()}
    if held != fresh:
        yield f"the index of capabilities is {_sorted(held)} and should be {_sorted(fresh)}"


def _sorted(index: dict[str, set[str]]) -> dict[str, list[str]]:
    return {key: sorted(index[key]) for key in sorted(index)}


def open_sessions_counted(seen: Evidence) -> Problems:
    """The count of open sessions that limits each agent is the number of sessions it has open."""
    held = seen.services.sessions.everything()
    created = Counter(session.participants[0] for session in held if not session.is_terminal)
    for entry in seen.services.directory:
        if entry.open_sessions != created[entry.agent_id]:
            yield f"{entry.name} is charged with {entry.open_sessions} open sessions and has {created[entry.agent_id]}"


def open_tasks_counted(seen: Evidence) -> Problems:
    """The count of tasks that limits each agent is the number of its running tasks."""
    if seen.services.writer.statistics()["queued"]:
        return
    owned = Counter(task.owner_id for task in seen.services.tasks.all_running())
    for entry in seen.services.directory:
        if entry.open_tasks != owned[entry.agent_id]:
            yield f"{entry.name} is charged with {entry.open_tasks} tasks and has {owned[entry.agent_id]}"


def one_connection_per_identity(seen: Evidence) -> Problems:
    """An identity is held by one connection, and both sides agree on it."""
    connections = {id(c): c for c in (*seen.past.connections, *_held(seen))}
    seen.past.connections = [c for c in connections.values() if c.bound]
    for connection in seen.past.connections:
        for entry in connection.bound.values():
            if entry.inbox.connection is not connection:
                yield f"{connection.endpoint_id} believes to hold {entry.name}, whose mail goes elsewhere"
    for entry in seen.services.directory:
        holder = entry.inbox.connection
        if holder is not None and holder.bound.get(entry.agent_id) is not entry:
            yield f"the mail of {entry.name} goes to {holder.endpoint_id}, which does not hold it"


def only_registered_agents_act(seen: Evidence) -> Problems:
    """No connection acts for an agent that was unregistered."""
    directory = seen.services.directory
    for connection in seen.past.connections:
        for agent_id, entry in connection.bound.items():
            if directory.get(agent_id) is not entry:
                yield f"{connection.endpoint_id} acts for {entry.name}, which is not registered"


def _held(seen: Evidence) -> list[Connection]:
    return [c for entry in seen.services.directory if (c := entry.inbox.connection) is not None]


def tail_meets_live(seen: Evidence) -> Problems:
    """What is judged on is what is durable, once no commit is under way."""
    if seen.services.writer.statistics()["queued"]:
        return
    for cell in seen.cells():
        if cell.tail.sequence != cell.live.sequence:
            yield f"session {cell.session_id} is judged as of {cell.tail.sequence} and durable to {cell.live.sequence}"


def deadlines_kept(seen: Evidence) -> Problems:
    """No session outlives its TTL or its invitations' deadline by more than two sweeps once faults have stopped."""
    interval = seen.services.settings.ttl_sweep_interval
    if not seen.is_settled or not interval:
        return
    now = seen.services.clock.time() - 2 * interval
    for cell in seen.cells():
        ends = [at for at in (cell.setup.expires_at, _answers_due(cell)) if at is not None]
        if not cell.live.terminal and ends and min(ends) < now:
            yield f"session {cell.session_id} should have ended {now - min(ends):.1f} s ago and is {cell.live.state}"


def _answers_due(cell: SessionCell) -> float | None:
    return cell.setup.ack_deadline if cell.live.state == "pending" else None


def everything_settles(seen: Evidence) -> Problems:
    """Once faults have stopped, every delivery to a connected agent is handled or given up; nobody waits."""
    if not seen.is_settled:
        return
    for entry in seen.services.directory:
        left = len(entry.inbox.desk)
        if left and entry.inbox.connection is not None:
            yield f"{entry.name} still has {left} deliveries pending"
        waiting = entry.inbox.mailbox.statistics().tasks_waiting_put
        if waiting:
            yield f"{waiting} senders still wait for {entry.name}"
    for cell in seen.cells():
        if cell.waiting or cell.opened is not None:
            yield f"somebody still waits for session {cell.session_id}"
