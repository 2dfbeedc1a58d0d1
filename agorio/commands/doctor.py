"""`agorio doctor`: reads a whole store, compares every checksum, folds every session, follows the audit's chain."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Any

import attrs
import msgspec

from ..actors.sessions.metadata import TERMINAL
from ..hub.archive import Archived
from ..hub.archived_store import AUDITS, SESSION, SESSIONS, ArchivedStore
from ..hub.audit import ANCHOR_KEY, CHAIN, STREAM
from ..hub.audit_chain import AuditAnchor, AuditVerdict, Chain, anchor_from_bytes
from ..hub.records import StoredAgent, StoredSession, from_bytes
from ..hub.stores.damage import Damage
from ..hub.stores.disk import DiskKnowledgeStore
from ..hub.stores.protocol import Document, KnowledgeStore
from ..mailbox.errors import AgorioError, QuarantinedError, StoreError
from .output import print_json, print_table, progress, say
from .running import DONE, WRONG, run_async
from .stores import PAGE, Folder, documents, open_store, reading_on


@attrs.define
class Examination:
    """What was looked at and what was found."""

    records: int = 0
    documents: int = 0
    sessions: int = 0
    audit_records: int = 0
    archived: int = 0
    not_folded: list[str] = attrs.Factory(list)
    damage: list[Damage] = attrs.Factory(list)

    def note(self, kind: str, name: str, detail: object) -> None:
        """One more finding; what is known already is not repeated."""
        if all((known.kind, known.name) != (kind, name) for known in self.damage):
            self.damage.append(Damage(kind, name, str(detail)))


def run(args: argparse.Namespace) -> int:
    """Examine the store."""
    return run_async("doctor", doctor, args)


async def doctor(args: argparse.Namespace) -> int:
    """Examine the store; 1 where anything is damaged. If cancelled: nothing has changed."""
    found = Examination()
    async with open_store(args.store) as disk:
        store = reading_on(disk, args.archive)
        await _check_bytes(disk, found)
        await _check_sessions(store, found)
        await _check_archive(store, found)
        await _check_agents(store, found)
        await _check_audit(store, found)
    if args.json:
        print_json({**attrs.asdict(found), "ok": not found.damage})
    else:
        _show(found)
    return WRONG if found.damage else DONE


async def _check_bytes(store: DiskKnowledgeStore, found: Examination) -> None:
    with progress("checksums", None):
        verification = await store.verify()
    found.records, found.documents = verification.records, verification.documents
    for damage in verification.damaged:
        found.note(damage.kind, damage.name, damage.detail)


async def _check_sessions(store: KnowledgeStore, found: Examination) -> None:
    folder = Folder(store)
    with progress("sessions", None) as tick:
        async for document in documents(store, "session/"):
            try:
                await _check_session(folder, from_bytes(document.body, StoredSession), found)
            except AgorioError as error:
                found.note("session", document.key.partition("/")[2], error)
            tick(1)


async def _check_session(folder: Folder, stored: StoredSession, found: Examination) -> None:
    session_id = stored.setup.session_id
    found.sessions += 1
    if not folder.knows(stored):
        found.not_folded.append(f"{session_id} ({stored.setup.manifest.type})")
        return
    live = await folder.fold(stored)
    if (live.state in TERMINAL) != (stored.state != "open"):
        found.note("session", session_id, f"its record says {stored.state}, its log {live.state}")
    elif stored.state == "open" and await folder.store.get(f"open/{session_id}") is None:
        found.note("session", session_id, "it has not ended, but a hub would not take it up")


async def _check_archive(store: KnowledgeStore, found: Examination) -> None:
    """Every file that the store tells of is there, is that file, and folds."""
    folder = Folder(store)
    total = sum([1 async for prefix in _each(SESSIONS, AUDITS) async for _ in documents(store, prefix)])
    with progress("archive", total) as tick:
        async for prefix in _each(SESSIONS, AUDITS):
            async for document in documents(store, prefix):
                try:
                    await _check_file(store, folder, document, found)
                except AgorioError as error:
                    found.note("archive", document.key, error)
                tick(1)


async def _each(*prefixes: str) -> AsyncIterator[str]:
    for prefix in prefixes:
        yield prefix


async def _check_file(store: KnowledgeStore, folder: Folder, document: Document, found: Examination) -> None:
    place, is_session = from_bytes(document.body, Archived), document.key.startswith(SESSIONS)
    key = SESSION + document.key.removeprefix(SESSIONS) if is_session else STREAM
    if not isinstance(store, ArchivedStore):
        raise StoreError(f"{place.path} cannot be looked at; say where the archive is with --archive")
    contents = await store.contents(place, key)
    found.archived += len(contents.records)
    if (contents.records[0].sequence, contents.records[-1].sequence) != (place.first, place.last):
        raise QuarantinedError(f"{place.path} does not hold records {place.first} to {place.last}")
    if is_session:
        await _check_session(folder, from_bytes(contents.documents[key], StoredSession), found)


async def _check_agents(store: KnowledgeStore, found: Examination) -> None:
    async for document in documents(store, "agent/"):
        try:
            from_bytes(document.body, StoredAgent)
        except AgorioError as error:
            found.note("agent", document.key.partition("/")[2], error)


async def _check_audit(store: KnowledgeStore, found: Examination) -> None:
    try:
        document = await store.get(ANCHOR_KEY)
        anchor = None if document is None else anchor_from_bytes(document.body)
        verdict = await _chained(store, anchor)
    except AgorioError as error:
        found.note("stream", "audit", error)
        return
    found.audit_records = verdict.anchor.sequence
    for number, problem in enumerate(verdict.problems, 1):
        found.note("audit", f"chain, finding {number}", problem)


async def _chained(store: KnowledgeStore, anchor: AuditAnchor | None) -> AuditVerdict:
    """The whole chain, also against the anchor that the last hub left."""
    chain = Chain(expected=anchor)
    while page := await store.read(STREAM, chain.anchor.sequence, PAGE):
        for record in page:
            chain.add(record.body, _link_of(record.body))
    return chain.verdict()


def _link_of(body: bytes) -> Any:
    """What an audit record says of the chain before it; None for one that cannot be read."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any]).get(CHAIN)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _show(found: Examination) -> None:
    say(
        f"{found.records} records and {found.documents} documents read, {found.sessions} sessions folded, "
        f"{found.audit_records} audit records chained"
        + (f", {found.archived} records of them in the archive" if found.archived else "")
    )
    if found.not_folded:
        say(f"not folded, since their types are no built-in ones: {', '.join(found.not_folded)}")
    if found.damage:
        print_table(("damaged", "which", "what is wrong"), [(d.kind, d.name, d.detail) for d in found.damage])
    say(f"{len(found.damage)} damaged" if found.damage else "nothing is damaged")
