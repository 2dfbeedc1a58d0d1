"""One link, on the hub's side: frames in, frames out, and which identities act over it.

The connection is a supervised actor. It never waits for one request before it takes the next: what can be decided at
once is answered at once, what must wait runs as a task of its own. Order is kept per session, not per connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.sessions.operations import ActorCall, CancelRequest, IdentityLost, Withdraw
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, BadFrame, LinkClosed, NetworkError, Superseded, error_from_wire
from ..mailbox.frozen import freeze
from ..transports.frames import ErrorFrame, Frame, NotifyFrame, RequestFrame, ResponseFrame
from ..transports.link import Attended, LinkEndpoint, drain_of
from ..transports.machine import State, after
from .directory import Entry

if TYPE_CHECKING:
    from .door import Door


class HubCall:
    """A message put to an agent, waiting for its reply."""

    __slots__ = ("_error", "_result", "done")

    def __init__(self) -> None:
        self.done = trio.Event()
        self._result: Any = None
        self._error: AgorioError | None = None

    def settle(self, result: Any, error: AgorioError | None) -> None:
        """The reply has come, or what came instead."""
        if not self.done.is_set():
            self._result, self._error = result, error
            self.done.set()

    def unwrap(self) -> Any:
        """The reply; raises what came instead."""
        if self._error is not None:
            raise self._error
        return self._result


class Connection:
    """The identities and the way out of one link."""

    __slots__ = (
        "_last_call",
        "_now",
        "bound",
        "calls",
        "endpoint",
        "endpoint_id",
        "is_closed",
        "nursery",
        "on_unbind",
        "running",
        "spawned",
        "state",
        "subscriptions",
        "vigils",
    )

    def __init__(self, endpoint: LinkEndpoint, endpoint_id: str, now: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.endpoint_id = endpoint_id
        self.state = after(State.CONNECTING, "opened")
        self.is_closed = False
        self.bound: dict[str, Entry] = {}
        self.nursery: trio.Nursery | None = None
        self.on_unbind: Callable[[str], None] | None = None
        self.spawned = 0
        self.vigils = 0
        self.running: dict[int, trio.CancelScope] = {}
        self.subscriptions: dict[int, Any] = {}
        self.calls: dict[int, HubCall] = {}
        self._last_call = 0
        self._now = now

    def now(self) -> float:
        """The hub's time."""
        return self._now()

    def send_nowait(self, frame: Frame) -> None:
        """Queue one frame. Raises `LinkClosed`. What this link cannot carry is answered or accounted for, see below."""
        try:
            self.endpoint.send_nowait(frame)
        except BadFrame as error:
            self._unsendable(frame, error)

    def _unsendable(self, frame: Frame, error: BadFrame) -> None:
        """A delivery counts as failed, an answer is replaced by the error; a question's asker gets it raised."""
        if isinstance(frame, NotifyFrame):
            envelope, inbox = frame.envelope, self.bound[frame.recipient_id].inbox
            inbox.nack(envelope.session_id, envelope.sequence, str(error))
        elif isinstance(frame, RequestFrame):
            raise error
        else:
            self.endpoint.send_nowait(error_frame(error, getattr(frame, "request_id", None)))

    def answer(self, frame: Frame) -> None:
        """Queue an answer; a link that has closed meanwhile needs none."""
        try:
            self.send_nowait(frame)
        except LinkClosed:
            return

    def refuse(self, error: AgorioError, request_id: int | None) -> None:
        """Answer with an error."""
        self.answer(error_frame(error, request_id))

    def withdraw(self, agent_id: str, envelope: Envelope) -> None:
        """Have the other side forget a delivery that it has not taken in hand."""
        operation = Withdraw(agent_id, envelope.session_id, envelope.sequence)
        self.answer(RequestFrame(0, Withdraw.op, operation))

    async def call(self, agent_id: str, message: Any) -> Any:
        """Put a message to an agent on the other side and return its reply.

        Raises what the agent refused with, `ActorCrashed`, or `LinkClosed` when the link is lost meanwhile. If
        cancelled: the agent is told so.
        """
        self._last_call += 1
        number, waiting = self._last_call, HubCall()
        self.calls[number] = waiting
        try:
            call = ActorCall(agent_id, freeze(message, "message"))
            self.send_nowait(RequestFrame(number, ActorCall.op, call))
            await waiting.done.wait()
        except trio.Cancelled:
            self.answer(RequestFrame(0, CancelRequest.op, CancelRequest(number)))
            raise
        finally:
            del self.calls[number]
        return waiting.unwrap()

    def answered(self, frame: ResponseFrame | ErrorFrame) -> None:
        """The other side has answered a call; one that nobody waits for is ignored."""
        waiting = self.calls.get(frame.request_id or 0)
        if waiting is not None:
            if isinstance(frame, ResponseFrame):
                waiting.settle(frame.result, None)
            else:
                waiting.settle(None, error_from_wire(frame.code, frame.message, dict(frame.details)))

    def bind(self, entry: Entry, window: int | None) -> None:
        """Deliver this identity's mail here; a connection that held it before loses it. A closed one binds nothing."""
        if self.is_closed:
            return
        holder = entry.inbox.connection
        if holder is not None and holder is not self:
            holder.unbind(entry, Superseded(f"{entry.name!r} was taken up by another connection", agent=entry.name))
        self.bound[entry.agent_id] = entry
        self.endpoint.note_identities(len(self.bound))
        entry.inbox.connect(self, window)

    def unbind(self, entry: Entry, why: AgorioError | None = None) -> None:
        """This identity's mail waits for another connection; with `why` the other side is told."""
        if self.bound.pop(entry.agent_id, None) is not None:
            if why is not None:
                self.answer(RequestFrame(0, IdentityLost.op, IdentityLost(entry.agent_id, why.code, str(why))))
            self.endpoint.note_identities(len(self.bound))
            entry.inbox.disconnect(self)
            if self.on_unbind is not None:
                self.on_unbind(entry.agent_id)

    def close(self, reason: str) -> None:
        """Give up all identities and close the link."""
        self.is_closed = True
        self.state = after(self.state, "close")
        for entry in list(self.bound.values()):
            self.unbind(entry)
        for subscription in list(self.subscriptions.values()):
            subscription.end(subscription)
        for waiting in self.calls.values():
            waiting.settle(None, LinkClosed(f"the link to the agent has ended: {reason}"))
        self.endpoint.close_nowait(reason)


def error_frame(error: AgorioError, request_id: int | None) -> ErrorFrame:
    """An error as it goes over every link."""
    return ErrorFrame(error.code, str(error), request_id, error.details)


class ConnectionActor(Actor):
    """Reads one link until it closes."""

    def __init__(self, connection: Connection, door: Door) -> None:
        self._connection = connection
        self._door = door

    async def on_start(self, ctx: Context) -> None:
        """Start reading. If cancelled: the link is closed."""
        self._connection.nursery = ctx.nursery
        ctx.nursery.start_soon(self._read, ctx)

    async def _read(self, ctx: Context) -> None:
        connection, door = self._connection, self._door
        if isinstance(connection.endpoint, Attended):
            connection.endpoint.attend(partial(door.receive, connection))
        frames = connection.endpoint.frames()
        drain = drain_of(frames)
        try:
            async for first in frames:
                door.receive(connection, first)
                for frame in drain():
                    door.receive(connection, frame)
        finally:
            connection.close("the link has ended")
        ctx.stop()

    async def receive(self, message: Any, ctx: Context) -> None:
        """A connection is spoken to by frames only. If cancelled: nothing has changed."""

    async def on_stop(self, ctx: Context, why: str) -> None:
        """Close the link. If cancelled: it is closed all the same."""
        self._connection.close(f"the hub let go: {why}")


def as_network_error(exc: Exception) -> AgorioError:
    """What a peer is told about an exception that is no refusal: that it happened, not what it says."""
    if isinstance(exc, AgorioError):
        return exc
    return NetworkError(f"the hub failed on this request ({type(exc).__name__}); its operator has the details")
