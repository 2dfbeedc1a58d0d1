"""One agent's inbox: the mailbox that enforces its cap, the desk that orders it, and the connection it goes out by.

Everything here is synchronous. A pending delivery holds a slot of the bounded mailbox, on lease, from the moment its
envelope is admitted until its receipt comes back, so the cap is exact for offline agents and over restarts. The agent's
actor (`InboxActor`) owns the timers of redelivery.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..actors.sessions.rule import InboxBlock
from ..mailbox.box import Mailbox, Statistics
from ..mailbox.envelope import Envelope
from ..mailbox.errors import InboxFull, LinkClosed
from ..transports.frames import NotifyFrame
from .desk import Delivery, Desk, is_counted

if TYPE_CHECKING:
    from .connections import Connection

_TOKEN = object()


@attrs.frozen
class Redelivery:
    """How often and how soon a failed delivery is tried again."""

    max_attempts: int = 5
    """After so many failures it becomes a dead letter."""
    backoff: float = 0.1
    """Seconds before the second attempt."""
    factor: float = 2.0
    """What each further failure multiplies it by."""
    max_backoff: float = 30.0
    """Seconds at most."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the failure of attempt `attempt`, which counts from 1."""
        exponent = min(max(attempt - 1, 0), 64)
        return min(self.max_backoff, self.backoff * math.pow(self.factor, exponent))


DeadLetters = Callable[[str, Envelope, str, int], None]
Settled = Callable[[str, Envelope], None]


class Inbox:
    """Pending deliveries of one agent, on the hub's side."""

    __slots__ = (
        "_dead",
        "_kept",
        "_pumping",
        "_redelivery",
        "_settled",
        "_wake_at",
        "agent_id",
        "connection",
        "desk",
        "expiring",
        "is_parked",
        "mailbox",
        "overflow",
        "refuses",
        "tried",
        "unread",
        "unread_notes",
        "wake",
    )

    def __init__(
        self,
        agent_id: str,
        name: str,
        block: InboxBlock,
        redelivery: Redelivery,
        *,
        dead: DeadLetters,
        settled: Settled,
        pressure: Callable[[Statistics], None],
    ) -> None:
        self.agent_id = agent_id
        self.mailbox: Mailbox[Any] = Mailbox(
            math.inf if block.max_pending is None else block.max_pending,
            "block" if block.overflow == "block" else "reject",
            high_water=block.high_water or None,
            name=name,
            on_high_water=pressure,
        )
        self.overflow = block.overflow
        self.desk = Desk()
        self.unread = 0
        self.unread_notes = 0
        self.connection: Connection | None = None
        self.wake: Callable[[float], None] | None = None
        self._wake_at = math.inf
        self._kept = 0
        self._pumping = False
        self.expiring = False
        self.is_parked = False
        self.tried: Callable[[str], None] = lambda session_id: None
        self.refuses: Callable[[Envelope], str | None] = lambda envelope: None
        self._redelivery = redelivery
        self._dead = dead
        self._settled = settled

    def set_block(self, block: InboxBlock) -> None:
        """Follow a changed rule; a lower cap throws nothing out."""
        self.overflow = block.overflow
        self.mailbox.set_limits(
            math.inf if block.max_pending is None else block.max_pending,
            "block" if block.overflow == "block" else "reject",
            high_water=block.high_water or None,
        )

    # Admission: a slot is taken in the same step in which the envelope is judged.

    def reserve(self) -> bool:
        """Take a slot; True where one was taken. Raises `InboxFull` under `reject` and `block`."""
        if self._kept:
            self._kept -= 1
            return True
        if self.overflow in ("drop_oldest", "drop_newest") and self.mailbox.free < 1:
            return False
        self.mailbox.lease_nowait()
        return True

    async def wait_for_slot(self) -> None:
        """Wait for room and keep it for the `reserve` that follows; `let_go` of it then. If cancelled: none is taken.

        Waiting in line and then racing for the slot would hand it from one waiter to the next for ever.
        """
        await self.mailbox.put(_TOKEN)
        self.mailbox.take_nowait(lease=True)
        self._kept += 1

    def let_go(self) -> None:
        """Return a kept slot that nobody has reserved after all."""
        if self._kept:
            self._kept -= 1
            self.mailbox.release()

    def give_back(self) -> None:
        """Return a reserved slot."""
        self.mailbox.release()

    def deliver(self, envelope: Envelope, reserved: bool, expires_at: float | None) -> None:
        """Hand over an accepted envelope. One without a slot drops the oldest or itself, by the policy."""
        counted = reserved or is_counted(envelope)
        if counted and not reserved and not self._make_room(envelope):
            return
        if expires_at is not None:
            self.expiring = True
        delivery = Delivery(envelope, counted, 0, expires_at)
        if (
            expires_at is None
            and self.connection is not None
            and not self._pumping
            and not self.is_parked
            and self.desk.pass_through(delivery)
        ):
            self._notify(delivery, self.connection)
        else:
            self.desk.add(delivery)
            self.pump()

    def _notify(self, delivery: Delivery, connection: Connection) -> None:
        try:
            connection.send_nowait(NotifyFrame(self.agent_id, delivery.envelope, delivery.attempt))
        except LinkClosed:
            self.disconnect(connection)

    def _make_room(self, envelope: Envelope) -> bool:
        if self.mailbox.free >= 1:
            return self.reserve()
        victim = self.desk.drop_oldest() if self.overflow == "drop_oldest" else None
        if victim is not None and victim.attempt and self.connection is not None:
            self.connection.withdraw(self.agent_id, victim.envelope)
        dropped = envelope if victim is None else victim.envelope
        self._dead(self.agent_id, dropped, self.overflow, 0 if victim is None else victim.attempt)
        self._settled(self.agent_id, dropped)
        return victim is not None  # the victim's slot passes to the newcomer

    def restore(self, envelope: Envelope, attempt: int = 0, expires_at: float | None = None) -> None:
        """Take up a delivery that was pending before a restart, past the cap if need be."""
        counted = is_counted(envelope)
        if counted:
            self.mailbox.lease_nowait(force=True)
        self.expiring = self.expiring or expires_at is not None
        self.desk.add(Delivery(envelope, counted, attempt, expires_at))

    def put_back(self, envelope: Envelope) -> None:
        """Take up a delivery that was given up once: a redelivery, at its place, past the cap if need be.

        Its TTL is not looked at again: the operator wants it handled all the same.
        """
        counted = is_counted(envelope)
        if counted:
            self.mailbox.lease_nowait(force=True)
        self.desk.put_back(Delivery(envelope, counted, 1))
        self.pump()

    def expect_unread(self, counted: int, uncounted: int) -> None:
        """So much mail waits in the store: it takes its slots, and is read when somebody asks for it."""
        self.unread += counted
        self.unread_notes += uncounted
        for _ in range(counted):
            self.mailbox.lease_nowait(force=True)

    def release_unread(self, counted: int, uncounted: int) -> None:
        """It is being read, and is restored one by one."""
        self.unread -= counted
        self.unread_notes -= uncounted
        if counted:
            self.mailbox.release(counted)

    # Delivery.

    def connect(self, connection: Connection, window: int | None) -> None:
        """Deliver over this connection from now on; what was out on another goes out again."""
        self.desk.lost_connection()
        self.withdraw()
        self.connection = connection
        self.desk.set_window(window)
        self.pump()

    def disconnect(self, connection: Connection) -> None:
        """The connection has gone; everything waits for the next one."""
        if self.connection is connection:
            self.connection = None
            self.desk.lost_connection()

    def set_window(self, window: int | None) -> None:
        """Change how many deliveries are out at once."""
        self.desk.set_window(window)
        self.pump()

    def watch(self, session_id: str) -> None:
        """Push this session's deliveries whatever the window."""
        self.desk.watch(session_id)
        self.pump()

    def pump(self) -> None:
        """Push what may go out now."""
        connection = self.connection
        if connection is None or self.is_parked:
            return
        desk = self.desk
        if not desk.has_work or self._pumping:
            return
        self._pumping = True  # a delivery that is given up leads back here, and must not overtake what is pushed
        try:
            while pushed := desk.push(trio.current_time() if desk.is_holding else 0.0):
                for delivery in pushed:
                    if delivery.expires_at is not None and delivery.expires_at <= connection.now():
                        self._give_up(delivery, "ttl_seconds", delivery.attempt - 1)
                    else:
                        connection.send_nowait(NotifyFrame(self.agent_id, delivery.envelope, delivery.attempt))
        except LinkClosed:
            self.disconnect(connection)
        finally:
            self._pumping = False

    def park(self, session_id: str | None) -> None:
        """Push nothing any more, or nothing of one session; everything is kept."""
        if session_id is None:
            self.is_parked = True
        else:
            self.desk.park(session_id)

    def resume(self, session_id: str | None) -> None:
        """Push again what has waited."""
        if session_id is None:
            self.is_parked = False
        else:
            self.desk.resume(session_id)
        self.pump()

    # Receipts.

    def ack(self, session_id: str, sequence: int) -> bool:
        """The delivery is handled; False where it was not out."""
        delivery = self.desk.ack(session_id, sequence)
        if delivery is None:
            return False
        if delivery.counted:
            self.mailbox.release()
        self._settled(self.agent_id, delivery.envelope)
        self.pump()
        return True

    def nack(self, session_id: str, sequence: int, reason: str) -> bool:
        """The delivery failed: retry after a backoff, or give up after the last attempt."""
        now = trio.current_time()
        delivery = self.desk.nack(session_id, sequence, now)
        if delivery is None:
            return False
        if delivery.attempt >= self._redelivery.max_attempts:
            self._give_up(self._take_back(delivery), reason or "failed")
            return True
        refusal = self.refuses(delivery.envelope)
        if refusal is not None:  # a rule has changed while it was out
            self._give_up(self._take_back(delivery), refusal)
            return True
        self.tried(session_id)
        self.desk.hold(session_id, now + self._redelivery.delay(delivery.attempt))
        self._wake_for_held(now)
        self.pump()
        return True

    def _wake_for_held(self, now: float) -> None:
        """Keep one timer running, for the earliest backoff."""
        at = self.desk.next_release()
        if at is not None and at < self._wake_at and self.wake is not None:
            self._wake_at = at
            self.wake(max(0.0, at - now))

    def _take_back(self, delivery: Delivery) -> Delivery:
        self.desk.remove(delivery)
        return delivery

    def _give_up(self, delivery: Delivery, reason: str, attempts: int | None = None) -> None:
        self.desk.ack(delivery.envelope.session_id, delivery.envelope.sequence)
        if delivery.counted:
            self.mailbox.release()
        self._dead(self.agent_id, delivery.envelope, reason, delivery.attempt if attempts is None else attempts)
        self._settled(self.agent_id, delivery.envelope)
        self.pump()

    def tick(self) -> None:
        """A backoff is over."""
        now = trio.current_time()
        self._wake_at = math.inf
        self.desk.release_held(now)
        self._wake_for_held(now)
        self.pump()

    def expire(self, now: float) -> None:
        """Give up what has waited longer than its `ttl_seconds`."""
        for delivery in self.desk.take_expired(now):
            if delivery.counted:
                self.mailbox.release()
            self._dead(self.agent_id, delivery.envelope, "ttl_seconds", delivery.attempt)
            self._settled(self.agent_id, delivery.envelope)
        self.pump()

    def withdraw(self) -> None:
        """Give up what waits here and what the rules do not allow any more."""
        for delivery in self.desk.take_queued(lambda waiting: waiting.counted and bool(self.refuses(waiting.envelope))):
            self.mailbox.release()
            reason = self.refuses(delivery.envelope) or "access"
            self._dead(self.agent_id, delivery.envelope, reason, delivery.attempt)
            self._settled(self.agent_id, delivery.envelope)
        self.pump()

    def empty(self, reason: str) -> None:
        """Dead-letter everything: the agent was unregistered."""
        for delivery in self.desk.take_all():
            if delivery.counted:
                self.mailbox.release()
                self._dead(self.agent_id, delivery.envelope, reason, delivery.attempt)
            self._settled(self.agent_id, delivery.envelope)
        self.mailbox.close()

    @property
    def pending(self) -> int:
        """Deliveries that hold a slot."""
        return self.mailbox.used

    def full_error(self) -> InboxFull:
        """The refusal of a sender."""
        statistics = self.mailbox.statistics()
        return InboxFull(
            f"the inbox of {self.mailbox.name!r} holds {statistics.current_used} of {statistics.max_capacity} "
            "deliveries; wait until it has handled some, or raise its Rule.inbox.max_pending",
            agent=self.mailbox.name,
            depth=statistics.current_used,
            cap=statistics.max_capacity,
        )
