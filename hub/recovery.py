"""What a hub does with its store when it opens: identities first, then the sessions that have work left.

One unreadable document or log is set aside and reported; everything else works. Where the store itself fails, though,
the hub does not open: what it could not read today would be missing for as long as it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import trio

from ..actors.sessions.tasks import TaskMetadata
from ..mailbox.errors import AgorioError, StoreError
from .records import StoredAgent, from_bytes
from .sessions import StoredSession
from .stores.damage import CheckedStore
from .stores.protocol import Document

if TYPE_CHECKING:
    from .services import Services

PAGE = 1024
LANES = 16  # sessions at a time: most of recovering one is waiting for the store's thread
RecoverOne = Callable[["Services", Document], Awaitable[None]]
_log = logging.getLogger("agorio.hub")


async def recover(services: Services) -> None:
    """Take up where the last hub on this store left off. If cancelled: the hub does not open."""
    await _note_damage(services)
    await _each(services, "agent/", _recover_agent)
    await _each(services, "observed/", _recover_track_record)
    await _each(services, "open/", _recover_session, LANES)
    await services.budgets.recover()
    await services.redeliveries.recover()
    await _each(services, "running/", _recover_task)
    for entry in services.directory:
        services.ids.floor(entry.agent_id)


async def _note_damage(services: Services) -> None:
    """What the store could not read when it opened; its scans leave that out."""
    if not isinstance(services.store, CheckedStore):
        return
    for damage in await services.store.damaged():
        services.quarantined[f"{damage.kind} {damage.name}"] = damage.detail
        prefix, _, session_id = damage.name.partition("/")
        if damage.kind == "document" and prefix == "open":
            services.sessions.quarantined[session_id] = damage.detail


async def _each(services: Services, prefix: str, recover_one: RecoverOne, lanes: int = 1) -> None:
    after = ""
    while page := await services.store.scan(prefix, after, PAGE):
        after = page[-1].key
        documents = iter(page)
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
            _log.warning("%s is set aside: %s", document.key, error)
            services.quarantined[document.key] = str(error)


async def _recover_agent(services: Services, document: Document) -> None:
    services.registry.admit(from_bytes(document.body, StoredAgent))


async def _recover_track_record(services: Services, document: Document) -> None:
    services.tasks.records.restore(document.key, document.body)


async def _recover_task(services: Services, document: Document) -> None:
    task = await services.task_calls.get(document.key.partition("/")[2])
    services.ids.floor(task.task_id)
    await _adopt_task(services, task)


async def _adopt_task(services: Services, task: TaskMetadata) -> None:
    saved = await services.task_calls.checkpoint(task.task_id)
    services.tasks.adopt(task, 0 if saved is None else saved.version)


async def _recover_session(services: Services, document: Document) -> None:
    session_id = document.key.partition("/")[2]
    sessions = services.sessions
    try:
        stored = await services.store.get(f"session/{session_id}")
        if stored is None:
            return
        cell = await sessions.load(from_bytes(stored.body, StoredSession).setup)
    except AgorioError as error:
        sessions.quarantined[session_id] = str(error)
        raise
    sessions.adopt(cell)
    services.ids.floor(max(session_id, cell.log.newest_id))
    await sessions.delivery.restore(cell)
    for who in cell.setup.participants:
        if who not in services.directory and not cell.live.terminal:
            sessions.depart(cell, who)  # the last hub ended between striking it off and telling its sessions
    for task in list(cell.live.tasks.values()):
        await _adopt_task(services, task)
    if not cell.live.terminal:
        services.expectations.enrol(cell, cell.setup.created_at)
    if cell.live.state == "pending" and cell.setup.ack_deadline is not None:
        sessions.deadlines.add(cell.setup.ack_deadline, session_id)
    sessions.delivery.retire_if_settled(cell)
