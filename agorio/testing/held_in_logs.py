"""Invariants of a hub's logs: what a store holds, against the rules, the audit log and what was promised outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from ..actors.sessions.lifecycle import Live, begin, fold, recipients
from ..mailbox.clock import parse_iso
from ..mailbox.codec import encode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError
from ..mailbox.events import (
    AUDIT_KIND_AGENT_REGISTERED,
    AUDIT_KIND_AGENT_UNREGISTERED,
    AUDIT_KIND_EXPECTATION_VIOLATED,
    AUDIT_KIND_SESSION_CLOSED,
    AUDIT_KIND_SESSION_CREATED,
    AUDIT_KIND_SESSION_EXPIRED,
    AUDIT_KIND_TASK_TERMINATED,
    EV_EXPECTATION_VIOLATED,
    EV_SESSION_EXPIRED,
    EV_TASK_STARTED,
    HUB_EVENTS,
    INVITE_ANSWERS,
    LIFECYCLE_EVENTS,
    SESSION_END,
    TASK_ENDS,
    TASK_EVENTS,
)
from .evidence import Evidence, SessionFile
from .ledger import Key, key_of

Problems = Iterator[str]
MICROSECOND = 2e-6  # of stamps, with what their rounding takes


def sequence_without_gaps(seen: Evidence) -> Problems:
    """Each log counts 1, 2, 3 …; its ids increase and its stamps never decrease."""
    for file in seen.sessions:
        wanted = list(range(1, len(file.log) + 1))
        if file.numbers != wanted or [e.sequence for e in file.log] != wanted:
            yield f"session {file.session_id} is numbered {[e.sequence for e in file.log]}"
        for before, after in pairwise(file.log):
            if after.envelope_id <= before.envelope_id or after.created_at < before.created_at:
                yield f"envelope {after.sequence} of {file.session_id} is stamped before the one in front of it"


def terminal_never_changes(seen: Evidence) -> Problems:
    """Nothing follows the end of a session in its log."""
    for file in seen.sessions:
        ends = [e.sequence for e in file.log if e.event_type in SESSION_END]
        if ends and (len(ends) > 1 or ends[0] != file.log[-1].sequence):
            yield f"session {file.session_id} ends at {ends} and its log at {file.log[-1].sequence}"


def fold_equals_live(seen: Evidence) -> Problems:
    """Folding a log gives the state that the hub has in memory, and the one that its document tells of."""
    for file in seen.sessions:
        try:
            states = file.folds()
        except AgorioError as error:
            yield f"the log of session {file.session_id} cannot be folded: {error}"
            continue
        if file.live is not None:
            if file.live.sequence >= len(states):
                yield f"session {file.session_id} is at {file.live.sequence} in memory; its log ends at {len(file.log)}"
            elif states[file.live.sequence] != file.live:
                yield f"session {file.session_id} is {file.live} in memory; its log says {states[file.live.sequence]}"
        state = str(states[-1].state) if states[-1].terminal else "open"
        if state != file.stored.state:
            yield f"session {file.session_id} is stored as {file.stored.state}; its log says {state}"


def _steps(file: SessionFile) -> Iterator[tuple[Live, Envelope]]:
    """Each envelope with the state before it, as far as the log can be folded."""
    state = begin(file.stored.setup, file.adapter)
    for envelope in file.log:
        yield state, envelope
        try:
            state = fold(state, file.adapter, envelope)
        except AgorioError:
            return


def nobody_out_of_turn(seen: Evidence) -> Problems:
    """Everything that a member said was legal by its session type's rules when it was said."""
    for file in seen.sessions:
        for state, envelope in _steps(file):
            kind = envelope.event_type
            if kind in LIFECYCLE_EVENTS or kind in TASK_EVENTS:
                continue
            if envelope.sender_id not in file.stored.setup.participants:
                yield f"{envelope.sender_id} is no member of {file.session_id} and said {envelope.sequence}"
                continue
            try:
                file.adapter.validate_send(state.adapter_state, envelope)
            except AgorioError as refusal:
                yield f"envelope {envelope.sequence} of {file.session_id} is in the log although: {refusal}"


def _keys(file: SessionFile) -> list[tuple[Key, Envelope]]:
    return [(key, envelope) for envelope in file.log if (key := key_of(envelope)) is not None]


def idempotency_key_once(seen: Evidence) -> Problems:
    """A key of a sender is in a log once, at the place that every answer named."""
    for file in seen.sessions:
        keys = _keys(file)
        for key, count in Counter(key for key, _ in keys).items():
            if count > 1:
                yield f"key {key[2]!r} of {key[0]} is {count} times in the log of {file.session_id}"
        for key, envelope in keys:
            told = seen.ledger.keys.get(key) if seen.ledger is not None else None
            if told is not None and told != (envelope.sequence, envelope.envelope_id):
                yield f"key {key[2]!r} of {key[0]} stands at {envelope.sequence}; its sender was told {told[0]}"


def accepted_is_durable(seen: Evidence) -> Problems:
    """What was accepted once is in the log for ever, byte by byte, over every restart and power cut."""
    if seen.ledger is None:
        return
    logs = {file.session_id: file.log for file in seen.sessions}
    for (session_id, sequence), envelope in seen.ledger.accepted.items():
        log = logs.get(session_id, [])
        if sequence == 0:
            continue  # an answer to what was no news, such as a second acceptance of an invitation
        if sequence > len(log):
            yield f"envelope {sequence} of {session_id} was accepted and is gone; the log ends at {len(log)}"
        elif encode_envelope(log[sequence - 1]) != encode_envelope(envelope):
            yield f"envelope {sequence} of {session_id} was accepted as {envelope} and is {log[sequence - 1]}"


def handled_means_acknowledged(seen: Evidence) -> Problems:
    """A delivery counts as handled once its recipient has acknowledged it, or it is a dead letter."""
    if seen.ledger is None or not seen.is_settled:
        return
    for file in seen.sessions:
        cell = seen.services.sessions.resident(file.session_id)
        for agent_id, envelope in _deliveries(seen, file):
            is_handled = cell is None or cell.log.handled(agent_id, envelope.sequence)
            if is_handled and not _is_answered(seen, agent_id, envelope):
                yield f"{envelope.sequence} of {file.session_id} is handled, and {agent_id} has not said so"


def _deliveries(seen: Evidence, file: SessionFile) -> Iterator[tuple[str, Envelope]]:
    """Whom the session's envelopes are delivered to, as far as they are still registered."""
    for envelope in file.log:
        if envelope.event_type not in INVITE_ANSWERS:
            for agent_id in recipients(file.stored.setup, envelope):
                if agent_id in seen.services.directory:
                    yield agent_id, envelope


def _is_answered(seen: Evidence, agent_id: str, envelope: Envelope) -> bool:
    assert seen.ledger is not None
    line = seen.ledger.lines.get((agent_id, envelope.session_id))
    place = (agent_id, envelope.session_id, envelope.sequence)
    return (line is not None and envelope.sequence in line.handled) or place in seen.ledger.given_up


def expires_on_time(seen: Evidence) -> Problems:
    """No session expires before its time, and no member says anything in it after that."""
    for file in seen.sessions:
        if file.stored.setup.expires_at is not None:
            yield from _out_of_time(file, file.stored.setup.expires_at)


def _out_of_time(file: SessionFile, expires_at: float) -> Problems:
    last = 0.0
    for envelope in file.log:
        at = parse_iso(envelope.created_at)
        if envelope.event_type == EV_SESSION_EXPIRED and at < expires_at - MICROSECOND:
            yield f"session {file.session_id} expires {expires_at - at:.6f} s too early"
        # A stamp that was forced by the one in front of it, after the clock was set back, says nothing.
        is_said = envelope.event_type not in HUB_EVENTS and envelope.event_type not in TASK_ENDS
        if is_said and at > max(last, expires_at) + MICROSECOND:
            yield f"{envelope.sequence} of {file.session_id} was accepted {at - expires_at:.6f} s after its TTL"
        last = at


def restart_changes_nothing(seen: Evidence) -> Problems:
    """Closing a hub and opening the next one on its store changes no agent, no log, and revives no task."""
    before = seen.before
    if before is None:
        return
    if seen.agents != before.agents:
        yield f"agents were {before.agents} before a restart and are {seen.agents}"
    logs = {file.session_id: file.log for file in seen.sessions}
    for file in before.sessions:
        if logs.get(file.session_id, [])[: len(file.log)] != file.log:
            yield f"the log of session {file.session_id} is another one after a restart"
    if not seen.tasks <= before.tasks:
        yield f"tasks {sorted(seen.tasks - before.tasks)} run after a restart and had ended before"


def denied_never_delivered(seen: Evidence) -> Problems:
    """What was refused is in no log, and nobody is delivered what is not addressed to them."""
    if seen.ledger is None:
        return
    for file in seen.sessions:
        for key, envelope in _keys(file):
            if key in seen.ledger.refused and key not in seen.ledger.keys:
                yield f"envelope {envelope.sequence} of {file.session_id} was refused: {seen.ledger.refused[key]}"
    logs = {file.session_id: file for file in seen.sessions}
    for (agent_id, session_id), line in seen.ledger.lines.items():
        held = logs.get(session_id)
        if held is None:
            continue
        for sequence in line.seen:
            if sequence <= len(held.log) and agent_id not in recipients(held.stored.setup, held.log[sequence - 1]):
                yield f"{agent_id} was delivered {sequence} of {session_id}, which is not addressed to it"


def delivered_once_in_order_or_dead_lettered(seen: Evidence) -> Problems:
    """Once faults have stopped, every recipient has had every envelope, or it is a dead letter."""
    if seen.ledger is None or not seen.is_settled:
        return
    for file in seen.sessions:
        for agent_id, envelope in _deliveries(seen, file):
            if not _reached(seen, agent_id, envelope):
                yield f"{agent_id} never got {envelope.sequence} ({envelope.event_type}) of {file.session_id}"


def _reached(seen: Evidence, agent_id: str, envelope: Envelope) -> bool:
    assert seen.ledger is not None
    line = seen.ledger.lines.get((agent_id, envelope.session_id))
    place = (agent_id, envelope.session_id, envelope.sequence)
    return (line is not None and envelope.sequence in line.seen) or place in seen.ledger.given_up


def one_audit_record_per_event(seen: Evidence) -> Problems:
    """Every event that governance knows has exactly one audit record."""
    found = Counter(_event(record) for record in seen.audits)
    wanted: Counter[tuple[str, ...]] = Counter()
    for file in seen.sessions:
        wanted[AUDIT_KIND_SESSION_CREATED, file.session_id] += 1
        if file.stored.state != "open":
            expired = file.stored.state == "expired"
            wanted[AUDIT_KIND_SESSION_EXPIRED if expired else AUDIT_KIND_SESSION_CLOSED, file.session_id] += 1
        for envelope in file.log:
            if envelope.event_type in TASK_ENDS:
                wanted[AUDIT_KIND_TASK_TERMINATED, str(envelope.task_id)] += 1
            elif envelope.event_type == EV_EXPECTATION_VIOLATED:
                wanted[AUDIT_KIND_EXPECTATION_VIOLATED, file.session_id] += 1
    for entry in seen.services.directory:
        wanted[AUDIT_KIND_AGENT_REGISTERED, entry.agent_id] += 1
    for event, count in wanted.items():
        if found[event] != count:
            yield f"{' of '.join(event)} happened {count} times and is audited {found[event]} times"
    for event, count in found.items():
        if count > 1 and event[0] in (AUDIT_KIND_AGENT_REGISTERED, AUDIT_KIND_AGENT_UNREGISTERED):
            yield f"{' of '.join(event)} is audited {count} times"


def _event(record: dict[str, object]) -> tuple[str, ...]:
    kind = str(record.get("kind"))
    if kind == AUDIT_KIND_TASK_TERMINATED:
        return kind, str(record.get("task_id"))
    if kind == AUDIT_KIND_EXPECTATION_VIOLATED and record.get("on_violation") != "warn":
        return "noted beside the log", str(record.get("session_id"))
    about = record.get("session_id") if kind.startswith(("session", "expectation")) else record.get("agent_id")
    return kind, str(about)


def audit_chain_unbroken(seen: Evidence) -> Problems:
    """The audit log's chain proves every record, and nothing of it is unreadable."""
    if seen.verdict is not None:
        yield from seen.verdict.problems


def expectation_fires_once(seen: Evidence) -> Problems:
    """One wait that lasts too long is noted once: in the audit, and by a warning in the log."""
    found = Counter(
        ("is audited", str(record.get("session_id")), str(record.get("key")))
        for record in seen.audits
        if record.get("kind") == AUDIT_KIND_EXPECTATION_VIOLATED
    )
    for file in seen.sessions:
        keys = [str(e.event_data.get("key")) for e in file.log if e.event_type == EV_EXPECTATION_VIOLATED]
        found.update(("is noted", file.session_id, key) for key in keys)
    for (how, session_id, key), count in found.items():
        if count > 1:
            yield f"the firing {key} in session {session_id} {how} {count} times"


def task_ends_once(seen: Evidence) -> Problems:
    """A task starts once and ends at most once; nothing of it follows its end."""
    for file in seen.sessions:
        ended: set[str] = set()
        started: set[str] = set()
        for envelope in file.log:
            task_id = str(envelope.task_id)
            if envelope.event_type in TASK_EVENTS and task_id in ended:
                yield f"task {task_id} of {file.session_id} has ended before {envelope.sequence}"
            if envelope.event_type in TASK_ENDS:
                ended.add(task_id)
            elif envelope.event_type == EV_TASK_STARTED:
                if task_id in started:
                    yield f"task {task_id} of {file.session_id} starts twice"
                started.add(task_id)
