"""Opening a session: names to ids, times and defaults, invitations, and the wait for their answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio

from ..actors.sessions.metadata import Expectation, Manifest, SessionMetadata, SessionSetup, SessionState
from ..actors.sessions.operations import OpenSession
from ..mailbox.clock import Clock, parse_duration
from ..mailbox.errors import InvalidInput, NotFoundError, ProtocolError, QuarantinedError
from .directory import Directory, Entry
from .session import SessionCell
from .sessions import Sessions


class Handshakes:
    """Opens sessions."""

    def __init__(
        self,
        *,
        directory: Directory,
        sessions: Sessions,
        clock: Clock,
        mint: Callable[[], str],
        ack_timeout: float,
        prepare_expectations: Callable[[tuple[Expectation, ...], list[Entry]], tuple[Expectation, ...]],
    ) -> None:
        self._prepare_expectations = prepare_expectations
        self._directory = directory
        self._sessions = sessions
        self._clock = clock
        self._mint = mint
        self._ack_timeout = ack_timeout

    async def open(self, op: OpenSession) -> SessionMetadata:
        """Open, invite and wait until the session is active.

        Raises `NotFoundError`, `InvalidInput`, `GraphError` and `AccessDeniedError` before anything is written, and
        `ProtocolError` when an invitation is declined or the answers do not come in time. If cancelled: the session is
        closed as `open_cancelled`.
        """
        creator = self._directory.entry(op.creator_id)
        _check_timeout(op.invite_ack_timeout)
        setup, invitees = self._setup(op, creator, await self._claimed(op))
        opened = trio.Event()
        cell = self._sessions.create(setup, creator, invitees)
        cell.opened = opened
        cell.handshake_over()
        try:
            with trio.move_on_after(self._timeout(op)):
                await opened.wait()
        except trio.Cancelled:
            self._close(cell, "open_cancelled")
            raise
        finally:
            cell.opened = None  # nobody waits any more, even where the end that follows is refused by the store
        return self._outcome(cell)

    def _timeout(self, op: OpenSession) -> float:
        return self._ack_timeout if op.invite_ack_timeout is None else op.invite_ack_timeout

    def _close(self, cell: SessionCell, reason: str) -> None:
        if self._sessions.resident(cell.session_id) is cell:
            self._sessions.close(cell, reason)

    def _outcome(self, cell: SessionCell) -> SessionMetadata:
        if cell.failure is not None:
            raise cell.failure
        if cell.live.state is SessionState.PENDING:
            waiting = [who for who in cell.setup.invitees if not cell.live.answered(who)]
            self._close(cell, "invite_timeout")
            names = ", ".join(sorted(self._directory.names(waiting).values())) or "nobody"
            raise ProtocolError(
                f"session {cell.session_id} was closed as invite_timeout: {names} did not answer the invitation",
                session_id=cell.session_id,
                reason="invite_timeout",
                waiting=waiting,
            )
        if len(cell.live.joined) < cell.setup.quorum:
            raise ProtocolError(
                f"session {cell.session_id} was closed as {cell.live.close_reason} before it became active",
                session_id=cell.session_id,
                reason=cell.live.close_reason,
            )
        return cell.metadata()

    # The setup.

    def _setup(self, op: OpenSession, creator: Entry, parent: SessionCell | None) -> tuple[SessionSetup, list[Entry]]:
        manifest = self._sessions.adapters.get(op.type, op.version).manifest
        members = self._members(op, creator)
        _check_number(manifest, members)
        invitees = [entry for entry in members if entry is not creator]
        now = self._clock.time()
        ttl = self._ttl(op, creator, manifest)
        expectations = manifest.expectations
        if op.expectations is not None:
            expectations = self._prepare_expectations(op.expectations, members)
        setup = SessionSetup(
            session_id=self._mint(),
            manifest=manifest,
            creator_id=creator.agent_id,
            participants=tuple(entry.agent_id for entry in members),
            created_at=now,
            expires_at=None if ttl is None else now + ttl,
            ack_deadline=now + self._timeout(op),
            knobs=self._knobs(op, manifest),
            labels={**op.labels, "intent": op.intent} if op.intent is not None else op.labels,
            expectations=expectations,
            required_acks=_quorum(op.required_acks, len(invitees)),
            parent_session_id=op.parent_session_id,
            depth=self._depth(creator, parent),
        )
        return setup, invitees

    def _members(self, op: OpenSession, creator: Entry) -> list[Entry]:
        if not op.participants:
            raise InvalidInput("a session needs somebody to talk to: target is empty", field="target")
        if len(op.participants) > 10_000:
            raise InvalidInput("a session takes at most 10,000 participants", field="target")
        members = [self._directory.entry(who) for who in op.participants]
        seen: set[str] = set()
        for entry in members:
            if entry.agent_id in seen:
                raise InvalidInput(f"{entry.name!r} is listed twice among the participants", field="target")
            seen.add(entry.agent_id)
        if creator.agent_id in seen:
            members.remove(creator)
        return [creator, *members]

    def _ttl(self, op: OpenSession, creator: Entry, manifest: Manifest) -> float | None:
        if op.ttl is not None:
            return parse_duration(op.ttl, "ttl")
        if creator.rule.limits.session_ttl_default is not None:
            return parse_duration(creator.rule.limits.session_ttl_default, "limits.session_ttl_default")
        return parse_duration(manifest.ttl_default, "manifest.ttl_default")

    def _knobs(self, op: OpenSession, manifest: Manifest) -> dict[str, Any]:
        unknown = [knob for knob in op.knobs if knob not in manifest.knobs]
        if unknown:
            known = ", ".join(manifest.knobs) or "none"
            raise InvalidInput(f"session type {op.type!r} has no knob {unknown[0]!r}; known: {known}", field="knobs")
        adapter = self._sessions.adapters.get(op.type, op.version)
        return adapter.resolve_knobs(op.knobs, lambda who: self._directory.entry(who).agent_id)

    async def _claimed(self, op: OpenSession) -> SessionCell | None:
        """The session from inside which it is said to be opened, if the creator does take part in that one."""
        if op.parent_session_id is None:
            return None
        try:
            parent = await self._sessions.get(op.parent_session_id)
        except (NotFoundError, QuarantinedError):
            return None
        return parent if op.creator_id in parent.participants else None

    def _depth(self, creator: Entry, parent: SessionCell | None) -> int:
        """One deeper than the session from inside which it is opened.

        The claim is believed where the creator has mail of that session in hand, so that it may well be answering it.
        Otherwise the deepest session that it has mail of in hand counts as well: whoever keeps silent about where a
        delegation comes from would evade the cap. People are believed; they read when they like.
        """
        claimed = -1 if parent is None else parent.setup.depth
        in_hand = () if creator.passport.kind == "human" else creator.inbox.desk.in_hand()
        if parent is None or parent.session_id not in in_hand:
            cells = [cell for key in in_hand if (cell := self._sessions.resident(key)) is not None]
            claimed = max([claimed, *(cell.setup.depth for cell in cells)])
        return claimed + 1


def _check_timeout(seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds < math.inf:
        raise InvalidInput(
            f"invite_ack_timeout={seconds!r} must be a number of seconds, 0 or more", field="invite_ack_timeout"
        )


def _check_number(manifest: Manifest, members: list[Entry]) -> None:
    least, most = manifest.participants.min, manifest.participants.max
    if len(members) < least or (most is not None and len(members) > most):
        wanted = f"exactly {least}" if least == most else f"{least} to {most}" if most else f"at least {least}"
        raise InvalidInput(
            f"session type {manifest.type!r} takes {wanted} participants, the creator included; got {len(members)}",
            field="target",
        )


def _quorum(required: int | None, invitees: int) -> int | None:
    if required is None:
        return None
    if isinstance(required, bool) or not isinstance(required, int) or not 1 <= required <= max(1, invitees):
        raise InvalidInput(f"required_acks={required!r} must be between 1 and {invitees}", field="required_acks")
    return required
