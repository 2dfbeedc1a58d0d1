"""Dead letters put back into their recipients' inboxes by the operator: each once, and remembered until it is handled.

A dead letter is named by the sequence of its audit record. The cursors say that its delivery is over, so a document of
its own keeps it until it is; the version that the document is written with is what refuses a second redelivery.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import trio

from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, AgorioError, ConflictError, NotFoundError
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER, AUDIT_KIND_REDELIVERED
from .dead_letters import DeadLetterRecord
from .directory import Entry
from .records import from_bytes, to_bytes
from .stores.protocol import Put

if TYPE_CHECKING:
    from .services import Services

PREFIX = "redelivered/"
PAGE = 1024
_log = logging.getLogger("agorio.hub")
Place = tuple[str, str, int]


@attrs.frozen
class StoredRedelivery:
    """One letter that was put back."""

    agent_id: str
    """The recipient."""
    session_id: str
    """The session."""
    sequence: int
    """The envelope's place in it."""
    is_over: bool = False
    """Whether it was handled, or given up again."""


class Redeliveries:
    """What was put back and is not handled yet."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pending: dict[Place, int] = {}

    async def redeliver(self, letter: int) -> DeadLetterRecord:
        """Put a dead letter back. Raises `NotFoundError`, `ConflictError`, `InboxFull`, `AccessDeniedError`.

        If cancelled: it may have been put back.
        """
        services = self._services
        record = await services.audit.get(letter)
        if record is None or record.kind != AUDIT_KIND_DEAD_LETTER:
            raise NotFoundError(f"audit record {letter} is no dead letter; read(kind='dead_letter') has them")
        stored = StoredRedelivery(record.agent_id, record.session_id, record.sequence)
        entry = services.directory.entry(stored.agent_id)
        envelope = await services.reader.one(stored.session_id, stored.sequence)
        self._check(entry, stored, envelope)
        await self._commit(letter, stored, entry, envelope)
        return DeadLetterRecord(stored.agent_id, envelope, record.reason, record.attempts, letter)

    def _check(self, entry: Entry, stored: StoredRedelivery, envelope: Envelope) -> None:
        inbox = entry.inbox
        if _place(stored) in self._pending or inbox.desk.has(stored.session_id, stored.sequence):
            raise ConflictError(f"{entry.name!r} has this delivery in its inbox already")
        if (refusal := inbox.refuses(envelope)) is not None:
            raise AccessDeniedError(refusal, recipient=entry.name)
        if inbox.mailbox.free < 1:
            raise inbox.full_error()

    async def _commit(self, letter: int, stored: StoredRedelivery, entry: Entry, envelope: Envelope) -> None:
        services, audit = self._services, self._services.audit
        record = audit.record(
            AUDIT_KIND_REDELIVERED,
            agent_id=entry.agent_id,
            name=entry.name,
            session_id=stored.session_id,
            envelope_id=envelope.envelope_id,
            sequence=stored.sequence,
            letter=letter,
        )
        written = trio.Event()
        outcome: list[AgorioError | None] = []

        def done(error: AgorioError | None) -> None:
            if error is None:
                audit.chained(record)
                self._put_back(letter, stored, envelope)
                audit.announce(record)
            outcome.append(error)
            written.set()

        services.writer.submit((Put(_key(letter), to_bytes(stored), 0), audit.change(record)), done)
        await written.wait()
        if isinstance(outcome[0], ConflictError):
            raise ConflictError(f"dead letter {letter} was redelivered before; a failure would be a letter of its own")
        if outcome[0] is not None:
            raise outcome[0]

    def _put_back(self, letter: int, stored: StoredRedelivery, envelope: Envelope) -> None:
        entry = self._services.directory.get(stored.agent_id)
        if entry is None:
            self._write_over(letter, stored)  # struck off meanwhile
            return
        cell = self._services.sessions.resident(stored.session_id)
        if cell is not None:
            cell.log.expect(stored.agent_id)
        self._pending[_place(stored)] = letter
        entry.inbox.put_back(envelope)

    def settled(self, agent_id: str, envelope: Envelope) -> None:
        """A delivery is handled or given up; if it was put back, that is over."""
        if self._pending:
            place = (agent_id, envelope.session_id, envelope.sequence)
            letter = self._pending.pop(place, None)
            if letter is not None:
                self._write_over(letter, StoredRedelivery(*place))

    def _write_over(self, letter: int, stored: StoredRedelivery) -> None:
        # What is lost of this leads to one more redelivery after a restart, as with a cursor.
        self._services.writer.put_lazily(_key(letter), lambda: to_bytes(attrs.evolve(stored, is_over=True)))

    async def recover(self) -> None:
        """Put back what the last hub had put back and nobody has handled. If cancelled: part of it."""
        after = ""
        while page := await self._services.store.scan(PREFIX, after, PAGE):
            after = page[-1].key
            for document in page:
                try:
                    await self._recover(int(document.key.removeprefix(PREFIX)), document.body)
                except AgorioError as error:
                    _log.warning("%s is set aside: %s", document.key, error)
                    self._services.quarantined[document.key] = str(error)

    async def _recover(self, letter: int, body: bytes) -> None:
        stored = from_bytes(body, StoredRedelivery)
        if not stored.is_over:
            self._put_back(letter, stored, await self._services.reader.one(stored.session_id, stored.sequence))


def _place(stored: StoredRedelivery) -> Place:
    return stored.agent_id, stored.session_id, stored.sequence


def _key(letter: int) -> str:
    return f"{PREFIX}{letter:020d}"
