"""Control calls about sessions: opening, reading, closing, and the turns in them."""

from __future__ import annotations

from typing import ClassVar

import attrs

from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload
from .identity import texts
from .metadata import Expectation
from .operations_base import Operation


@attrs.frozen
class OpenSession(Operation):
    """Open a session and wait until it is active. Result: `SessionMetadata`."""

    op: ClassVar[str] = "open_session"
    creator_id: str
    """Who opens it."""
    type: str
    """The session type."""
    participants: tuple[str, ...] = attrs.field(converter=texts)
    """Names or ids; the creator is put first where it is absent."""
    version: int | None = None
    """The adapter's version; None is the newest."""
    knobs: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The session type's parameters."""
    ttl: str | float | None = None
    """Lifetime; None takes the rule's or the session type's."""
    intent: str | None = None
    """What it is for; put into the labels."""
    labels: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Free-form JSON."""
    expectations: tuple[Expectation, ...] | None = None
    """Instead of the session type's."""
    required_acks: int | None = None
    """How many invitees must accept; None is all."""
    invite_ack_timeout: float | None = None
    """Seconds to wait for them; None takes the hub's."""
    causation_id: str | None = None
    """The envelope being handled when it was opened; the hub takes the delegation depth from it."""
    parent_session_id: str | None = None
    """That envelope's session."""


@attrs.frozen
class CloseSession(Operation):
    """Close a session. Result: `SessionMetadata`."""

    op: ClassVar[str] = "close_session"
    session_id: str
    """Which."""
    agent_id: str
    """The member that closes it."""
    reason: str = "explicit_close"
    """Why."""


@attrs.frozen
class GetSession(Operation):
    """Result: `SessionMetadata`."""

    op: ClassVar[str] = "get_session"
    session_id: str
    """Which."""


@attrs.frozen
class ListSessions(Operation):
    """Result: a tuple of `SessionMetadata`, newest first; the filter is applied before the limit."""

    op: ClassVar[str] = "list_sessions"
    agent_id: str | None = None
    """Sessions of this member; None is all that this connection's agents are in."""
    state: str | None = None
    """Only in this state; `open` is all that have not ended."""
    limit: int = 50
    """At most so many."""


@attrs.frozen
class ReadWal(Operation):
    """Result: a tuple of envelopes in log order, those that the reader may see."""

    op: ClassVar[str] = "read_wal"
    session_id: str
    """Which."""
    agent_id: str | None = None
    """The reader; None is any of this connection's agents that are members."""
    after: int = 0
    """Only after this sequence."""
    before: int | None = None
    """Only before this sequence."""
    limit: int | None = None
    """At most so many; the hub may return fewer, read on after the last."""
    tail: bool = False
    """Take the newest instead of the oldest where the limit cuts."""


@attrs.frozen
class CanSend(Operation):
    """Result: whether the hub would accept such an envelope now."""

    op: ClassVar[str] = "can_send"
    session_id: str
    """Which."""
    agent_id: str
    """The sender."""
    event_type: str = "ag2.msg.text"
    """What kind."""
    causation_id: str | None = None
    """What a default handler is about to answer by itself; where there were too many such turns it is not to."""


@attrs.frozen
class FindByCausation(Operation):
    """Result: the newest envelope of that sender with that cause, or None."""

    op: ClassVar[str] = "find_by_causation"
    session_id: str
    """Which."""
    agent_id: str
    """The sender."""
    causation_id: str
    """The cause."""


@attrs.frozen
class ReportTurnFailure(Operation):
    """Tell the hub that a turn failed; it is audited. Result: None."""

    op: ClassVar[str] = "report_turn_failure"
    agent_id: str
    """Whose turn."""
    session_id: str
    """In which session."""
    envelope_id: str
    """On which envelope."""
    exc_type: str
    """The exception's class."""
    exc_message: str
    """What it said."""
    incarnation: int = 0
    """The incarnation of the agent's actor that crashed."""


@attrs.frozen
class ReportUsage(Operation):
    """Tell the hub what the agent has used up; it counts against the agent's budget. Result: None, once durable."""

    op: ClassVar[str] = "report_usage"
    agent_id: str
    """Who."""
    tokens: int = 0
    """Tokens, at least 0."""
    cost: float = 0.0
    """Money, at least 0."""
    session_id: str | None = None
    """For which session; None is for none in particular."""
    key: str = ""
    """Names the report: one that comes again with the same key counts once."""


@attrs.frozen
class SkipTurn(Operation):
    """Give up one's turn; the hub records it and the next speaker goes on.

    Not one's turn: nothing happens. Result: None.
    """

    op: ClassVar[str] = "skip_turn"
    agent_id: str
    """Whose turn."""
    session_id: str
    """In which session."""
    reason: str = "silent"
    """Why."""


@attrs.frozen
class AwaitReply(Operation):
    """A turn of this agent begins to wait for the other member of a session. Result: None.

    Refused with `AskCycle` where that member waits, directly or through others, for this very agent.
    """

    op: ClassVar[str] = "await_reply"
    agent_id: str
    """Who waits."""
    session_id: str
    """In which session."""
    after: int | None = None
    """The question's sequence: where anything was logged after it, it may be answered, and nobody waits."""


@attrs.frozen
class AwaitOver(Operation):
    """The turn waits no longer, whether it got its reply or gave up. Result: None."""

    op: ClassVar[str] = "await_over"
    agent_id: str
    """Who waited."""
    session_id: str
    """In which session."""


@attrs.frozen
class ReadContext(Operation):
    """Result: the context variables of a session as a dict, for members; empty where its type has none."""

    op: ClassVar[str] = "read_context"
    session_id: str
    """Which."""
    agent_id: str
    """The reader."""
