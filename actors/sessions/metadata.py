"""What a session is: its manifest, its setup (fixed at opening) and the snapshot that everybody may hold."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import attrs

from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload
from .identity import texts


class SessionState(enum.StrEnum):
    """Where a session is in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    CLOSING = "closing"
    CLOSED = "closed"
    EXPIRED = "expired"


TERMINAL = frozenset({SessionState.CLOSED, SessionState.EXPIRED})


@attrs.frozen
class ParticipantSchema:
    """How many may take part."""

    min: int = 2
    """Participants at least, the creator included."""
    max: int | None = None
    """Participants at most; None is no limit."""
    roles: tuple[str, ...] = attrs.field(default=("initiator", "participant"), converter=texts)
    """The roles that the type gives out."""


def _maybe_texts(value: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if value is None else texts(value)


@attrs.frozen
class Expectation:
    """What must happen in time, and what the hub does when it does not."""

    name: str
    """`acks_within`, `reply_within`, `max_silence`, `turn_within`, or one registered by the user."""
    on_violation: str = "audit"
    """`audit`, `warn`, `hide`, `auto_close`, or one registered by the user."""
    params: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The evaluator's parameters, such as `{"seconds": 30}`."""
    applies_to: tuple[str, ...] | None = attrs.field(default=None, converter=_maybe_texts)
    """Roles or agent ids that it holds for; None is everybody."""


def _expectations(value: Iterable[Expectation]) -> tuple[Expectation, ...]:
    return tuple(value)


@attrs.frozen
class Manifest:
    """What a session type is: which adapter rules it and with which defaults."""

    type: str
    """The adapter's name."""
    version: int = 1
    """The adapter's version."""
    participants: ParticipantSchema = ParticipantSchema()
    """How many may take part."""
    knobs: tuple[str, ...] = attrs.field(default=(), converter=texts)
    """The names of the knobs that `open` may set; any other is refused."""
    default_view_policy: str = "full"
    """The view through which a participant reads the log."""
    expectations: tuple[Expectation, ...] = attrs.field(default=(), converter=_expectations)
    """What the hub watches for in every session of the type."""
    ttl_default: str | float | None = "2h"
    """TTL when neither `open` nor the creator's rule gives one."""


@attrs.frozen
class Participant:
    """One member of a session."""

    agent_id: str
    """The member."""
    role: str
    """`initiator`, `respondent` or `participant`."""
    order: int
    """Its place in the list, from 0."""
    joined_at: str = ""
    """When its invitation was acknowledged; empty before."""


@attrs.frozen
class SessionMetadata:
    """A frozen snapshot of a session."""

    session_id: str
    """The session."""
    manifest: Manifest
    """Its type, as it was at opening."""
    creator_id: str
    """Who opened it."""
    participants: tuple[Participant, ...]
    """Its members in order, the creator first."""
    state: SessionState
    """Where it is in its life."""
    created_at: str
    """ISO-8601 time of opening."""
    expires_at: str | None = None
    """ISO-8601 time at which its TTL ends."""
    closed_at: str | None = None
    """ISO-8601 time at which it ended."""
    close_reason: str | None = None
    """Why it ended."""
    knobs: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """What `open` set."""
    labels: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Free-form JSON, the intent among it."""
    expectations: tuple[Expectation, ...] = attrs.field(default=(), converter=_expectations)
    """What the hub watches for: the manifest's, or those given at opening."""
    required_acks: int | None = None
    """How many invitees must accept; None is all."""
    pending_acks: tuple[str, ...] = attrs.field(default=(), converter=texts)
    """Invitees that have not answered."""
    last_sequence: int = 0
    """The newest envelope's sequence."""
    expected_next: tuple[str, ...] | None = None
    """Whose turn it is; None where anybody may speak."""
    parent_session_id: str | None = None
    """The session from inside which it was opened."""
    depth: int = 0
    """How many delegations led here."""

    def is_terminal(self) -> bool:
        """Whether the session has ended for good."""
        return self.state in TERMINAL

    @property
    def participant_ids(self) -> tuple[str, ...]:
        """The members' ids in order."""
        return tuple(p.agent_id for p in self.participants)

    @property
    def intent(self) -> Any:
        """What the session was opened for, if it was said."""
        return self.labels.get("intent")


@attrs.frozen
class SessionSetup:
    """What is fixed when a session opens; with the log it is all that a restart needs."""

    session_id: str
    """The session."""
    manifest: Manifest
    """Its type, as it was at opening."""
    creator_id: str
    """Who opened it."""
    participants: tuple[str, ...] = attrs.field(converter=texts)
    """The members' ids in order, the creator first."""
    created_at: float
    """Seconds since 1970."""
    expires_at: float | None
    """Seconds since 1970 at which the TTL ends."""
    ack_deadline: float | None = None
    """Seconds since 1970 until which invitations must be answered."""
    knobs: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """What `open` set."""
    labels: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Free-form JSON, the intent among it."""
    expectations: tuple[Expectation, ...] = attrs.field(default=(), converter=_expectations)
    """What the hub watches for."""
    required_acks: int | None = None
    """How many invitees must accept; None is all."""
    parent_session_id: str | None = None
    """The session from inside which it was opened."""
    depth: int = 0
    """How many delegations led here."""

    @property
    def invitees(self) -> tuple[str, ...]:
        """Every member but the creator."""
        return tuple(p for p in self.participants if p != self.creator_id)

    @property
    def quorum(self) -> int:
        """How many invitees must accept."""
        return len(self.invitees) if self.required_acks is None else self.required_acks

    def role_of(self, agent_id: str) -> str:
        """The member's role: the creator is `initiator`, the other of two `respondent`, else `participant`."""
        if agent_id == self.creator_id:
            return "initiator"
        return "respondent" if len(self.participants) == 2 else "participant"
