"""The door: what each frame and each operation means, and who may ask for it.

One row per operation: its typed record, whose name it acts in, and the handler. The identity is always the
connection's; a field of a frame only says which of the connection's own identities acts.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..actors.sessions.operations import AuthChallenge, CancelRequest, Operation, Register
from ..actors.sessions.typed import checked
from ..mailbox.clock import iso
from ..mailbox.envelope import Envelope
from ..mailbox.errors import (
    AccessDeniedError,
    ActorStopped,
    AgorioError,
    AuthError,
    BadFrame,
    HubClosedError,
    NotAMemberError,
    RateLimited,
)
from ..mailbox.events import EV_TASK_STARTED
from ..transports.frames import (
    PROTOCOL_VERSION,
    AcceptFrame,
    ErrorFrame,
    Frame,
    HelloFrame,
    PingFrame,
    PongFrame,
    ReceiptFrame,
    RequestFrame,
    ResponseFrame,
    SendFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    WelcomeFrame,
)
from ..transports.machine import MAY_SEND, State, after, check
from .connections import Connection, as_network_error
from .delivery import NeedsRead
from .denials import Denials
from .directory import Entry
from .governance import MustWait
from .session import SessionCell

if TYPE_CHECKING:
    from .services import Services

_log = logging.getLogger("agorio.hub")

# What a connection may ask for before any identity is bound to it; everything else needs one.
UNPROVEN = frozenset({Register.op, AuthChallenge.op})
MAX_RUNNING = 1024
MAX_VIGILS = 16_384

Handler = Callable[[Connection, Any], Any]


@attrs.frozen
class Row:
    """One operation."""

    params: type[Operation]
    """Its typed record."""
    handler: Handler
    """What it does: a result, or an awaitable of one."""
    acts_as: str | None = "agent_id"
    """The field that names the acting identity, which must be bound to the connection; None needs no identity."""
    is_cancelable: bool = True
    """Whether a client may give it up half-way; otherwise it hears what came of it, and may take that back."""
    is_vigil: bool = False
    """Whether it waits for something to happen, for hours perhaps: such a one is in nobody's way and counts apart."""


class Door:
    """Receives every frame of every connection."""

    def __init__(self, services: Services, rows: dict[str, Row]) -> None:
        self._services = services
        self._rows = rows
        self._denials = Denials(services)
        self.accepting = True

    def receive(self, connection: Connection, frame: Frame) -> None:
        """Act on one frame. Never raises and never waits: what must wait runs in the connection's nursery."""
        kind = type(frame)
        if kind not in MAY_SEND[connection.state, "client"]:
            self._out_of_place(connection, frame)
        elif kind is SendFrame:
            self._guarded(connection, frame.request_id, self._send, frame)  # type: ignore[union-attr]
        elif kind is ReceiptFrame:
            self._guarded(connection, None, self._receipt, frame)
        elif kind is RequestFrame:
            self._guarded(connection, frame.request_id, self._request, frame)  # type: ignore[union-attr]
        else:
            self._guarded(connection, None, self._other, frame)

    def _out_of_place(self, connection: Connection, frame: Frame) -> None:
        """A frame that is not legal now is refused; whoever does not begin with a greeting is shown out."""
        try:
            check(connection.state, "client", frame)
        except BadFrame as error:
            connection.refuse(error, getattr(frame, "request_id", None))
        if connection.state is State.HELLO:
            connection.close("the first frame must be Hello")

    def _guarded(
        self, connection: Connection, request_id: int | None, act: Callable[[Connection, Any], None], frame: Any
    ) -> None:
        try:
            act(connection, frame)
        except AgorioError as error:
            self._refuse(connection, request_id, error, frame)
        except Exception as exc:
            _log.exception("a %s failed at the door", type(frame).__name__)
            connection.refuse(as_network_error(exc), request_id)

    def _refuse(self, connection: Connection, request_id: int | None, error: AgorioError, frame: Any) -> None:
        self._denials.note(connection, frame, error)
        connection.refuse(error, request_id)

    # Sends.

    def _send(self, connection: Connection, frame: SendFrame) -> None:
        self._check_open(connection)
        envelope = frame.envelope
        if type(envelope) is not Envelope:
            raise BadFrame(f"a Send carries an Envelope, not a {type(envelope).__name__}")
        sender = self.acting(connection, envelope.sender_id)
        cell = self._services.sessions.resident(envelope.session_id)
        if envelope.event_type == EV_TASK_STARTED and envelope.event_data.get("resume_from"):
            self._spawn(connection, frame.request_id, self._send_later, frame)
        elif cell is not None:
            self._post(connection, frame, sender, cell)
        elif self._services.sessions.held(envelope.session_id) is not None:
            self._services.sessions.when_awake(envelope.session_id, partial(self._post_woken, connection, frame))
        else:
            self._spawn(connection, frame.request_id, self._send_later, frame)

    def _post_woken(
        self, connection: Connection, frame: SendFrame, cell: SessionCell | None, error: AgorioError | None
    ) -> None:
        """The session has been folded; whoever has sent to it meanwhile comes in the order of sending."""
        if cell is None:
            self._refuse(connection, frame.request_id, error or HubClosedError("the session is gone"), frame)
        else:
            self._guarded(connection, frame.request_id, partial(self._post_in, cell), frame)

    def _post_in(self, cell: SessionCell, connection: Connection, frame: SendFrame) -> None:
        self._post(connection, frame, self.acting(connection, frame.envelope.sender_id), cell)

    def _post(self, connection: Connection, frame: SendFrame, sender: Entry, cell: SessionCell) -> None:
        request_id = frame.request_id

        def answer(stamped: Envelope | None, error: AgorioError | None, duplicate: bool) -> None:
            if stamped is not None:
                sender.denied_for = ""
                connection.answer(AcceptFrame(request_id, stamped, duplicate))
            elif error is not None:
                connection.refuse(error, request_id)

        try:
            self._services.sessions.post(cell, frame.envelope, sender, answer)
        except MustWait as wait:
            self._spawn(connection, request_id, self._send_when_room, frame, wait)
        except NeedsRead as needs:
            self._spawn(connection, request_id, self._answer_read, frame, needs)
        except AgorioError as error:
            self._refuse(connection, request_id, error, frame)

    async def _send_later(self, connection: Connection, frame: SendFrame) -> None:
        envelope = frame.envelope
        cell = await self._services.sessions.get(envelope.session_id)
        if envelope.event_type == EV_TASK_STARTED and envelope.event_data.get("resume_from"):
            await self._services.task_calls.check_own(str(envelope.event_data["resume_from"]), envelope.sender_id)
        self._post(connection, frame, self.acting(connection, envelope.sender_id), cell)

    async def _send_when_room(self, connection: Connection, frame: SendFrame, wait: MustWait) -> None:
        with suppress(ActorStopped):  # unregistered meanwhile: the send is judged again, without that recipient
            await wait.inbox.wait_for_slot()
        try:
            self._send(connection, frame)
        finally:
            wait.inbox.let_go()

    async def _answer_read(self, connection: Connection, frame: SendFrame, needs: NeedsRead) -> None:
        envelope = await self._services.sessions.delivery.read_one(needs.cell.session_id, needs.sequence)
        connection.answer(AcceptFrame(frame.request_id, envelope, True))

    # Receipts and the small frames.

    def _receipt(self, connection: Connection, frame: ReceiptFrame) -> None:
        entry = self.acting(connection, frame.recipient_id)
        if frame.status == "ack":
            entry.inbox.ack(frame.session_id, frame.sequence)
        else:
            # Counted first: whoever is parked by it gets nothing in its place.
            self._services.budgets.failed_turn(entry, frame.session_id, sequence=frame.sequence)
            entry.inbox.nack(frame.session_id, frame.sequence, frame.reason)

    def _other(self, connection: Connection, frame: Any) -> None:
        if isinstance(frame, HelloFrame):
            self._hello(connection, frame)
        elif isinstance(frame, PingFrame):
            connection.answer(PongFrame(frame.nonce))
        elif isinstance(frame, SubscribeFrame):
            self._spawn(connection, None, self._services.subscriptions.subscribe, frame)
        elif isinstance(frame, UnsubscribeFrame):
            self._services.subscriptions.unsubscribe(connection, frame.subscription_id)
        elif isinstance(frame, ResponseFrame | ErrorFrame):
            connection.answered(frame)
        elif not isinstance(frame, PongFrame):
            raise BadFrame(f"a client does not send {type(frame).__name__}")

    def _hello(self, connection: Connection, frame: HelloFrame) -> None:
        if PROTOCOL_VERSION not in frame.versions:
            raise BadFrame(f"this hub speaks protocol version {PROTOCOL_VERSION}, the client {list(frame.versions)}")
        connection.state = after(connection.state, WelcomeFrame)
        now = iso(self._services.clock.time())
        connection.answer(WelcomeFrame(connection.endpoint_id, now, PROTOCOL_VERSION))

    # Requests.

    def _request(self, connection: Connection, frame: RequestFrame) -> None:
        params = frame.params
        if isinstance(params, CancelRequest):
            scope = connection.running.get(params.request_id)
            if scope is not None:
                scope.cancel()
            return
        self._check_open(connection)
        row = self._rows.get(frame.op)
        if row is None:
            raise BadFrame(f"operation {frame.op!r} is unknown to this hub", op=frame.op)
        if not isinstance(params, row.params):
            raise BadFrame(f"operation {frame.op!r} takes a {row.params.__name__}, not a {type(params).__name__}")
        checked(params)
        if row.acts_as is not None:
            self.acting(connection, getattr(params, row.acts_as))
        elif not connection.bound and frame.op not in UNPROVEN:
            raise AccessDeniedError("register or attach an agent on this connection first")
        if row.is_vigil and connection.vigils >= MAX_VIGILS:
            raise RateLimited(f"{MAX_VIGILS} requests of this connection wait for something to happen; end some")
        result = row.handler(connection, params)
        if row.is_vigil:
            self._keep_vigil(connection, frame, result)
        elif inspect.isawaitable(result):
            self._spawn(connection, frame.request_id, self._respond, frame, result)
        else:
            connection.answer(ResponseFrame(frame.request_id, result))

    async def _respond(self, connection: Connection, frame: RequestFrame, result: Awaitable[Any]) -> None:
        connection.answer(ResponseFrame(frame.request_id, await result))

    # Who acts, and tasks of their own.

    def acting(self, connection: Connection, agent_id: str) -> Entry:
        """The identity that acts, which must be bound to this connection. Raises `AuthError`."""
        entry = connection.bound.get(agent_id)
        if entry is None:
            raise AuthError(f"this connection does not act as {agent_id!r}; register or attach the agent on it first")
        return entry

    def _check_open(self, connection: Connection) -> None:
        if not self.accepting:
            raise HubClosedError("the hub is closing and takes no new work")
        if connection.spawned - connection.vigils >= MAX_RUNNING:
            raise RateLimited(f"{MAX_RUNNING} requests of this connection are under way; wait for some answers")

    def _keep_vigil(self, connection: Connection, frame: RequestFrame, result: Awaitable[Any]) -> None:
        connection.vigils += 1
        self._spawn(connection, frame.request_id, self._respond_at_last, frame, result)

    async def _respond_at_last(self, connection: Connection, frame: RequestFrame, result: Awaitable[Any]) -> None:
        try:
            await self._respond(connection, frame, result)
        finally:
            connection.vigils -= 1

    def _spawn(self, connection: Connection, request_id: int | None, act: Callable[..., Any], *args: Any) -> None:
        assert connection.nursery is not None
        connection.spawned += 1
        connection.nursery.start_soon(self._run, connection, request_id, act, args)

    async def _run(self, connection: Connection, request_id: int | None, act: Callable[..., Any], args: Any) -> None:
        with trio.CancelScope() as scope:
            if request_id is not None and self._is_cancelable(args[0]):
                connection.running[request_id] = scope
            try:
                await act(connection, *args)
            except AgorioError as error:
                self._refuse(connection, request_id, error, args[0])
            except Exception as exc:
                _log.exception("a request failed behind the door")
                connection.refuse(as_network_error(exc), request_id)
            finally:
                connection.spawned -= 1
                if request_id is not None:
                    connection.running.pop(request_id, None)

    def _is_cancelable(self, frame: Frame) -> bool:
        row = self._rows.get(frame.op) if isinstance(frame, RequestFrame) else None
        return row is None or row.is_cancelable


def member_of(connection: Connection, cell: SessionCell) -> str:
    """The first of the connection's identities that takes part. Raises `NotAMemberError`."""
    for agent_id in cell.setup.participants:
        if agent_id in connection.bound:
            return agent_id
    raise NotAMemberError(f"no agent of this connection is a participant of session {cell.session_id}")
