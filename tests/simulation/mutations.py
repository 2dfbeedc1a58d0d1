"""Broken variants of the code and the store, one per invariant: what the invariant is there to catch.

Each is put in with monkeypatch before a simulation runs, which then has to stop at that very invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from agorio.actors.agents.inbound import Inbound
from agorio.actors.runtime.cell import Cell
from agorio.actors.sessions import judging, lifecycle
from agorio.actors.sessions.rule import Rule
from agorio.hub import (
    connections,
    delivery,
    desk,
    directory,
    expectations,
    governance,
    hub,
    inbox,
    inbox_actor,
    registry,
    sessions,
    tasks,
)
from agorio.hub.audit import AuditLog
from agorio.hub.log_writer import LogWriter
from agorio.hub.session_log import SessionLog
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.box import Mailbox
from agorio.mailbox.errors import NotFoundError
from agorio.mailbox.events import EV_EXPECTATION_VIOLATED, TASK_ENDS
from agorio.testing import nemesis
from agorio.transports.frames import AcceptFrame

Mutation = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: dict[str, Mutation] = {}
SOONEST: dict[str, int] = {}


def breaks(invariant: str, *, soonest: int = 0) -> Callable[[Mutation], Mutation]:
    """The mutation that the invariant catches, and a seed that has shown it soon; any other may as well."""

    def enter(mutation: Mutation) -> Mutation:
        MUTATIONS[invariant] = mutation
        SOONEST[invariant] = soonest
        return mutation

    return enter


def wrap(patch: pytest.MonkeyPatch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by `around(original, *args, **kwargs)`."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: around(original, *args, **kwargs))


@breaks("sequence_without_gaps")
def a_record_is_lost(patch: pytest.MonkeyPatch) -> None:
    async def read(self: Any, stream: str, after: int = 0, limit: int | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        return [
            r for r in self.read_nowait(stream, after, limit) if r.sequence != 5 or not stream.startswith("session")
        ]

    patch.setattr(MemoryKnowledgeStore, "read", read)


@breaks("fold_equals_live", soonest=1)
def the_live_state_is_not_the_fold(patch: pytest.MonkeyPatch) -> None:
    def step(original: Any, *args: Any) -> Any:
        result = original(*args)
        return attrs.evolve(result, live=attrs.evolve(result.live, departed=("nobody",)))

    wrap(patch, sessions, "step", step)


@breaks("nobody_out_of_turn")
def nobody_is_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(judging, "judge", lambda live, adapter, envelope: envelope.audience)


@breaks("terminal_never_changes")
def closed_sessions_go_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(judging, "check_open", lambda live, now: None)
    patch.setattr(judging, "judge", lambda live, adapter, envelope: envelope.audience)
    patch.setitem(lifecycle.TRANSITIONS, (lifecycle.CLOSED, lifecycle.CONTENT), lifecycle.CLOSED)


@breaks("idempotency_key_once", soonest=3)
def retries_are_news(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionLog, "first", lambda self, sender, key: None)


@breaks("one_audit_record_per_event")
def ends_are_not_audited(patch: pytest.MonkeyPatch) -> None:
    def ending(original: Any, *args: Any) -> Any:
        changes, audits = original(*args)
        return changes, audits[:-1]

    wrap(patch, sessions.Sessions, "_ending", ending)


@breaks("audit_chain_unbroken", soonest=9)
def links_are_left_out(patch: pytest.MonkeyPatch) -> None:
    wrap(patch, AuditLog, "chained", lambda original, self, *records: original(self, *records[:1]))


@breaks("expectation_fires_once", soonest=11)
def firings_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def fold_activity(original: Any, activity: Any, envelope: Any, *rest: Any) -> Any:
        if envelope.event_type == EV_EXPECTATION_VIOLATED:
            return activity
        return original(activity, envelope, *rest)

    patch.setattr(expectations, "mark_fired", lambda activity, key: activity)
    wrap(patch, expectations, "fold_activity", fold_activity)


@breaks("task_ends_once", soonest=8)
def tasks_do_not_end(patch: pytest.MonkeyPatch) -> None:
    def fold_tasks(original: Any, running: Any, envelope: Any) -> Any:
        return running if envelope.event_type in TASK_ENDS else original(running, envelope)

    wrap(patch, lifecycle, "fold_tasks", fold_tasks)


@breaks("inbox_counts_exact")
def slots_are_not_released(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mailbox, "release", lambda self, count=1: None)


@breaks("inbox_cap_kept", soonest=1)
def the_cap_is_passed(patch: pytest.MonkeyPatch) -> None:
    def reserve(self: Any) -> bool:
        self.mailbox.put_nowait(None, force=True)
        self.mailbox.take_nowait(lease=True)
        return True

    patch.setattr(inbox.Inbox, "reserve", reserve)


@breaks("in_flight_exact")
def the_window_forgets(patch: pytest.MonkeyPatch) -> None:
    def take_out(original: Any, self: Any, *args: Any) -> Any:
        before = self.in_flight
        taken = original(self, *args)
        self.in_flight = before
        return taken

    wrap(patch, desk.Desk, "_take_out", take_out)


@breaks("cursors_only_forward")
def cursors_start_again(patch: pytest.MonkeyPatch) -> None:
    def settle(original: Any, self: Any, agent_id: str, sequence: int, lowest: int | None) -> None:
        original(self, agent_id, sequence, lowest)
        if sequence % 3 == 0:
            self._everybody, self._cursors = 0, None

    wrap(patch, SessionLog, "settle", settle)


@breaks("cursor_below_pending")
def everything_counts_as_handled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionLog, "handled", lambda self, agent_id, sequence: True)


@breaks("session_pending_exact")
def sessions_do_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionLog, "expect", lambda self, agent_id: None)


@breaks("no_two_incarnations", soonest=1)
def a_predecessor_lives_on(patch: pytest.MonkeyPatch) -> None:
    def launch(original: Any, self: Any, nursery: trio.Nursery) -> None:
        original(self, nursery)
        if self.incarnation > 1:
            nursery.start_soon(trio.sleep_forever, name=self.name)

    wrap(patch, Cell, "launch", launch)


@breaks("names_and_ids_match", soonest=3)
def names_stay_taken(patch: pytest.MonkeyPatch) -> None:
    def remove(original: Any, self: Any, agent_id: str) -> Any:
        names = dict(self._ids)
        entry = original(self, agent_id)
        self._ids = names
        return entry

    wrap(patch, directory.Directory, "remove", remove)


@breaks("capability_index_exact", soonest=3)
def capabilities_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(directory.Directory, "_unindex", lambda self, agent_id, capabilities: None)


@breaks("open_sessions_counted")
def sessions_stay_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions.Sessions, "no_longer_open", lambda self, cell: None)


@breaks("open_tasks_counted", soonest=3)
def tasks_stay_charged(patch: pytest.MonkeyPatch) -> None:
    def leave(original: Any, self: Any, running: Any) -> None:
        original(self, running)
        owner = self._directory.get(running.live.owner_id)
        if owner is not None:
            owner.open_tasks += 1

    wrap(patch, tasks.TaskTable, "_leave", leave)


@breaks("one_connection_per_identity", soonest=4)
def the_old_connection_keeps_it(patch: pytest.MonkeyPatch) -> None:
    def bind(self: Any, entry: Any, window: int | None) -> None:
        self.bound[entry.agent_id] = entry
        entry.inbox.connect(self, window)

    patch.setattr(connections.Connection, "bind", bind)


@breaks("tail_meets_live", soonest=7)
def failures_are_built_upon(patch: pytest.MonkeyPatch) -> None:
    def failed(original: Any, self: Any, cell: Any, *args: Any) -> Any:
        tail = cell.tail
        outcome = original(self, cell, *args)
        cell.tail = tail
        return outcome

    wrap(patch, sessions.Sessions, "_failed", failed)


@breaks("deadlines_kept", soonest=1)
def nobody_sweeps(patch: pytest.MonkeyPatch) -> None:
    async def sweep_ttl(sessions: Any, now: float) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    patch.setattr(hub, "sweep_ttl", sweep_ttl)


@breaks("everything_settles", soonest=1)
def backoffs_never_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(desk.Desk, "release_held", lambda self, now: None)


@breaks("accepted_is_durable", soonest=1)
def the_disk_lies(patch: pytest.MonkeyPatch) -> None:
    wrap(patch, nemesis.Faults, "store", lambda original, self: {**original(self), "unsynced": 5.0})


@breaks("denied_never_delivered")
def audiences_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(delivery, "recipients", lambda setup, envelope: setup.participants)


@breaks("delivered_once_in_order_or_dead_lettered", soonest=1)
def deliveries_go_out_backwards(patch: pytest.MonkeyPatch) -> None:
    wrap(patch, desk.Desk, "push", lambda original, self, now: original(self, now)[::-1])


@breaks("visible_only_when_durable", soonest=1)
def deliveries_come_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def submit(original: Any, self: Any, changes: Any, done: Any) -> None:
        done(None)
        original(self, changes, lambda error: None)

    wrap(patch, LogWriter, "submit", submit)


@breaks("one_turn_at_a_time", soonest=1)
def agents_are_asked_twice(patch: pytest.MonkeyPatch) -> None:
    def begin(original: Any, self: Any, client: Any, agent_id: str, handler: Any, default: bool, _: int) -> None:
        original(self, client, agent_id, handler, default, 3)

    wrap(patch, Inbound, "__init__", begin)
    wrap(patch, desk.Desk, "set_window", lambda original, self, window: original(self, None))


@breaks("no_crash_of_its_own")
def a_timer_fails(patch: pytest.MonkeyPatch) -> None:
    async def tick_in(self: Any, delay: float) -> None:
        raise ValueError("a timer fails")

    patch.setattr(inbox_actor.InboxActor, "_tick_in", tick_in)


@breaks("session_cap_kept", soonest=4)
def caps_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(governance.Governance, "check_open", lambda self, setup, creator, invitees: None)


@breaks("only_registered_agents_act", soonest=36)
def struck_off_agents_stay_bound(patch: pytest.MonkeyPatch) -> None:
    def unbind(original: Any, self: Any, entry: Any, why: Any = None) -> None:
        if not isinstance(why, NotFoundError):
            original(self, entry, why)

    wrap(patch, connections.Connection, "unbind", unbind)


@breaks("expires_on_time", soonest=1)
def the_first_sweep_ends_everything(patch: pytest.MonkeyPatch) -> None:
    async def sweep_ttl(sessions: Any, now: float) -> int:
        await trio.lowlevel.checkpoint()
        for cell in sessions.cells():
            if not cell.tail.terminal:
                sessions.close(cell, "ttl_expired", expired=True)
        return 0

    patch.setattr(hub, "sweep_ttl", sweep_ttl)


@breaks("restart_changes_nothing")
def rules_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def admit(original: Any, self: Any, stored: Any) -> Any:
        return original(self, attrs.evolve(stored, rule=Rule()))

    wrap(patch, registry.Registry, "admit", admit)


@breaks("handled_means_acknowledged")
def failures_count_as_handled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inbox.Inbox, "nack", lambda self, session_id, sequence, reason: self.ack(session_id, sequence))


@breaks("closing_is_bounded", soonest=1)
def a_close_dawdles(patch: pytest.MonkeyPatch) -> None:
    async def close(original: Any, self: Any) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
        await original(self)

    wrap(patch, AuditLog, "close", close)


@breaks("answers_come", soonest=11)
def some_sends_are_not_answered(patch: pytest.MonkeyPatch) -> None:
    def answer(original: Any, self: Any, frame: Any) -> None:
        key = frame.envelope.idempotency_key if isinstance(frame, AcceptFrame) else None
        if key is None or not key.endswith("-2"):
            original(self, frame)

    wrap(patch, connections.Connection, "answer", answer)
