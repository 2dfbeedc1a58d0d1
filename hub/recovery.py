"""What a hub does with its store when it opens: identities first, then the sessions that have work left.

One unreadable document or log is set aside and reported; everything else works. Where the store itself fails, though,
the hub does not open: what it could not read today would be missing for as long as it runs.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from ..actors.sessions.metadata import SessionState
from ..actors.sessions.tasks import TaskMetadata
from ..mailbox.errors import AgorioError, QuarantinedError, StoreError
from .dormant import Bookmark, Dormant, Outline, bookmark_from_bytes, outline_from_bytes
from .records import StoredAgent, StoredSession, from_bytes
from .session import stream_of
from .session_log import SessionLog
from .stores.damage import CheckedStore
from .stores.protocol import Document

if TYPE_CHECKING:
    from .services import Services

PAGE = 1024
LANES = 16  # sessions at a time: most of recovering one is waiting for the store's thread
RecoverOne = Callable[["Services", Document], Awaitable[None]]


async def recover(services: Services) -> None:
    """Take up where the last hub on this store left off. If cancelled: the hub does not open."""
    await _note_damage(services)
    await _each(services, "agent/", _recover_agent)
    await _each(services, "observed/", _recover_track_record)
    await _each(services, "fired/", _recover_fired)
    await _recover_sessions(services)
    services.expectations.forget_ended()
    await services.budgets.recover()
    await services.redeliveries.recover()
    await _each(services, "running/", _recover_task)
    for entry in services.directory:
        services.ids.floor(entry.agent_id)
    services.is_recovered = True


async def _note_damage(services: Services) -> None:
    """What the store could not read when it opened; its scans leave that out."""
    if not isinstance(services.store, CheckedStore):
        return
    for damage in await services.store.damaged():
        services.quarantined[f"{damage.kind} {damage.name}"] = damage.detail
        prefix, _, session_id = damage.name.partition("/")
        if damage.kind == "document" and prefix == "open":
            services.sessions.quarantined[session_id] = damage.detail


async def _each(services: Services, prefix: str, recover_one: RecoverOne) -> None:
    after = ""
    while page := await services.store.scan(prefix, after, PAGE):
        after = page[-1].key
        await _in_lanes(services, iter(page), recover_one, 1)


async def _in_lanes(services: Services, documents: Iterator[Document], recover_one: RecoverOne, lanes: int) -> None:
    failures: list[StoreError] = []
    async with trio.open_nursery() as nursery:
        for _ in range(lanes):
            nursery.start_soon(_recover_all, services, documents, recover_one, failures)
    if failures:
        raise failures[0]


async def _recover_all(
    services: Services, documents: Iterator[Document], recover_one: RecoverOne, failures: list[StoreError]
) -> None:
    for document in documents:
        if failures:
            return
        try:
            await recover_one(services, document)
        except AgorioError as error:
            if type(error) is StoreError:
                failures.append(error)
                return
            services.set_aside(document.key, error)


async def _recover_agent(services: Services, document: Document) -> None:
    services.registry.admit(from_bytes(document.body, StoredAgent))


async def _recover_track_record(services: Services, document: Document) -> None:
    services.tasks.records.restore(document.key, document.body)


async def _recover_fired(services: Services, document: Document) -> None:
    services.expectations.restore(document)


async def _recover_task(services: Services, document: Document) -> None:
    task = await services.task_calls.get(document.key.partition("/")[2])
    services.ids.floor(task.task_id)
    await _adopt_task(services, task)


async def _adopt_task(services: Services, task: TaskMetadata) -> None:
    saved = await services.task_calls.checkpoint(task.task_id)
    services.tasks.adopt(task, 0 if saved is None else saved.version)


# Sessions.


async def _recover_sessions(services: Services) -> None:
    """Every session with work left: as a bookmark where that is up to date, else folded."""
    after = ""
    while page := await services.store.scan("open/", after, PAGE):
        marks = await _marks(services, after, page[-1].key)
        after = page[-1].key
        await _in_lanes(services, iter(page), partial(_recover_session, marks), LANES)


async def _marks(services: Services, after: str, last: str) -> dict[str, bytes]:
    """The bookmarks of one page of open sessions, by session."""
    found: dict[str, bytes] = {}
    at, end = _mark_key(after), _mark_key(last)
    while page := await services.store.scan("cursor/", at, PAGE):
        found.update((_id_of(document), document.body) for document in page if document.key <= end)
        at = page[-1].key
        if at >= end:
            break
    return found


def _mark_key(open_key: str) -> str:
    return "cursor/" + open_key.partition("/")[2] if open_key else ""


def _id_of(document: Document) -> str:
    return document.key.partition("/")[2]


async def _recover_session(marks: dict[str, bytes], services: Services, document: Document) -> None:
    session_id, sessions = _id_of(document), services.sessions
    try:
        outline = outline_from_bytes(document.body)
        mark = _read_mark(services, session_id, marks.pop(session_id, None))
        last = await services.store.last(stream_of(session_id))
        if outline is None or mark.sequence != last or _needs_folding(services, outline, mark):
            await _take_up(services, session_id, mark)
        else:
            await _lay_down(services, session_id, outline, mark)
    except QuarantinedError as error:
        sessions.quarantined[session_id] = str(error)
        raise


def _read_mark(services: Services, session_id: str, body: bytes | None) -> Bookmark:
    """A bookmark that cannot be read is worth as much as none: what was handled is delivered again."""
    try:
        return Bookmark({}) if body is None else bookmark_from_bytes(body)
    except QuarantinedError as error:
        services.set_aside(f"cursor/{session_id}", error)
        return Bookmark({})


def _needs_folding(services: Services, outline: Outline, mark: Bookmark) -> bool:
    """Whether it has something to do at once: a handshake, running tasks, members that have gone, an unknown type."""
    if mark.is_terminal:
        return False
    if services.sessions.unknown_types.is_foreign(outline):
        return True
    gone = [who for who in outline.participants if who not in services.directory]
    return mark.state is SessionState.PENDING or mark.tasks > 0 or any(who not in mark.departed for who in gone)


async def _lay_down(services: Services, session_id: str, outline: Outline, mark: Bookmark) -> None:
    """Know what is known of a session, put its mail back, and fold it when somebody touches it."""
    sessions, log = services.sessions, SessionLog()
    log.take_up(mark.cursors)
    participants = tuple([services.directory.shared(who) for who in outline.participants])
    dormant = Dormant(session_id, participants, attrs.evolve(mark, cursors={}, newest_id=""), log)
    sessions.rest(dormant, outline.expires_at)
    services.ids.floor(max(session_id, mark.newest_id))
    if not mark.is_quiet and sessions.delivery.can_wait_unread(dormant):
        sessions.delivery.leave_unread(dormant)
    elif not mark.is_quiet:
        await sessions.delivery.restore(dormant, mark.mail.attempts)
    if outline.least is not None or outline.is_custom:
        now = services.clock.time()
        due = math.inf if mark.due is None else mark.due
        services.expectations.resume(session_id, outline.least or 0.0, min(due, now) if outline.is_custom else due)
    sessions.delivery.retire_if_settled(dormant)


async def _take_up(services: Services, session_id: str, mark: Bookmark) -> None:
    """Fold a session that has something to do at once, or of which too little is known."""
    sessions, log = services.sessions, SessionLog()
    stored = await services.store.get(f"session/{session_id}")
    if stored is None:
        return
    log.take_up(mark.cursors)
    cell = await sessions.load(from_bytes(stored.body, StoredSession).setup, log)
    sessions.adopt(cell)
    services.ids.floor(max(session_id, cell.log.newest_id))
    cell.log.newest_id = ""
    await sessions.delivery.restore(cell, mark.mail.attempts)
    for task in list(cell.live.tasks.values()):
        await _adopt_task(services, task)  # before anything that may end it
    sessions.on_taken_up(cell)
    for who in cell.setup.participants:
        if who not in services.directory and not cell.live.terminal:
            sessions.depart(cell, who)  # the last hub ended between striking it off and telling its sessions
    if not cell.live.terminal:
        services.expectations.enrol(cell, cell.setup.created_at)
    if cell.live.state == "pending" and cell.setup.ack_deadline is not None:
        sessions.deadlines.add(cell.setup.ack_deadline, session_id)
    sessions.delivery.retire_if_settled(cell)
