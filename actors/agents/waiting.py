"""Waiting for events of a session without missing one and without taking one away from anybody else.

The first wait in a session asks the hub to push that session's mail whatever the window, then reads the log for what
came before; what arrives and what was read are merged by sequence. From then on each event is offered to all who wait
at that moment, and kept for a later wait if none of them wants it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError, InvalidInput, NetworkError, SessionClosedError
from ...mailbox.events import HUB_EVENTS, LIFECYCLE_EVENTS, SESSION_END
from ..sessions.operations import Watch
from .correlation import again

if TYPE_CHECKING:
    from .inbound import Inbound

Predicate: TypeAlias = Callable[[Envelope], bool]

MAX_KEPT = 1024
ENDED_KEPT = 64


def is_said(envelope: Envelope) -> bool:
    """The predicate of a wait without one: anything said, as opposed to a session's bookkeeping."""
    return envelope.event_type not in LIFECYCLE_EVENTS


def matches(predicate: Predicate, envelope: Envelope) -> bool:
    """What the predicate says. One that is async would be true of everything: `InvalidInput` says so."""
    wanted: object = predicate(envelope)
    if inspect.iscoroutine(wanted):
        wanted.close()
        raise _not_async(predicate)
    return bool(wanted)


def check_predicate(predicate: Predicate | None) -> None:
    """Refuse an async predicate before anything is waited for."""
    if inspect.iscoroutinefunction(predicate):
        raise _not_async(predicate)


def _not_async(predicate: object) -> InvalidInput:
    return InvalidInput(
        f"the predicate {predicate!r} is async, and nothing can wait while events are sorted; write a plain function "
        "of the envelope, and await what you need after the wait",
        field="predicate",
    )


class _Waiter:
    __slots__ = ("_outcome", "_task", "predicate")

    def __init__(self, predicate: Predicate) -> None:
        self.predicate = predicate
        self._task: trio.lowlevel.Task | None = None
        self._outcome: Envelope | Exception | None = None

    def is_open(self) -> bool:
        return self._outcome is None

    def offer(self, envelope: Envelope) -> bool:
        """Whether the waiter takes it. Its predicate runs here, in the pump: an error goes to the one who waits."""
        try:
            wanted = matches(self.predicate, envelope)
        except Exception as exc:
            self.settle(exc)
            return False
        if wanted:
            self.settle(envelope)
        return wanted

    def settle(self, outcome: Envelope | Exception) -> None:
        self._outcome = outcome
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def park(self) -> Envelope:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abandon)
        if isinstance(self._outcome, Envelope):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome

    def _abandon(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class SessionWatch:
    """What one agent has seen of one session and no wait has returned yet, at most the newest 1,024 events."""

    __slots__ = ("_client", "_events", "_is_read", "_newest", "_reading", "_waiters", "end", "session_id")

    def __init__(self, client: Inbound, session_id: str) -> None:
        self.session_id = session_id
        self.end: Envelope | None = None
        self._client = client
        self._events: dict[int, Envelope] = {}
        self._newest = 0
        self._waiters: list[_Waiter] = []
        self._is_read = False
        self._reading: trio.Event | None = None

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait for an event here."""
        return len(self._waiters)

    @property
    def is_ready(self) -> bool:
        """Whether the hub pushes the session's mail and the log was read."""
        return self._is_read

    @property
    def is_over(self) -> bool:
        """Whether the session has ended and nobody waits."""
        return self.end is not None and not self._waiters and self._reading is None

    def arrive(self, envelope: Envelope) -> None:
        """An event was pushed. One seen before was returned by a wait already, or is still kept."""
        sequence = envelope.sequence
        if sequence > self._newest:
            self._newest = sequence
            if self._concerns(envelope) and not self._is_taken(envelope):
                self._keep(envelope)
            self._note_end(envelope)
        elif self._is_read and sequence not in self._events:
            self._client.acknowledge(self.session_id, sequence)

    def withdraw(self, sequence: int) -> None:
        """The hub has given an event up: no wait returns it any more."""
        self._events.pop(sequence, None)

    async def wait(self, predicate: Predicate) -> Envelope:
        """The oldest event that matches and was not returned before. If cancelled: every event is still there."""
        await self._make_ready()
        for sequence, envelope in self._events.items():
            if matches(predicate, envelope):
                del self._events[sequence]
                self._client.acknowledge(self.session_id, sequence)
                return envelope
        if self.end is not None:
            raise self._closed()
        self._client.connection.check()
        waiter = _Waiter(predicate)
        self._waiters.append(waiter)
        try:
            return await waiter.park()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def fail(self, error: AgorioError) -> None:
        """Wake everybody with an error."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.is_open():
                waiter.settle(again(error))

    # Reading what came before.

    async def _make_ready(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self._is_read:
            if self._reading is None:
                await self._read()
            else:
                await self._reading.wait()

    async def _read(self) -> None:
        client = self._client
        self._reading = done = trio.Event()
        try:
            await client.connection.request(Watch(client.agent_id, self.session_id))
            log = await client.hub_client.read_tail(self.session_id, MAX_KEPT, as_agent=client.agent_id)
            self._merge(log)
            self._is_read = True
        finally:
            self._reading = None
            done.set()

    def _merge(self, log: list[Envelope]) -> None:
        before = {envelope.sequence: envelope for envelope in log if self._concerns(envelope)}
        before.update(self._events)
        self._events = {}
        for sequence in sorted(before):
            self._keep(before[sequence])
        if log:
            self._newest = max(self._newest, log[-1].sequence)
            for envelope in log:
                self._note_end(envelope)

    # What becomes of an event.

    def _concerns(self, envelope: Envelope) -> bool:
        """What came for this agent. The hub speaks in the creator's name, so what is its own goes by the audience."""
        me, audience = self._client.agent_id, envelope.audience
        is_own = envelope.sender_id == me and envelope.event_type not in HUB_EVENTS
        return not is_own and (audience is None or me in audience)

    def _is_taken(self, envelope: Envelope) -> bool:
        """Offer the event to everybody who waits now."""
        taken = False
        for waiter in self._waiters:
            if waiter.is_open() and waiter.offer(envelope):
                taken = True
        if taken:
            self._client.acknowledge(self.session_id, envelope.sequence)
        return taken

    def _keep(self, envelope: Envelope) -> None:
        self._events[envelope.sequence] = envelope
        if len(self._events) > MAX_KEPT:
            del self._events[next(iter(self._events))]

    def _note_end(self, envelope: Envelope) -> None:
        if envelope.event_type in SESSION_END:
            self.end = envelope
            self.fail(self._closed())

    def _closed(self) -> SessionClosedError:
        assert self.end is not None
        reason = self.end.event_data.get("reason") or self.end.event_type.rsplit(".", 1)[-1]
        return SessionClosedError(
            f"session {self.session_id} has ended ({reason}); no event that you wait for can come any more",
            session_id=self.session_id,
            reason=reason,
        )


class Watches:
    """One agent's watches. Of ended sessions it keeps some and forgets the oldest of the rest: a wait in a forgotten
    one reads the log anew and may return what an earlier wait returned."""

    __slots__ = ("_by_session", "_client", "_purge_at")

    def __init__(self, client: Inbound) -> None:
        self._client = client
        self._by_session: dict[str, SessionWatch] = {}
        self._purge_at = 2 * ENDED_KEPT

    def __iter__(self) -> Iterator[SessionWatch]:
        return iter(list(self._by_session.values()))

    def __len__(self) -> int:
        return len(self._by_session)

    def get(self, session_id: str) -> SessionWatch | None:
        """The watch on a session, if somebody has waited there."""
        return self._by_session.get(session_id)

    async def wait(self, session_id: str, predicate: Predicate | None, seconds: float) -> Envelope:
        """Wait for an event of a session. If cancelled: every event is still there."""
        check_predicate(predicate)
        watch = self._by_session.get(session_id) or self._add(session_id)
        with trio.move_on_after(seconds):
            try:
                return await watch.wait(predicate or is_said)
            except NetworkError:
                if not watch.is_ready:
                    self._by_session.pop(session_id, None)  # unknown session, or not a member of it
                raise
        raise TimeoutError(
            f"no matching event in session {session_id} within {seconds:g} s; what came is kept for the next wait"
        )

    def _add(self, session_id: str) -> SessionWatch:
        if len(self._by_session) >= self._purge_at:
            over = [key for key, watch in self._by_session.items() if watch.is_over]
            for key in over[:-ENDED_KEPT]:
                del self._by_session[key]
            self._purge_at = 2 * max(len(self._by_session), ENDED_KEPT)
        watch = self._by_session[session_id] = SessionWatch(self._client, session_id)
        return watch
