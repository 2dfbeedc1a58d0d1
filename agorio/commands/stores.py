"""What the commands read of a store, without a hub: agents' names, sessions and their folds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from ..actors.sessions.adapters.registry import AdapterRegistry, default_adapters
from ..actors.sessions.lifecycle import Live, begin, fold
from ..hub.archive import Archive
from ..hub.archived_store import with_archive
from ..hub.records import StoredAgent, StoredSession, from_bytes
from ..hub.session import stream_of
from ..hub.stores.disk import DiskKnowledgeStore
from ..hub.stores.disk_file import beside
from ..hub.stores.protocol import Document, KnowledgeStore
from ..mailbox.codec import decode_envelope
from ..mailbox.errors import AgorioError, NotFoundError, QuarantinedError
from .running import CommandError

PAGE = 512


def archive_of(path: Path, archive: Path | None) -> Path | None:
    """The archive of a store: what was given, else the folder beside it that `serve` makes, if there is one."""
    if archive is not None:
        if not archive.is_dir():
            raise CommandError(f"{archive}: there is no such folder")
        return archive
    folder = beside(path, ".archive")
    return folder if folder.is_dir() else None


def reading_on(store: DiskKnowledgeStore, archive: Path | None) -> KnowledgeStore:
    """The store with its archive, where it has one."""
    folder = archive_of(store.path, archive)
    return store if folder is None else with_archive(store, Archive(folder))


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[DiskKnowledgeStore]:
    """The store of an existing file. Raises `CommandError` where there is none, `StoreError` naming who has it open."""
    store = DiskKnowledgeStore(existing(path))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def existing(path: Path) -> Path:
    """The path, if a store may be there: opening would make a new one."""
    if not path.is_file():
        raise CommandError(f"{path}: {'is no file' if path.exists() else 'there is no such store'}")
    return path


async def documents(store: KnowledgeStore, prefix: str) -> AsyncIterator[Document]:
    """Every readable document under a prefix, in key order. If cancelled: nothing has changed."""
    after = ""
    while page := await store.scan(prefix, after, PAGE):
        for document in page:
            yield document
        after = page[-1].key


async def agent_names(store: KnowledgeStore) -> dict[str, str]:
    """Names by id; an unreadable agent is left out. If cancelled: nothing has changed."""
    names = {}
    async for document in documents(store, "agent/"):
        try:
            passport = from_bytes(document.body, StoredAgent).passport
        except AgorioError:
            continue  # `doctor` reports it; the others have names all the same
        names[passport.agent_id] = passport.name
    return names


@attrs.define
class Folder:
    """Folds sessions from their logs by the rules of the built-in session types."""

    store: KnowledgeStore
    adapters: AdapterRegistry = attrs.field(factory=default_adapters)

    def knows(self, stored: StoredSession) -> bool:
        """Whether the session's type is built in; a program's own are known to that program's hub only."""
        return stored.setup.manifest.type in self.adapters

    async def fold(self, stored: StoredSession) -> Live:
        """The session's state. Raises `QuarantinedError`, `BadFrame`, `StoreError`.

        If cancelled: nothing has changed.
        """
        setup = stored.setup
        adapter = self.adapters.get(setup.manifest.type, setup.manifest.version)
        live, after = begin(setup, adapter), 0
        while page := await self.store.read(stream_of(setup.session_id), after, PAGE):
            for record in page:
                envelope = decode_envelope(record.body)
                try:
                    live = fold(live, adapter, envelope)
                except Exception as exc:  # an adapter may be anybody's code
                    raise QuarantinedError(f"envelope {envelope.sequence} cannot be folded: {exc!r}") from exc
            after = page[-1].sequence
        return live


async def find_session(store: KnowledgeStore, part: str) -> str:
    """The id of the one session that has `part` in its id. Raises `NotFoundError`, `CommandError`.

    If cancelled: nothing has changed.
    """
    if await store.last(stream_of(part)):
        return part
    found = [
        document.key.partition("/")[2]
        for prefix in ("session/", "archived/")
        async for document in documents(store, prefix)
        if part in document.key
    ]
    if not found:
        raise NotFoundError(f"there is no session {part!r}; `agorio sessions` lists them")
    if len(found) > 1:
        raise CommandError(f"{len(found)} sessions have {part!r} in their ids; give more of it")
    return found[0]
