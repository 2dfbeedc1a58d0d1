"""From the log into inboxes, and from receipts back into cursors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..actors.sessions.lifecycle import recipients
from ..mailbox.clock import Clock, parse_iso
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, StoreError
from ..mailbox.events import INVITE_ANSWERS, LIFECYCLE_EVENTS, SESSION_END
from .directory import Directory
from .dormant import Attempts, Dormant, Mail, Waiting
from .governance import Grant
from .inbox import Inbox
from .log_writer import LogWriter
from .session import Answer, SessionCell, stream_of
from .stores.protocol import NowaitStore, Put

if TYPE_CHECKING:
    from .sessions import Sessions


PAGE: Final = 1024
_NO_SLOTS: Final[dict[Inbox, bool]] = {}


class Delivery:
    """Deliveries of durable envelopes, and what becomes of them."""

    def __init__(self, directory: Directory, sessions: Sessions, writer: LogWriter, clock: Clock) -> None:
        self._directory = directory
        self._sessions = sessions
        self._writer = writer
        self._clock = clock
        self.spawn_read: object = None

    def deliver(self, cell: SessionCell, envelope: Envelope, grant: Grant | None) -> None:
        """Hand a durable envelope to every recipient's inbox."""
        if envelope.event_type in INVITE_ANSWERS:
            return  # an answer is for the hub; everybody may read it in the log
        reserved = grant.slots if grant is not None else _NO_SLOTS
        expires_at = None if envelope.ttl_seconds is None else expiry(envelope)
        log, get = cell.log, self._directory.get
        entries = [entry for agent_id in recipients(cell.setup, envelope) if (entry := get(agent_id)) is not None]
        for entry in entries:
            log.expect(entry.inbox.agent_id)  # all of them first: one may be settled before the next has it
        for entry in entries:
            entry.inbox.deliver(envelope, reserved.pop(entry.inbox, False), expires_at)
        if grant is not None and reserved:
            grant.give_back_slots()  # unregistered between judging and commit

    def settled(self, agent_id: str, envelope: Envelope) -> None:
        """A delivery is handled or given up: move the cursor on."""
        held = self._sessions.held(envelope.session_id)
        if held is None:
            return
        entry = self._directory.get(agent_id)
        lowest = entry.inbox.desk.lowest(envelope.session_id) if entry is not None else None
        held.log.settle(agent_id, envelope.sequence, lowest)
        if held.is_terminal and held.settled:
            self.retire_if_settled(held)
        elif envelope.event_type not in LIFECYCLE_EVENTS or envelope.event_type in SESSION_END:
            self._sessions.keep_bookmark(held)

    def retire_if_settled(self, held: SessionCell | Dormant) -> None:
        """Let an ended session go once everybody has handled everything."""
        session_id = held.session_id
        if held.settled and self._sessions.held(session_id) is held:
            self._sessions.forget(held)
            keys = self._sessions.snapshots.removal(session_id, held.log)
            gone = (Put(f"open/{session_id}", None), Put(f"cursor/{session_id}", None), *keys)

            def done(error: AgorioError | None) -> None:
                if error is not None:  # the next hub takes it up again, and must know that all of it was handled
                    body = self._sessions.bookmark(held)
                    self._writer.put_lazily(f"cursor/{session_id}", lambda: body)

            self._writer.submit(gone, done)

    def mail(self, held: SessionCell | Dormant) -> Mail:
        """What of a session waits for whom."""
        waiting, attempts, is_urgent = Waiting(), Attempts(), False
        for agent_id in held.log.expected():
            entry = self._directory.get(agent_id)
            if entry is not None:
                pending = entry.inbox.desk.pending(held.session_id)
                counted = sum(delivery.counted for delivery in pending)
                waiting[agent_id] = (counted, len(pending) - counted)
                again = {one.envelope.sequence: one.attempt for one in pending if one.attempt > 1}
                attempts.update({agent_id: again} if again else {})
                is_urgent = is_urgent or any(delivery.expires_at is not None for delivery in pending)
        return Mail(waiting, attempts, is_urgent)

    def tried(self, session_id: str) -> None:
        """A delivery has failed: how often outlives the hub, or what kills it would be tried for ever."""
        held = self._sessions.held(session_id)
        if held is not None:
            self._sessions.keep_bookmark(held)

    async def restore(self, held: SessionCell | Dormant, attempts: Attempts) -> None:
        """After a restart: put everything that is pending back into the inboxes. If cancelled: nothing is there."""
        log, inboxes = held.log, self._inboxes(held)
        after = min((log.cursor(agent_id) for agent_id in inboxes), default=None)
        mail: list[Envelope] = []
        while after is not None and (page := await self._writer.store.read(stream_of(held.session_id), after, PAGE)):
            mail += [decode_envelope(record.body) for record in page]
            after = page[-1].sequence
        unread = self._take_unread(held) if isinstance(held, Dormant) else Waiting()
        for envelope in mail:
            self._restore_one(held, inboxes, envelope, attempts)
        self._free_slots(unread)  # last: a slot that is free in between goes to whoever waits for one

    def _inboxes(self, held: SessionCell | Dormant) -> dict[str, Inbox]:
        return {who: entry.inbox for who in held.participants if (entry := self._directory.get(who)) is not None}

    def can_wait_unread(self, dormant: Dormant) -> bool:
        """Whether its mail may stay in the store: nothing of it expires, or is thrown out for what comes."""
        inboxes = [entry.inbox for who in dormant.mark.mail.waiting if (entry := self._directory.get(who)) is not None]
        return not dormant.mark.mail.is_urgent and all(inbox.overflow != "drop_oldest" for inbox in inboxes)

    def leave_unread(self, dormant: Dormant) -> None:
        """Count mail as pending without reading it."""
        for agent_id, (counted, uncounted) in dormant.mark.mail.waiting.items():
            entry = self._directory.get(agent_id)
            if entry is not None:
                entry.inbox.expect_unread(counted, uncounted)
                dormant.log.expect(agent_id, counted + uncounted)
                dormant.unread[agent_id] = (counted, uncounted)

    def release_unread(self, dormant: Dormant) -> None:
        """Unread mail cannot be restored."""
        self._free_slots(self._take_unread(dormant))

    def _take_unread(self, dormant: Dormant) -> Waiting:
        unread, dormant.unread = dormant.unread, Waiting()
        if unread:
            dormant.log.expect_nothing()
        return unread

    def _free_slots(self, unread: Waiting) -> None:
        for agent_id, (counted, uncounted) in unread.items():
            entry = self._directory.get(agent_id)
            if entry is not None:
                entry.inbox.release_unread(counted, uncounted)

    def _restore_one(
        self, held: SessionCell | Dormant, inboxes: dict[str, Inbox], envelope: Envelope, attempts: Attempts
    ) -> None:
        if envelope.event_type in INVITE_ANSWERS:
            return
        for agent_id in recipients(held, envelope):
            inbox = inboxes.get(agent_id)
            if inbox is not None and not held.log.handled(agent_id, envelope.sequence):
                held.log.expect(agent_id)
                # Whether it went out before the restart is not known: it is marked as a redelivery, to be safe.
                tried = attempts.get(agent_id, {}).get(envelope.sequence, 1)
                inbox.restore(envelope, tried, expiry(envelope))

    def answer_from_log(self, cell: SessionCell, sequence: int, answer: Answer) -> None:
        """Answer a retry with the envelope that is in the log already."""
        store = self._writer.store
        if isinstance(store, NowaitStore):
            records = store.read_nowait(stream_of(cell.session_id), sequence - 1, 1)
            answer(decode_envelope(records[0].body), None, True)
            return
        raise NeedsRead(cell, sequence)

    async def read_one(self, session_id: str, sequence: int) -> Envelope:
        """One envelope of the log. If cancelled: nothing has changed."""
        records = await self._writer.store.read(stream_of(session_id), sequence - 1, 1)
        if not records:
            raise StoreError(f"envelope {sequence} of session {session_id} is missing from the store")
        return decode_envelope(records[0].body)


class NeedsRead(Exception):
    """The answer must be read from a store that waits for its medium."""

    def __init__(self, cell: SessionCell, sequence: int) -> None:
        super().__init__()
        self.cell = cell
        self.sequence = sequence


def expiry(envelope: Envelope) -> float | None:
    """When an undelivered envelope becomes a dead letter."""
    if envelope.ttl_seconds is None:
        return None
    return parse_iso(envelope.created_at) + envelope.ttl_seconds
