"""What a session remembers besides its fold: who has handled what, and which idempotency keys were used."""

from __future__ import annotations

from typing import Any

import msgspec

from ..mailbox.envelope import Envelope


class SessionLog:
    """Cursors and keys of one session. A cursor is the sequence up to which a member has handled everything visible to
    it; `above` holds what it has handled beyond a gap, so that a failed delivery in the middle is the only one retried.
    """

    __slots__ = ("above", "cursors", "keys", "newest_id", "pending")

    def __init__(self) -> None:
        self.cursors: dict[str, int] = {}
        self.above: dict[str, set[int]] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.pending: dict[str, int] = {}
        self.newest_id = ""  # of the log as it was loaded

    @property
    def unsettled(self) -> bool:
        """Whether a member has deliveries that it has not handled."""
        return any(self.pending.values())

    def remember(self, envelope: Envelope) -> None:
        """Note a logged envelope's idempotency key."""
        if envelope.idempotency_key is not None:
            self.keys.setdefault((envelope.sender_id, envelope.idempotency_key), envelope.sequence)

    def expect(self, agent_id: str) -> None:
        """One more delivery to this member."""
        self.pending[agent_id] = self.pending.get(agent_id, 0) + 1

    def settle(self, agent_id: str, sequence: int, lowest_pending: int | None) -> None:
        """A member has handled a delivery; `lowest_pending` is the lowest that it still has to."""
        left = self.pending.get(agent_id, 1) - 1
        self.pending[agent_id] = left
        above = self.above.get(agent_id)
        if lowest_pending is None:
            self.cursors[agent_id] = max(sequence, self.cursors.get(agent_id, 0), *(above or ()))
            self.above.pop(agent_id, None)
            return
        before = self.cursors.get(agent_id, 0)
        cursor = max(lowest_pending - 1, before)
        self.cursors[agent_id] = cursor
        if above is None:
            above = self.above[agent_id] = set()
        above.add(sequence)
        if cursor > before or sequence <= cursor:
            above = self.above[agent_id] = {s for s in above if s > cursor}
            if not above:
                del self.above[agent_id]

    def handled(self, agent_id: str, sequence: int) -> bool:
        """Whether the member has handled the delivery of that sequence."""
        return sequence <= self.cursors.get(agent_id, 0) or sequence in self.above.get(agent_id, ())

    def to_bytes(self) -> bytes:
        """The cursors as JSON."""
        return msgspec.json.encode({key: [at, *sorted(self.above.get(key, ()))] for key, at in self.cursors.items()})

    def load(self, body: bytes) -> None:
        """Take up stored cursors."""
        stored: dict[str, list[int]] = msgspec.json.decode(body, type=dict[str, list[int]])
        for agent_id, (cursor, *above) in stored.items():
            self.cursors[agent_id] = cursor
            if above:
                self.above[agent_id] = set(above)

    def statistics(self) -> dict[str, Any]:
        """What is pending per member."""
        return {key: count for key, count in self.pending.items() if count}
