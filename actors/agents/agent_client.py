"""One registered agent as its own program sees it: what it sends, what it opens, what it waits for, how it answers.

Ten thousand of them may share one connection, so a record that is idle holds nothing but the agent and its papers: the
turns, the watches and the undelivered mail are made when they are first needed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput
from ...mailbox.events import EV_SESSION_INVITE, INVITE_ANSWERS
from ..sessions.budget import reported
from ..sessions.graph import TransitionGraph
from ..sessions.identity import Passport, Resume, ResumeExample
from ..sessions.metadata import Expectation, SessionMetadata
from ..sessions.operations import (
    AddExample,
    CloseSession,
    OpenSession,
    Registered,
    ReportUsage,
    SetResume,
    SetRule,
    SetSkill,
    SetWindow,
)
from ..sessions.rule import Rule
from .calling import Asker, as_handler
from .delegation import CONSULTING, awaiting
from .handler import default_handler
from .inbound import Handler
from .observing import Observation, observe
from .session import Session, Who, ids_of
from .task_owner import TaskOwner
from .turn_context import turn_of
from .views import ViewPolicy
from .waiting import Predicate, Watches

if TYPE_CHECKING:
    from .hub_client import HubClient


def _knobs(knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.to_dict() if isinstance(value, TransitionGraph) else value for key, value in knobs.items()}


def _expectation(given: Expectation | Mapping[str, Any]) -> Expectation:
    return Expectation(**given) if isinstance(given, Mapping) else given


@attrs.frozen
class AgentClientStatistics:
    """What one agent has in hand and has done since it was registered here."""

    current_waiting: int
    """Deliveries that wait for a turn here; the hub holds the rest."""
    current_turns: int
    """Turns in hand."""
    current_workers: int
    """Workers, idle ones included."""
    current_watches: int
    """Sessions in which it has waited for events."""
    current_unanswered: int
    """Deliveries that nobody has taken because the agent has no handler."""
    total_handled: int
    """Turns that were acknowledged."""
    total_failed: int
    """Turns that raised."""
    tasks_waiting: int
    """Tasks that wait for a session's event."""


class AgentClient(TaskOwner):
    """A registered agent. Made by `HubClient.register`."""

    __slots__ = (
        "agent",
        "asker",
        "count_reports",
        "passport",
        "resume",
        "rule",
        "view",
        "views",
    )

    def __init__(
        self,
        hub_client: HubClient,
        registered: Registered,
        *,
        agent: Any = None,
        asker: Asker | None = None,
        handler: Handler | None = None,
        attach_plugin: bool = True,
        concurrency: int = 1,
        view: ViewPolicy | str | None = None,
    ) -> None:
        super().__init__(hub_client, registered.agent_id, handler, attach_plugin, concurrency)
        self.agent = agent
        self.asker = asker
        self.passport: Passport = registered.passport
        self.resume: Resume = registered.resume
        self.rule: Rule = registered.rule
        self.view = view
        self.count_reports = 0
        self.views: dict[str, ViewPolicy | str] | None = None

    def __repr__(self) -> str:
        return f"<AgentClient {self.name} {self.agent_id}>"

    @property
    def name(self) -> str:
        """The agent's name on the hub."""
        return self.passport.name

    # What it says.

    async def send_envelope(self, envelope: Envelope) -> Envelope:
        """Send an envelope; returns it as the hub accepted it: judged, durable and on its way.

        A blank `sender_id` becomes this agent's, a blank `causation_id` the envelope of the turn in hand if that is of
        the same session.

        If cancelled: the envelope may have been accepted; send it again with the same `idempotency_key`.
        """
        turn = turn_of(self)
        if turn is not None and envelope.causation_id is None and turn.envelope.session_id == envelope.session_id:
            envelope = attrs.evolve(envelope, causation_id=turn.envelope.envelope_id)
        if not envelope.sender_id:
            envelope = attrs.evolve(envelope, sender_id=self.agent_id)
        if envelope.event_type in INVITE_ANSWERS:
            self.note_answer(envelope.session_id)
        return (await self.connection.send(envelope)).envelope

    async def open(
        self,
        type: str = "conversation",
        target: Who | Iterable[Who] = (),
        *,
        knobs: Mapping[str, Any] | None = None,
        ttl: str | float | None = None,
        intent: str | None = None,
        labels: dict[str, Any] | None = None,
        expectations: Iterable[Expectation | Mapping[str, Any]] | None = None,
        required_acks: int | None = None,
        version: int | None = None,
        invite_ack_timeout: float | None = None,
    ) -> Session:
        """Open a session with `target`, a name, an id or a client, or several, and return once it is active.

        Inside a turn the session is opened on behalf of the envelope in hand, so the hub knows how deep it nests.

        If cancelled: the hub stops opening it; a session that was open already lives on until its TTL.
        """
        turn = turn_of(self)
        operation = OpenSession(
            self.agent_id,
            type,
            ids_of(target),
            version=version,
            knobs=_knobs(knobs or {}),
            ttl=ttl,
            intent=intent,
            labels=labels or {},
            expectations=None if expectations is None else tuple(map(_expectation, expectations)),
            required_acks=required_acks,
            invite_ack_timeout=invite_ack_timeout,
            causation_id=turn.envelope.envelope_id if turn is not None else None,
            parent_session_id=turn.envelope.session_id if turn is not None else None,
        )
        metadata: SessionMetadata = await self.connection.request(operation, is_bounded=False)
        self.hub_client.remember(metadata)
        return Session(self, metadata)

    async def close_session(self, session_id: str, reason: str = "explicit_close") -> SessionMetadata:
        """Close a session that this agent is in. If cancelled: it may have been closed."""
        turn = turn_of(self)
        if turn is not None and turn.envelope.session_id == session_id:
            turn.closes_session = True
        metadata: SessionMetadata = await self.connection.request(CloseSession(session_id, self.agent_id, reason))
        return metadata

    async def session(self, session_id: str) -> Session:
        """A handle on a session that this agent is in. If cancelled: nothing has changed."""
        return Session(self, await self.hub_client.get_session(session_id))

    async def wait_for_session_event(
        self,
        session_id: str,
        predicate: Predicate | None = None,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> Envelope:
        """Wait for an event of the session that matches; without a predicate, for anything that is said.

        What arrived before the call counts. A call returns the oldest match that no earlier call has returned; what
        does not match stays for later calls (the newest 1,024), and an event that several waiting calls match is given
        to all of them. Raises `TimeoutError`, and `SessionClosedError` with the reason once the session has ended and
        no match is left; inside a turn, in a consultation, also `AskCycle` where the other waits for this very turn.

        If cancelled: every event is still there for the next call.
        """
        if self.watches is None:
            self.watches = Watches(self)
        seconds = math.inf if timeout is None else timeout
        if turn_of(self) is not None and await self._is_consulting(session_id):
            async with awaiting(self, session_id):
                return await self.watches.wait(session_id, predicate, seconds)
        return await self.watches.wait(session_id, predicate, seconds)

    async def _is_consulting(self, session_id: str) -> bool:
        return (await self.hub_client.session_setup(session_id)).manifest.type == CONSULTING

    def observe(
        self,
        session_id: str,
        *,
        after: int = 0,
        event_types: Collection[str] | None = None,
        task_id: str | None = None,
    ) -> AbstractAsyncContextManager[Observation]:
        """A block that shows a session's events as they happen, without a delivery: `async with client.observe(id) as
        events:` and `async for envelope in events:`.

        It begins with what the log holds after the sequence `after`, shows what this agent may see, and of that only
        `event_types` or what is about one task, where given; it ends with the session, or with that task. A lost
        connection leaves no gap, and a slow observer misses nothing. Iterating raises `NotAMemberError`,
        `NotFoundError`, and `LinkClosed` once there is no connection any more.

        If cancelled: it is observed no more.
        """
        return observe(self, session_id, after, event_types, task_id)

    # How it answers.

    def on_envelope(self, callback: Handler | None) -> None:
        """Have `callback(envelope)`, async or not, handle all that arrives from now on, invitations and ends included.

        A delivery is acknowledged when the callback returns and retried when it raises. An invitation that it leaves
        unanswered is accepted. `None` takes the handler away: mail then waits at the hub.
        """
        had_handler = self.has_handler
        self._callback = None if callback is None else as_handler(callback)
        self.has_default_handler = False
        if self.has_handler != had_handler:
            self.connection.post_request(SetWindow(self.agent_id, self.concurrency if self.has_handler else 0))
        if self.has_handler:
            self.deliver_unanswered()

    async def handle(self, envelope: Envelope) -> None:
        """Run the handler on one envelope. If cancelled: it is not handled."""
        if self._callback is None:
            await default_handler(envelope, self)
        elif envelope.event_type == EV_SESSION_INVITE:
            await self.answer_invite(envelope)
        else:
            await self._callback(envelope)

    def set_view(self, view: ViewPolicy | str | None, *, session_id: str | None = None) -> None:
        """See sessions, or only this one, through another view: a policy, the name of one, or None for the default."""
        if session_id is None:
            self.view = view
            return
        kept = {key: value for key, value in (self.views or {}).items() if key != session_id}
        self.views = kept if view is None else {**kept, session_id: view}

    def view_of(self, session_id: str) -> ViewPolicy | str | None:
        """The view that was set for the session, else for the agent; None where the session's own holds."""
        return (self.views or {}).get(session_id, self.view)

    # Its papers.

    async def set_resume(self, resume: Resume, *, expected_version: int | None = None) -> Resume:
        """Replace the résumé; `observed` stays the hub's. If cancelled: it may have been replaced."""
        self.resume = await self.connection.request(SetResume(self.agent_id, resume, expected_version))
        return self.resume

    async def add_example(self, example: ResumeExample) -> Resume:
        """Append one example to the résumé. If cancelled: it may have been appended."""
        self.resume = await self.connection.request(AddExample(self.agent_id, example))
        return self.resume

    async def set_skill(self, skill_md: str | None) -> None:
        """Replace the skill's markdown; None removes it. If cancelled: it may have been replaced."""
        await self.connection.request(SetSkill(self.agent_id, skill_md))

    async def set_rule(self, rule: Rule) -> Rule:
        """Tighten the rule. If cancelled: it may have been replaced."""
        self.rule = await self.connection.request(SetRule(self.agent_id, rule))
        return self.rule

    async def report_usage(self, usage: Any, *, session_id: str | None = None, key: str | None = None) -> None:
        """Tell the hub what was used up: `{"input_tokens": …, "output_tokens": …, "cost": …}`, or `total_tokens`.

        The default handler does this with a reply that has a `usage`. Inside a turn it counts for that session. It is
        counted once per `key`, whatever is retried; without one every call is a report of its own. Raises
        `InvalidInput` for what is negative or no number.

        If cancelled: it may have been counted; report it again with the same `key`.
        """
        used, turn = reported(usage), turn_of(self)
        if used is None:
            raise InvalidInput("usage has none of total_tokens, input_tokens, output_tokens and cost", field="usage")
        if session_id is None and turn is not None:
            session_id = turn.envelope.session_id
        self.count_reports += 1
        if key is None:
            # Never given twice: by the time of this connection's greeting, and counted from there.
            welcome = self.connection.welcome
            key = f"{'' if welcome is None else welcome.hub_time}/{self.count_reports}"
        await self.connection.request(ReportUsage(self.agent_id, used.tokens, used.cost, session_id, key))

    # Its end.

    async def unregister(self) -> None:
        """Remove the identity from the hub. If cancelled: it may have been removed."""
        await self.hub_client.unregister(self.agent_id)

    async def disconnect(self) -> None:
        """Stop handling mail here; the hub keeps it and the identity. If cancelled: the hub may still push some."""
        if not self.is_gone:
            self.hub_client.forget(self)
            await self.connection.request(SetWindow(self.agent_id, 0))
        else:
            await trio.lowlevel.checkpoint()

    close = disconnect

    def statistics(self) -> AgentClientStatistics:
        """What it has in hand and has done."""
        turns, watches = self.turns, self.watches
        return AgentClientStatistics(
            current_waiting=0 if turns is None else turns.queue.current_waiting,
            current_turns=0 if turns is None else turns.queue.current_in_hand,
            current_workers=0 if turns is None else turns.current_workers,
            current_watches=0 if watches is None else len(watches),
            current_unanswered=self.current_unanswered,
            total_handled=self.count_handled,
            total_failed=self.count_failed,
            tasks_waiting=0 if watches is None else sum(watch.tasks_waiting for watch in watches),
        )
