"""Messages that the hub puts to an agent itself, on behalf of whoever holds a `Ref` to it.

They stand in the agent's turn queue beside its deliveries, so an agent never handles a message and a turn at once
unless its `concurrency` allows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import ActorCrashed, AgorioError, NetworkError, Refuse, error_from_wire
from ...mailbox.frozen import freeze
from ...transports.frames import ErrorFrame, RequestFrame, ResponseFrame
from ..sessions.operations import ActorCall, CancelRequest, IdentityLost, Withdraw

if TYPE_CHECKING:
    from .connection import Connection
    from .inbound import Inbound

EV_CALL = "call"


class InboundCall:
    """One message; `envelope` gives it its place in the turn queue."""

    __slots__ = ("attempt", "envelope", "message", "request_id", "scope")

    def __init__(self, agent_id: str, request_id: int, message: Any) -> None:
        self.envelope = Envelope(f"call/{request_id}", agent_id, None, EV_CALL)
        self.attempt = 1
        self.request_id = request_id
        self.message = message
        self.scope = trio.CancelScope()


class InboundCalls:
    """The messages of one connection that are not answered yet."""

    __slots__ = ("_connection", "_open")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open: dict[int, InboundCall] = {}

    def receive(self, frame: RequestFrame, clients: dict[str, Any]) -> None:
        """Queue a message for its agent, cancel one, take a delivery back, or let an agent go."""
        params = frame.params
        if isinstance(params, CancelRequest):
            call = self._open.get(params.request_id)
            if call is not None:
                call.scope.cancel()
        elif isinstance(params, IdentityLost):
            client = clients.get(params.agent_id)
            if client is not None:
                client.hub_client.forget(client, error_from_wire(params.code, params.message))
        elif isinstance(params, ActorCall):
            self._queue(frame.request_id, params, clients.get(params.agent_id))
        elif isinstance(params, Withdraw):
            client = clients.get(params.agent_id)
            if client is not None:
                client.withdraw(params.session_id, params.sequence)
        else:
            self._refuse(frame.request_id, NetworkError(f"a client has no operation {frame.op!r}"))

    def _queue(self, request_id: int, params: ActorCall, client: Inbound | None) -> None:
        if client is None or client.is_gone:
            self._refuse(request_id, Refuse(f"agent {params.agent_id} is not on this connection"))
            return
        call = self._open[request_id] = InboundCall(params.agent_id, request_id, params.message)
        client.take_call(call)

    async def run(self, call: InboundCall, client: Any) -> None:
        """Have the agent answer. Whatever it raises is told to the asker; what is no refusal is raised on as a crash.

        If cancelled: the asker is told that the agent has stopped.
        """
        try:
            with call.scope:
                if client.asker is None:
                    raise Refuse(f"agent {client.name!r} has no ask; it handles envelopes only")
                reply = await client.asker.ask(call.message)
                self._connection.post(ResponseFrame(call.request_id, freeze(reply, "reply")))
                return
            self._refuse(call.request_id, Refuse("the asker has gone"))
        except (Refuse, NetworkError) as refusal:
            self._refuse(call.request_id, refusal)
        except Exception as exc:
            crash = ActorCrashed(f"{client.name} crashed: {type(exc).__name__}: {exc}", agent=client.name)
            self._refuse(call.request_id, crash)
            raise
        finally:
            self._open.pop(call.request_id, None)

    def _refuse(self, request_id: int, error: AgorioError) -> None:
        self._connection.post(ErrorFrame(error.code, str(error), request_id, error.details))
