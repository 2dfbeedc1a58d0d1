"""The turns of one agent: its queue and the workers that take from it.

A worker is a child of the client's supervisor. It exists only while the agent is busy and runs one turn at a time;
`concurrency` is how many an agent may have. A turn that raises crashes its worker alone: the delivery goes back to the
hub, the failure is reported, and the supervisor starts the worker's next incarnation, which goes on with the queue. The
rejected road was one actor per agent with its turns as tasks below it: a crash would have to choose between killing
the agent's other turns and hiding from the supervisor.

Workers have a restart budget that cannot be spent: how often one envelope may fail is counted by the hub, per envelope
and across restarts of this program, and a failing turn must never take other agents with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import trio

from ...mailbox.errors import ActorStopped, AgorioError
from ...mailbox.events import EV_SESSION_INVITE
from ...transports.frames import NotifyFrame, ReceiptFrame
from ..runtime.actor import Actor, Context
from ..runtime.child import Backoff, Child
from ..runtime.ref import Ref
from .inbound_calls import InboundCall
from .turn_context import TURN, Turn
from .turn_queue import TurnQueue

if TYPE_CHECKING:
    from .inbound import Inbound

# One restart takes at least a millisecond, so a budget of two thousand a second is never spent.
_REST: Final = Backoff(min=0.001, max=0.1)
_BUDGET: Final = 2000
_IN_A_ROW: Final = 64


class _Signal:
    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


MAIL: Final = _Signal("<there is mail>")
RETIRE: Final = _Signal("<no mail for a while>")


class Turns:
    """Queue and workers of one busy agent; dropped when it has been idle for a while."""

    __slots__ = ("_client", "_free", "_refs", "idle_since", "is_stopped", "queue")

    def __init__(self, client: Inbound) -> None:
        self._client = client
        self._refs: list[Ref] = []
        self._free: list[Ref] = []
        self.queue = TurnQueue()
        self.idle_since = math.inf
        self.is_stopped = False

    @property
    def current_workers(self) -> int:
        """How many workers there are."""
        return len(self._refs)

    def push(self, frame: NotifyFrame | InboundCall) -> None:
        """Queue a delivery and see that somebody takes it."""
        self.queue.push(frame)
        self.kick()

    def kick(self) -> None:
        """Wake a worker, or start one where the agent may have another."""
        if self.is_stopped or not self.queue.has_ready():
            return
        self.idle_since = math.inf
        try:
            if self._free:
                self._free.pop().tell(MAIL)
            elif len(self._refs) < self._client.concurrency:
                self._hire().tell(MAIL)
        except ActorStopped:
            self.is_stopped = True  # the client is leaving: what is queued here stays pending at the hub

    def _hire(self) -> Ref:
        hub_client = self._client.hub_client
        ref = hub_client.start_child(
            Child(
                hub_client.child_name(self._client.name),
                self._make_worker,
                restart="transient",
                on_crash="redeliver",
                max_attempts=2**31,
                backoff=_REST,
                max_restarts=_BUDGET,
                within=1.0,
                grace=hub_client.grace,
            )
        )
        self._refs.append(ref)
        return ref

    def _make_worker(self) -> TurnWorker:
        return TurnWorker(self)

    def rest(self, ref: Ref) -> None:
        """A worker has found nothing to do."""
        self._free.append(ref)
        if len(self._free) == len(self._refs) and not self.queue.current_in_hand:
            self.idle_since = trio.current_time()

    def retire(self) -> None:
        """Let the workers go; whatever comes later gets new ones."""
        self.is_stopped = True
        for ref in self._refs:
            try:
                ref.tell(RETIRE)
            except ActorStopped:
                continue  # the client is closing, and the worker with it

    def take(self) -> NotifyFrame | InboundCall | None:
        """The next delivery in hand, or None."""
        return None if self.is_stopped else self.queue.take()

    def invite(self, frame: NotifyFrame) -> None:
        """Handle an invitation now, beside the turn in hand, in a worker of its own."""
        hub_client = self._client.hub_client
        name = hub_client.child_name(f"{self._client.name}-invite")
        child = Child(name, self._make_invite_worker, restart="temporary", grace=hub_client.grace)
        if self.queue.seize(frame.envelope.session_id):
            try:
                hub_client.start_child(child).tell(frame)
            except ActorStopped:
                self.is_stopped = True

    def _make_invite_worker(self) -> InviteWorker:
        return InviteWorker(self)

    async def run(self, frame: NotifyFrame | InboundCall, incarnation: int) -> None:
        """One turn: the handler, then the receipt. A handler's error is reported and raised on.

        If cancelled: the delivery stays pending at the hub.
        """
        if isinstance(frame, InboundCall):
            await self._answer(frame)
            return
        client, envelope = self._client, frame.envelope
        turn = Turn(client, envelope, frame.attempt)
        token = TURN.set(turn)
        try:
            await client.handle(envelope)
            client.count_handled += 1
            await client.connection.receipt(ReceiptFrame(client.agent_id, envelope.session_id, envelope.sequence))
        except trio.Cancelled:
            self._give_back(frame)
            raise
        except Exception as exc:
            if self._is_reported(frame, exc, incarnation):
                raise
        finally:
            turn.is_over = True
            TURN.reset(token)
            self.queue.done(envelope.session_id)

    async def _answer(self, call: InboundCall) -> None:
        """A message to the agent itself. If cancelled: the asker is told."""
        try:
            await self._client.hub_client.inbound_calls.run(call, self._client)
        finally:
            self.queue.done(call.envelope.session_id)

    def _give_back(self, frame: NotifyFrame) -> None:
        """The turn was cut off. Unless the client is leaving, the hub would wait for its receipt for ever."""
        client, envelope = self._client, frame.envelope
        if not client.is_gone and not client.hub_client.is_closing:
            reason = "the turn was cut off"
            receipt = ReceiptFrame(client.agent_id, envelope.session_id, envelope.sequence, "nack", reason)
            client.connection.post(receipt)

    def _is_reported(self, frame: NotifyFrame, exc: Exception, incarnation: int) -> bool:
        """Send the nack and the report. Where the link has ended its errors are no fault of the agent."""
        if self._client.connection.is_ended and isinstance(exc, AgorioError):
            return False
        self._client.reject_delivery(frame, exc, incarnation)
        return True


class TurnWorker(Actor):
    """Runs turns one after the other until there are none left, then waits to be woken."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def receive(self, message: Any, ctx: Context) -> None:
        """Take from the queue until it is empty. If cancelled: the delivery in hand stays pending at the hub."""
        if message is RETIRE:
            ctx.stop()
            return
        turns, in_a_row = self._turns, 0
        while (frame := turns.take()) is not None:
            await turns.run(frame, ctx.incarnation)
            in_a_row += 1
            if in_a_row % _IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        turns.rest(ctx.ref)


class InviteWorker(Actor):
    """Runs a custom handler on one invitation, and accepts it where the handler did not answer."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def receive(self, message: NotifyFrame, ctx: Context) -> None:
        """Handle the invitation. If cancelled: it stays pending at the hub."""
        assert message.envelope.event_type == EV_SESSION_INVITE
        try:
            await self._turns.run(message, ctx.incarnation)
        finally:
            ctx.stop()
            self._turns.kick()
