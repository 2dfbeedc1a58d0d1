"""The rows of the door: what each operation does. Authorisation by identity is the door's; by membership it is here."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..actors.sessions import operations as ops
from ..actors.sessions.budget import Usage, check_usage
from ..actors.sessions.credentials import Challenge
from ..actors.sessions.identity import KINDS, Passport, Resume, check_name
from ..actors.sessions.judging import Note, check_member, check_open, judge
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, InvalidInput, NetworkError
from ..mailbox.events import AUDIT_KIND_ACTOR_RESTARTED, AUDIT_KIND_TURN_FAILED, EV_TURN_SKIPPED
from .connections import Connection
from .directory import SORTS, may_talk
from .door import Row, member_of
from .session import SessionCell

if TYPE_CHECKING:
    from .services import Services

MAX_MESSAGE = 500
MAX_KEY = 200
MAX_LISTED = 1000


class Operations:
    """Handlers of the control calls."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def rows(self) -> dict[str, Row]:
        """Every operation by name."""
        table = (
            Row(ops.AuthChallenge, self.auth_challenge, None),
            Row(ops.Register, self.register, None, is_cancelable=False),
            Row(ops.Unregister, self.unregister),
            Row(ops.SetWindow, self.set_window),
            Row(ops.Watch, self.watch),
            Row(ops.OpenSession, self.open_session, "creator_id"),
            Row(ops.CloseSession, self.close_session),
            Row(ops.GetSession, self.get_session, None),
            Row(ops.ListSessions, self.list_sessions, None),
            Row(ops.ReadWal, self.read_wal, None),
            Row(ops.CanSend, self.can_send),
            Row(ops.FindByCausation, self.find_by_causation),
            Row(ops.GetAgent, self.get_agent, None),
            Row(ops.GetResume, self.get_resume, None),
            Row(ops.GetRule, self.get_rule, None),
            Row(ops.GetSkill, self.get_skill, None),
            Row(ops.NamesFor, self.names_for, None),
            Row(ops.ListAgents, self.list_agents, None),
            Row(ops.SetResume, self.set_resume),
            Row(ops.AddExample, self.add_example),
            Row(ops.SetSkill, self.set_skill),
            Row(ops.SetRule, self.set_rule),
            Row(ops.ReportTurnFailure, self.report_turn_failure),
            Row(ops.ReportUsage, self.report_usage),
            Row(ops.SkipTurn, self.skip_turn),
            Row(ops.AwaitReply, self.await_reply),
            Row(ops.AwaitOver, self.await_over),
            Row(ops.ReadContext, self.read_context),
            Row(ops.ActorAsk, self.actor_ask),
            Row(ops.ActorSend, self.actor_send),
            Row(ops.ActorStoppedWait, self.actor_stopped),
        )
        return {row.params.op: row for row in (*table, *self._services.task_calls.rows())}

    # Identity.

    def auth_challenge(self, connection: Connection, op: ops.AuthChallenge) -> Challenge:
        """The hub's question, asked of everybody alike."""
        return self._services.registry.auth.challenge(op.scheme, check_name(op.name))

    async def register(self, connection: Connection, op: ops.Register) -> ops.Registered:
        """Register and bind."""
        registered, entry = await self._services.registry.register(op)
        await self._services.registry.wake_sessions(entry, pending_only=True)
        connection.bind(entry, op.window)
        return registered

    async def unregister(self, connection: Connection, op: ops.Unregister) -> None:
        """Strike off."""
        await self._services.registry.unregister(op.agent_id)

    def set_window(self, connection: Connection, op: ops.SetWindow) -> None:
        """Change the flow of deliveries."""
        connection.bound[op.agent_id].inbox.set_window(op.window)

    def watch(self, connection: Connection, op: ops.Watch) -> None:
        """Push one session through."""
        held = self._services.sessions.held(op.session_id)
        if held is not None and op.agent_id in held.participants:  # from any other nothing can come
            connection.bound[op.agent_id].inbox.watch(op.session_id)

    def get_agent(self, connection: Connection, op: ops.GetAgent) -> Passport:
        """A passport."""
        self._known(connection)
        return self._services.directory.entry(op.name_or_id).passport

    def get_resume(self, connection: Connection, op: ops.GetResume) -> Resume:
        """A résumé."""
        self._known(connection)
        return self._services.directory.entry(op.agent_id).resume

    def get_rule(self, connection: Connection, op: ops.GetRule) -> Rule:
        """One's own rule; another's is nobody's business."""
        entry = self._services.directory.entry(op.agent_id)
        if entry.agent_id not in connection.bound:
            raise AccessDeniedError("an agent reads only its own rule")
        return entry.rule

    def get_skill(self, connection: Connection, op: ops.GetSkill) -> str | None:
        """A skill as it was set; the reader renders the fallback."""
        self._known(connection)
        return self._services.directory.entry(op.agent_id).stored.skill_md

    def names_for(self, connection: Connection, op: ops.NamesFor) -> dict[str, str]:
        """Ids to names."""
        self._known(connection)
        return self._services.directory.names(op.agent_ids)

    def list_agents(self, connection: Connection, op: ops.ListAgents) -> tuple[Passport, ...]:
        """Search."""
        self._known(connection)
        return tuple(entry.passport for entry in self._services.search(op))

    def _known(self, connection: Connection) -> None:
        if not connection.bound:
            raise AccessDeniedError("register or attach an agent on this connection first")

    def set_resume(self, connection: Connection, op: ops.SetResume) -> Awaitable[Resume]:
        """Replace."""
        return self._services.registry.set_resume(op)

    def add_example(self, connection: Connection, op: ops.AddExample) -> Awaitable[Resume]:
        """Append."""
        return self._services.registry.add_example(op)

    def set_skill(self, connection: Connection, op: ops.SetSkill) -> Awaitable[None]:
        """Replace."""
        return self._services.registry.set_skill(op)

    def set_rule(self, connection: Connection, op: ops.SetRule) -> Awaitable[Rule]:
        """Tighten."""
        return self._services.registry.set_rule(op, operator=False)

    # Sessions.

    def open_session(self, connection: Connection, op: ops.OpenSession) -> Awaitable[SessionMetadata]:
        """Open and wait for the answers."""
        return self._services.handshakes.open(op)

    def close_session(self, connection: Connection, op: ops.CloseSession) -> Awaitable[SessionMetadata]:
        """Close as a member."""
        return self._services.close_session(op.session_id, op.reason, by=op.agent_id)

    async def get_session(self, connection: Connection, op: ops.GetSession) -> SessionMetadata:
        """A snapshot, for members."""
        cell = await self._services.sessions.get(op.session_id)
        member_of(connection, cell)
        return cell.metadata()

    async def list_sessions(self, connection: Connection, op: ops.ListSessions) -> tuple[SessionMetadata, ...]:
        """The sessions of this connection's agents."""
        members = list(connection.bound)
        if op.agent_id is not None:
            if op.agent_id not in connection.bound:
                raise AccessDeniedError("an agent lists only its own sessions")
            members = [op.agent_id]
        return tuple(await self._services.list_sessions(members, op.state, min(op.limit, MAX_LISTED)))

    def read_wal(self, connection: Connection, op: ops.ReadWal) -> Any:
        """The log as a member sees it."""
        cell = self._services.sessions.resident(op.session_id)
        if cell is None:
            return self._read_loaded(connection, op)
        return self._services.reader.read(op, self._reader(connection, cell, op.agent_id), cell.live.sequence)

    async def _read_loaded(self, connection: Connection, op: ops.ReadWal) -> Any:
        cell = await self._services.sessions.get(op.session_id)
        return await self._services.reader.read_later(
            op, self._reader(connection, cell, op.agent_id), cell.live.sequence
        )

    def _reader(self, connection: Connection, cell: Any, agent_id: str | None) -> tuple[str, ...]:
        if agent_id is None:
            member_of(connection, cell)
            return tuple(who for who in cell.setup.participants if who in connection.bound)
        if agent_id not in connection.bound:
            raise AccessDeniedError(f"this connection does not act as {agent_id!r}")
        check_member(cell.live, agent_id)
        return (agent_id,)

    def can_send(self, connection: Connection, op: ops.CanSend) -> Any:
        """The rules by which the hub would judge."""
        return self._services.can_send(op)

    async def find_by_causation(self, connection: Connection, op: ops.FindByCausation) -> Envelope | None:
        """The member's own answer to an envelope."""
        cell = await self._services.sessions.get(op.session_id)
        check_member(cell.live, op.agent_id)
        found = None
        async for envelope in self._services.reader.each(op.session_id):
            if envelope.sender_id == op.agent_id and envelope.causation_id == op.causation_id:
                found = envelope
        return found

    # Actors by name.

    def _ref(self, agent_id: str, name: str) -> Any:
        """The actor of a name, where both agents' rules allow the two to talk."""
        services = self._services
        sender, target = services.directory.entry(agent_id), services.directory.entry(name)
        reason = may_talk(sender, target)
        if reason is not None:
            raise AccessDeniedError(reason, recipient=target.name)
        services.governance.check_parked(sender)
        services.governance.take_token(sender)
        assert services.registry.agents is not None
        return services.registry.agents.ref(target.name)

    async def actor_ask(self, connection: Connection, op: ops.ActorAsk) -> Any:
        """Ask; the asker's deadline bounds the handler."""
        ref = self._ref(op.agent_id, op.name)
        with trio.move_on_after(math.inf if op.timeout is None else op.timeout):
            return await ref.ask(op.message)
        raise NetworkError(f"{op.name!r} has not replied within {op.timeout:g} s")

    def actor_send(self, connection: Connection, op: ops.ActorSend) -> Any:
        """Tell at once, which keeps the order of tells, or wait for a slot."""
        ref = self._ref(op.agent_id, op.name)
        return ref.send(op.message) if op.wait else ref.tell(op.message)

    async def actor_stopped(self, connection: Connection, op: ops.ActorStoppedWait) -> str:
        """Death watch."""
        reason: str = await self._ref(op.agent_id, op.name).stopped()
        return reason

    # Turns.

    def report_turn_failure(self, connection: Connection, op: ops.ReportTurnFailure) -> Awaitable[None]:
        """Count and audit a failed turn, and the restart of the agent's actor where there was one.

        It is counted at once: the negative receipt follows on its heels, and would not tell of the restart.
        """
        entry = self._services.directory.entry(op.agent_id)
        restarts = int(op.incarnation > 0)
        self._services.budgets.failed_turn(entry, op.session_id, envelope_id=op.envelope_id, restarts=restarts)
        return self._audit_turn_failure(connection, op)

    async def _audit_turn_failure(self, connection: Connection, op: ops.ReportTurnFailure) -> None:
        cell = await self._services.sessions.get(op.session_id)
        check_member(cell.live, op.agent_id)
        entry = self._services.directory.entry(op.agent_id)
        self._services.audit.write(
            AUDIT_KIND_TURN_FAILED,
            agent_id=entry.agent_id,
            name=entry.name,
            session_id=op.session_id,
            envelope_id=op.envelope_id,
            exc_type=op.exc_type[:MAX_MESSAGE],
            exc_message=op.exc_message[:MAX_MESSAGE],
        )
        if op.incarnation and connection.endpoint.kind != "local":
            # An actor in this process is restarted by this hub's own supervisors, whose events are audited already.
            self._services.audit.write(
                AUDIT_KIND_ACTOR_RESTARTED, actor=entry.name, agent_id=entry.agent_id, incarnation=op.incarnation
            )

    async def report_usage(self, connection: Connection, op: ops.ReportUsage) -> None:
        """Count what an agent has used, in its session too while that is open."""
        cell = None
        if op.session_id is not None:
            loaded = await self._services.sessions.get(op.session_id)
            check_member(loaded.live, op.agent_id)
            cell = self._services.sessions.resident(op.session_id)
        entry = self._services.directory.entry(op.agent_id)
        usage = check_usage(Usage(tokens=op.tokens, cost=op.cost))
        await self._services.budgets.report(entry, usage, cell, op.key[:MAX_KEY])

    async def skip_turn(self, connection: Connection, op: ops.SkipTurn) -> None:
        """Give up one's turn, if it is one's turn."""
        cell = await self._services.sessions.get(op.session_id)
        check_member(cell.live, op.agent_id)
        self._services.skip_turn(cell, op.agent_id, op.reason[:MAX_MESSAGE])

    def await_reply(self, connection: Connection, op: ops.AwaitReply) -> Awaitable[None] | None:
        """A turn begins to wait. A session without work left has ended: nobody waits there."""
        cell = self._services.sessions.resident(op.session_id)
        if cell is None:
            return self._await_later(connection, op) if self._services.sessions.held(op.session_id) else None
        self._await_in(connection, op, cell)
        return None

    def _await_in(self, connection: Connection, op: ops.AwaitReply, cell: SessionCell) -> None:
        check_member(cell.live, op.agent_id)
        connection.on_unbind = self._services.waits.gone
        self._services.waits.begin(cell, op.agent_id, op.after)

    async def _await_later(self, connection: Connection, op: ops.AwaitReply) -> None:
        self._await_in(connection, op, await self._services.sessions.get(op.session_id))

    def await_over(self, connection: Connection, op: ops.AwaitOver) -> None:
        """A turn waits no longer."""
        self._services.waits.over(op.session_id, op.agent_id)

    async def read_context(self, connection: Connection, op: ops.ReadContext) -> dict[str, Any]:
        """The context variables, for members."""
        cell = await self._services.sessions.get(op.session_id)
        check_member(cell.live, op.agent_id)
        return dict(cell.adapter.context(cell.live.adapter_state))


def probe(cell: Any, agent_id: str, event_type: str, now: float) -> bool:
    """Whether a send of this kind would be judged legal now."""
    live = cell.tail
    data = {"text": "?"}
    try:
        check_member(live, agent_id)
        check_open(live, now)
        judge(live, cell.adapter, Envelope(cell.session_id, agent_id, None, event_type, data))
    except NetworkError:
        return False
    return True


def skip_note(agent_id: str, reason: str) -> Note:
    """The hub's note that a turn is skipped."""
    return Note(EV_TURN_SKIPPED, {"agent_id": agent_id, "reason": reason})


def check_search(op: ops.ListAgents) -> ops.ListAgents:
    """The search, if it is in range."""
    if op.sort_by not in SORTS:
        raise InvalidInput(f"sort_by={op.sort_by!r} is unknown; use one of {', '.join(SORTS)}", field="sort_by")
    if op.kind is not None and op.kind not in KINDS:
        raise InvalidInput(f"kind={op.kind!r} is unknown; use one of {', '.join(KINDS)}", field="kind")
    if op.limit < 0:
        raise InvalidInput(f"limit={op.limit} must not be negative", field="limit")
    return op if op.limit <= MAX_LISTED else attrs.evolve(op, limit=MAX_LISTED)
