"""One session in memory: its folds, its rules and what it remembers of its deliveries.

Two states are kept: `live`, the fold of what is durable, and `tail`, the fold of what has been submitted as well,
against which the next command is judged; a failed commit throws the tail away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.judging import Step
from ..actors.sessions.lifecycle import Live, snapshot
from ..actors.sessions.metadata import SessionMetadata, SessionSetup, SessionState
from ..mailbox.codec import encode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError
from .governance import Grant
from .session_log import SessionLog
from .stores.protocol import Append, Change

Answer = Callable[[Envelope | None, AgorioError | None, bool], None]


@attrs.define(weakref_slot=False)
class SessionCell:
    """One session in memory."""

    live: Live
    """The fold of what is durable."""
    tail: Live
    """The fold of what is submitted."""
    adapter: SessionAdapter
    """Its rules."""
    log: SessionLog
    """Cursors and idempotency keys."""
    opened: trio.Event | None = None
    """Set when the handshake is over; only while it is under way."""
    waiting: dict[tuple[str, str], list[Answer]] | None = None
    """Retries of sends that are being committed, by sender and key."""
    epoch: int = 0
    """How often the tail was thrown away; what was judged on an earlier tail cannot be committed any more."""
    failure: AgorioError | None = None
    """Why it could not be created."""
    automatic_turns: int = 0
    """Turns in a row that default handlers have taken, for the loop breaker."""

    @property
    def session_id(self) -> str:
        """The session."""
        return self.live.setup.session_id

    @property
    def setup(self) -> SessionSetup:
        """What was fixed at opening."""
        return self.live.setup

    @property
    def participants(self) -> tuple[str, ...]:
        """The members' ids, the creator first."""
        return self.live.setup.participants

    @property
    def is_terminal(self) -> bool:
        """Whether what is durable has ended for good."""
        return self.live.terminal

    def metadata(self) -> SessionMetadata:
        """A snapshot of what is durable."""
        return snapshot(self.live, self.adapter)

    @property
    def settled(self) -> bool:
        """Whether it has ended and everybody has handled everything."""
        return self.live.terminal and self.tail is self.live and not self.log.unsettled

    def append_of(self, result: Step) -> Append:
        """The append that makes a step durable, fenced by the sequence that it follows."""
        bodies = tuple([encode_envelope(envelope) for envelope in result.envelopes])
        return Append(stream_of(self.session_id), bodies, self.tail.sequence)

    def first_sequence(self, envelope: Envelope) -> int | None:
        """The sequence of the envelope that used this idempotency key first, or None."""
        key = envelope.idempotency_key
        return None if key is None else self.log.first(envelope.sender_id, key)

    def handshake_over(self) -> None:
        """Wake whoever opened the session, once it is decided."""
        if self.opened is not None and self.live.state is not SessionState.PENDING:
            self.opened.set()
            self.opened = None


@attrs.define(weakref_slot=False)
class Work:
    """One step on its way to the log."""

    step: Step
    """What it leads to."""
    append: Append
    """Its envelopes for the log."""
    grant: Grant | None = None
    """Slots and token of an admitted envelope."""
    changes: tuple[Change, ...] = ()
    """What is committed along with it."""
    audits: tuple[Any, ...] = ()
    """Audit records to be committed along with it."""
    done: Callable[[AgorioError | None], None] | None = None
    """Called when it is durable, or with why it is not."""


def stream_of(session_id: str) -> str:
    """The log stream of a session."""
    return f"session/{session_id}"
