"""`agorio audit` and `agorio dead-letters`: the trail of what the hub did, and of what it could not deliver."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from typing import Any

import trio

from ..hub.audit import STREAM, AuditLog, AuditRecord, Filter, decode_record
from ..hub.log_writer import LogWriter
from ..hub.redeliveries import PREFIX as AGAIN
from ..hub.session import stream_of
from ..hub.stores.protocol import KnowledgeStore, Record
from ..mailbox.clock import TrioClock
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER
from .operate import redeliver
from .output import print_json, print_table, say
from .peek import EVERY, Peek
from .running import DONE, WRONG, CommandError, complain, run_async
from .stores import agent_names, documents, open_store, reading_on

Numbered = tuple[int, AuditRecord]
LETTER_COLUMNS = ("#", "time", "agent", "session", "seq", "tries", "again", "reason", "said")


def run(args: argparse.Namespace) -> int:
    """Print the audit log."""
    return run_async("audit", follow_audit if args.follow else print_audit, args)


def run_dead_letters(args: argparse.Namespace) -> int:
    """Print the dead letters."""
    return run_async("dead-letters", redeliver if args.redeliver else print_dead_letters, args)


async def print_audit(args: argparse.Namespace) -> int:
    """Print the audit log; 1 where records are unreadable. If cancelled: nothing has changed."""
    if args.tail is not None and args.tail < 0:
        raise CommandError(f"--tail {args.tail}: must not be negative")
    async with open_store(args.store) as disk:
        store = reading_on(disk, args.archive)
        names = await agent_names(store)
        log = audit_log(store)
        agent = None if args.agent is None else id_of(args.agent, names)
        records = await read_audit(log, kind=args.kind, agent_id=agent, session_id=args.session, tail=args.tail)
    if args.json:
        for sequence, record in records:
            print_json({"audit_sequence": sequence, **record})
    else:
        print_table(("#", "time", "kind", "what"), [_row(*one, names) for one in records], whole=("#", "time", "kind"))
    return _verdict("audit", log)


def audit_log(store: KnowledgeStore) -> AuditLog:
    """The audit log of a store, to be read."""
    return AuditLog(LogWriter(store), TrioClock())


async def follow_audit(args: argparse.Namespace) -> int:
    """Print the records that are there, or the newest of them, and what comes. If cancelled: nothing has changed."""
    peek = Peek(args.store)
    try:
        names = peek.names()
        agent = None if args.agent is None else id_of(args.agent, names)
        wanted = Filter(None if args.kind is None else frozenset([args.kind]), agent, args.session)
        found = _fitting(peek.news(STREAM), wanted)
        found = found if args.tail is None else found[max(0, len(found) - args.tail) :]
        while True:
            for sequence, record in found:
                _print_now(sequence, record, names, as_json=args.json)
            await trio.sleep(EVERY)
            found = _fitting(peek.news(STREAM), wanted)
            names = peek.names() if found else names
    finally:
        peek.close()


def _fitting(stored: list[Record], wanted: Filter) -> list[Numbered]:
    decoded = [(record.sequence, decode_record(record.body)) for record in stored]
    return [(sequence, record) for sequence, record in decoded if record is not None and wanted.fits(record)]


def _print_now(sequence: int, record: AuditRecord, names: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"audit_sequence": sequence, **record})
    else:
        say("  ".join(str(cell) for cell in _row(sequence, record, names)))
    sys.stdout.flush()


def id_of(agent: str, names: dict[str, str]) -> str:
    """The id of an agent given by name or id; one that has left is known by its id only."""
    return next((agent_id for agent_id, name in names.items() if name == agent), agent)


async def read_audit(log: AuditLog, *, tail: int | None = None, **wanted: str | None) -> list[Numbered]:
    """Records with their sequences, oldest first; `tail` is how many at most. If cancelled: nothing has changed."""
    found: deque[Numbered] = deque(maxlen=tail)
    after = 0
    while page := await log.read(
        after=after, kind=wanted.get("kind"), agent_id=wanted.get("agent_id"), session_id=wanted.get("session_id")
    ):
        found.extend(page)
        after = page[-1][0]
    return list(found)


def _verdict(name: str, log: AuditLog) -> int:
    for sequence, why in log.unreadable.items():
        complain(name, f"record {sequence} is unreadable: {why}")
    return WRONG if log.unreadable else DONE


def _row(sequence: int, record: AuditRecord, names: dict[str, str]) -> list[object]:
    rest = {key: value for key, value in record.items() if key not in ("at", "kind") and value is not None}
    return [
        sequence,
        _time(record),
        record.get("kind", ""),
        "  ".join(f"{k}={_short(v, names)}" for k, v in rest.items()),
    ]


def _time(record: AuditRecord) -> str:
    return str(record.get("at", ""))[:19].replace("T", " ")


def _short(value: Any, names: dict[str, str]) -> str:
    """A value as people read it: names for ids, lists without brackets."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list | tuple):
        return ",".join(_short(item, names) for item in value)
    return str(value)


async def print_dead_letters(args: argparse.Namespace) -> int:
    """Print the dead letters with what they say; 1 where records are unreadable. If cancelled: nothing has changed."""
    async with open_store(args.store) as disk:
        store = reading_on(disk, args.archive)
        names = await agent_names(store)
        log = audit_log(store)
        again = {int(one.key.removeprefix(AGAIN)) async for one in documents(store, AGAIN)}
        letters = await read_audit(log, kind=AUDIT_KIND_DEAD_LETTER)
        said = [await _envelope(store, record) for _, record in letters]
    if args.json:
        for (sequence, record), envelope in zip(letters, said, strict=True):
            text = None if envelope is None else envelope.text
            print_json({"audit_sequence": sequence, **record, "text": text, "redelivered": sequence in again})
    else:
        rows = [_letter(*one, envelope, names, again) for one, envelope in zip(letters, said, strict=True)]
        print_table(LETTER_COLUMNS, rows, whole=("#", "time", "session", "seq", "tries", "again"))
    return _verdict("dead-letters", log)


async def _envelope(store: KnowledgeStore, record: AuditRecord) -> Envelope | None:
    """The letter itself; it is in its session's log, where that can be read."""
    session_id, sequence = record.get("session_id"), record.get("sequence")
    if not isinstance(session_id, str) or not isinstance(sequence, int):
        return None
    try:
        found = await store.read(stream_of(session_id), sequence - 1, 1)
        return decode_envelope(found[0].body) if found else None
    except AgorioError as error:
        complain("dead-letters", f"session {session_id}: {error}")
        return None


def _letter(
    sequence: int, record: AuditRecord, envelope: Envelope | None, names: dict[str, str], again: set[int]
) -> list[object]:
    agent_id = str(record.get("agent_id", ""))
    return [
        sequence,
        _time(record),
        record.get("name") or names.get(agent_id, agent_id),
        record.get("session_id", ""),
        record.get("sequence", ""),
        record.get("attempts", ""),
        "yes" if sequence in again else "",
        record.get("reason", ""),
        "" if envelope is None else envelope.text,
    ]
