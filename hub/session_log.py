"""What a session remembers besides its fold: who has handled what, and which idempotency keys were used.

Ten thousand idle sessions are in memory, so whatever is empty is not there at all, and a session in which nothing is
pending has one number instead of a table of members.
"""

from __future__ import annotations

from ..mailbox.envelope import Envelope

EVERYBODY = "*"
Cursors = dict[str, list[int]]


class SessionLog:
    """Cursors and keys of one session. A cursor is the sequence up to which a member has handled everything visible to
    it; `above` holds what it has handled beyond a gap, so that a failed delivery in the middle is the only one retried.
    """

    __slots__ = ("_above", "_cursors", "_everybody", "_keys", "_pending", "key_pages", "newest_id", "saved_at")

    def __init__(self) -> None:
        self._everybody = 0  # no cursor is below it
        self._cursors: dict[str, int] | None = None
        self._above: dict[str, set[int]] | None = None
        self._keys: dict[tuple[str, str], int] | None = None
        self._pending: dict[str, int] | None = None
        self.newest_id = ""  # of a log that was loaded
        self.saved_at = 0  # the sequence of the newest snapshot
        self.key_pages = 0  # documents of keys beside it

    @property
    def unsettled(self) -> bool:
        """Whether a member has deliveries that it has not handled."""
        return self._pending is not None

    # Idempotency keys.

    def remember(self, envelope: Envelope) -> None:
        """Note a logged envelope's idempotency key."""
        if envelope.idempotency_key is not None:
            self._keys = self._keys if self._keys is not None else {}
            self._keys.setdefault((envelope.sender_id, envelope.idempotency_key), envelope.sequence)

    def first(self, sender_id: str, key: str) -> int | None:
        """The sequence of the envelope that used the key first, or None."""
        return None if self._keys is None else self._keys.get((sender_id, key))

    def forget(self, sender_id: str, key: str) -> None:
        """The envelope that used the key was not logged after all."""
        if self._keys is not None:
            self._keys.pop((sender_id, key), None)

    def keys_between(self, after: int, up_to: int) -> list[tuple[str, str, int]]:
        """The keys of the envelopes after one sequence and up to another; keys come in log order."""
        found = []
        for (sender_id, key), sequence in reversed((self._keys or {}).items()):
            if sequence <= after:
                break
            if sequence <= up_to:
                found.append((sender_id, key, sequence))
        return found[::-1]

    def restore_keys(self, keys: list[tuple[str, str, int]]) -> None:
        """Go on from stored keys."""
        if keys:
            self._keys = {(sender_id, key): sequence for sender_id, key, sequence in keys}

    # Deliveries.

    def expect(self, agent_id: str, count: int = 1) -> None:
        """More deliveries to this member. All deliveries of an envelope are expected before the first is made."""
        pending = self._pending
        if pending is None:
            self._pending = {agent_id: count}
        else:
            pending[agent_id] = pending.get(agent_id, 0) + count

    def expect_nothing(self) -> None:
        """What was expected is going to be expected anew, one by one."""
        self._pending = None

    def expected(self) -> tuple[str, ...]:
        """The members that have deliveries pending."""
        return tuple(self._pending or ())

    def settle(self, agent_id: str, sequence: int, lowest_pending: int | None) -> None:
        """A member has handled a delivery; `lowest_pending` is the lowest that it still has to."""
        self._count_down(agent_id)
        if self._pending is None:
            self._everybody = max(self._everybody, sequence)
            if self._cursors is not None:
                self._fold_all(self._cursors)
            return
        before = self.cursor(agent_id)
        if lowest_pending is None:
            above = self._above.pop(agent_id, ()) if self._above is not None else ()
            self._move(agent_id, max(before, sequence, *above) if above else max(before, sequence))
        else:
            cursor = max(before, lowest_pending - 1)
            self._move(agent_id, cursor)
            self._keep_above(agent_id, sequence, cursor, is_moved=cursor > before)

    def _move(self, agent_id: str, cursor: int) -> None:
        self._cursors = self._cursors if self._cursors is not None else {}
        self._cursors[agent_id] = cursor

    def _keep_above(self, agent_id: str, sequence: int, cursor: int, *, is_moved: bool) -> None:
        self._above = self._above if self._above is not None else {}
        above = self._above.setdefault(agent_id, set())
        above.add(sequence)
        if is_moved or sequence <= cursor:
            above = self._above[agent_id] = {beyond for beyond in above if beyond > cursor}
            if not above:
                del self._above[agent_id]

    def _fold_all(self, cursors: dict[str, int]) -> None:
        """Nothing is pending: whatever any member has handled is behind all of them."""
        beyond = [max(above) for above in self._above.values()] if self._above else ()
        self._everybody = max(self._everybody, *cursors.values(), *beyond)
        self._cursors = self._above = None

    def _count_down(self, agent_id: str) -> None:
        pending = self._pending
        if pending is None:
            return
        left = pending.get(agent_id, 0) - 1
        if left > 0:
            pending[agent_id] = left
        elif pending.pop(agent_id, None) is not None and not pending:
            self._pending = None

    def cursor(self, agent_id: str) -> int:
        """The sequence up to which the member has handled everything."""
        own = self._cursors.get(agent_id, 0) if self._cursors is not None else 0
        return own if own > self._everybody else self._everybody

    def handled(self, agent_id: str, sequence: int) -> bool:
        """Whether the member has handled the delivery of that sequence."""
        if sequence <= self.cursor(agent_id):
            return True
        return self._above is not None and sequence in self._above.get(agent_id, ())

    # In the store.

    def cursors(self) -> Cursors:
        """Per member its cursor, and after it what it has handled beyond that; `EVERYBODY` is the floor of all."""
        above = self._above or {}
        own = {key: [at, *sorted(above.get(key, ()))] for key, at in (self._cursors or {}).items()}
        return {EVERYBODY: [self._everybody], **own}

    def take_up(self, cursors: Cursors) -> None:
        """Go on from stored cursors."""
        stored = dict(cursors)
        self._everybody = next(iter(stored.pop(EVERYBODY, ())), 0)
        self._cursors = {agent_id: own[0] for agent_id, own in stored.items() if own} or None
        self._above = {agent_id: set(own[1:]) for agent_id, own in stored.items() if own[1:]} or None
