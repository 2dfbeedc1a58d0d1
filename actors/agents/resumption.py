"""What a client must remember so that a lost connection is made good on the next one. Pure: frames in, frames out.

* An identity is attached again, with what it was registered with.
* A send without an answer is sent again. Each carries an idempotency key, its own or one given here, so the hub returns
  the first result and no envelope is doubled.
* A request without an answer is put again where asking twice does no harm, or where it was never sent; any other fails
  with `LinkClosed`, because nobody can tell whether it was carried out.
* A delivery that is in hand when the connection is lost comes again; it is not handed out a second time. One whose
  receipt may be lost is receipted again.
* A subscription goes on after the last event that was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from ...mailbox.envelope import with_key
from ...mailbox.errors import LinkClosed
from ...mailbox.events import SESSION_END
from ...transports import frames as f
from ..sessions import operations as ops

KEPT: Final = 8192
_EPOCH_BITS: Final = 32

REPEATABLE: Final = (
    ops.ActorStoppedWait,
    ops.AuthChallenge,
    ops.AwaitOver,
    ops.AwaitReply,
    ops.CanSend,
    ops.CloseSession,
    ops.FindByCausation,
    ops.GetAgent,
    ops.GetResume,
    ops.GetRule,
    ops.GetSession,
    ops.GetSkill,
    ops.GetTask,
    ops.ListAgents,
    ops.ListSessions,
    ops.ListTasks,
    ops.NamesFor,
    ops.ReadCheckpoint,
    ops.ReadContext,
    ops.ReadWal,
    ops.SetWindow,
    ops.WaitTask,
    ops.Watch,
)

_Place = tuple[str, str, int]


def is_repeatable(operation: Any) -> bool:
    """Whether asking twice does no harm."""
    return isinstance(operation, REPEATABLE) or (isinstance(operation, ops.Register) and operation.attach)


class Ledger:
    """The state of one client's side of a link, over all its connections."""

    def __init__(self, new_key: Callable[[], str]) -> None:
        self._new_key = new_key
        self._epoch = 0
        self._open: dict[int, f.SendFrame | f.RequestFrame] = {}
        self._sent: set[int] = set()  # of the open ones
        self._watches: dict[tuple[str, str], None] = {}
        self._in_hand: dict[_Place, None] = {}
        self._receipted: dict[_Place, None] = {}
        self._calls: dict[int, None] = {}
        self.identities: dict[str, ops.Register] = {}
        self.subscriptions: dict[int, f.SubscribeFrame] = {}

    # Out.

    def outgoing(self, frame: Any) -> Any:
        """Note a frame; the frame to be sent instead, or None where it is of no use any more."""
        if isinstance(frame, f.SendFrame):
            return self._note_send(frame)
        if isinstance(frame, f.ReceiptFrame):
            self._note_receipt(frame)
        elif isinstance(frame, f.RequestFrame):
            self._note_request(frame)
        elif isinstance(frame, f.SubscribeFrame):
            self.subscriptions[frame.subscription_id] = frame
        elif isinstance(frame, f.UnsubscribeFrame):
            self.subscriptions.pop(frame.subscription_id, None)
        elif isinstance(frame, f.ResponseFrame | f.ErrorFrame):
            return self._note_reply(frame)
        return frame

    def _note_send(self, frame: f.SendFrame) -> f.SendFrame:
        if frame.envelope.idempotency_key is None:
            frame = f.SendFrame(frame.request_id, with_key(frame.envelope, self._new_key()))
        self._open[frame.request_id] = frame
        return frame

    def _note_receipt(self, frame: f.ReceiptFrame) -> None:
        place = (frame.recipient_id, frame.session_id, frame.sequence)
        self._in_hand.pop(place, None)
        if frame.status == "ack":
            self._receipted[place] = None
            if len(self._receipted) > KEPT:
                del self._receipted[next(iter(self._receipted))]

    def _note_request(self, frame: f.RequestFrame) -> None:
        if isinstance(frame.params, ops.CancelRequest):
            self._settle(frame.params.request_id)
        elif frame.request_id:
            self._open[frame.request_id] = frame

    def _note_reply(self, frame: Any) -> Any:
        """A reply to a call of the hub's goes to the connection that the call came over, or nowhere."""
        number = frame.request_id
        if number is None or self._calls.pop(number, 0) == 0 or number >> _EPOCH_BITS != self._epoch:
            return None
        return attrs.evolve(frame, request_id=number & (2**_EPOCH_BITS - 1))

    def note_sent(self, frame: f.Frame) -> None:
        """It is on its way over a connection."""
        if isinstance(frame, f.SendFrame | f.RequestFrame) and frame.request_id in self._open:
            self._sent.add(frame.request_id)

    def forget(self, frame: f.Frame) -> None:
        """It could not be sent: it is not to be sent later either."""
        if isinstance(frame, f.SendFrame | f.RequestFrame):
            self._settle(frame.request_id)

    def _settle(self, request_id: int) -> f.SendFrame | f.RequestFrame | None:
        self._sent.discard(request_id)
        return self._open.pop(request_id, None)

    # In.

    def incoming(self, frame: f.Frame) -> tuple[f.Frame | None, f.Frame | None]:
        """What to hand on, and what to answer the hub, for a frame that has arrived."""
        kind = type(frame)
        if kind is f.NotifyFrame:
            return self._notified(frame)  # type: ignore[arg-type]
        if kind is f.AcceptFrame:
            self._settle(frame.request_id)  # type: ignore[union-attr,arg-type]
        elif isinstance(frame, f.ResponseFrame):
            self._responded(frame)
        elif isinstance(frame, f.ErrorFrame):
            self._settle(frame.request_id or 0)
            refused = frame.details.get("subscription_id")
            if isinstance(refused, int):
                self.subscriptions.pop(refused, None)
        elif isinstance(frame, f.EventFrame):
            self._observed(frame)
        elif isinstance(frame, f.RequestFrame):
            if not isinstance(frame.params, ops.IdentityLost):
                return self._called(frame), None
            self._lost(frame.params.agent_id)
        return frame, None

    def _notified(self, frame: f.NotifyFrame) -> tuple[f.Frame | None, f.Frame | None]:
        envelope = frame.envelope
        place = (frame.recipient_id, envelope.session_id, envelope.sequence)
        if envelope.event_type in SESSION_END:
            self._watches.pop((frame.recipient_id, envelope.session_id), None)
        if frame.attempt > 1:
            if place in self._in_hand:
                return None, None
            if place in self._receipted:
                return None, f.ReceiptFrame(*place)
        self._in_hand[place] = None
        return frame, None

    def _responded(self, frame: f.ResponseFrame) -> None:
        asked = self._settle(frame.request_id)
        params = asked.params if isinstance(asked, f.RequestFrame) else None
        if isinstance(params, ops.Register):
            # As the hub has it by then: what was declared at first may have been changed since, by an operator as well.
            who = frame.result.agent_id
            again = attrs.evolve(params, attach=True, rule=None, resume=None, skill_md=None, agent_id=who)
            self.identities[who] = again
        elif isinstance(params, ops.Unregister):
            self.identities.pop(params.agent_id, None)
        elif isinstance(params, ops.SetWindow) and params.agent_id in self.identities:
            register = self.identities[params.agent_id]
            self.identities[params.agent_id] = attrs.evolve(register, window=params.window)
        elif isinstance(params, ops.Watch):
            self._watches[params.agent_id, params.session_id] = None

    def _lost(self, agent_id: str) -> None:
        """It is not to be taken up again, nor what belongs to it."""
        self.identities.pop(agent_id, None)
        for number, subscription in list(self.subscriptions.items()):
            if subscription.agent_id == agent_id:
                del self.subscriptions[number]

    def _observed(self, frame: f.EventFrame) -> None:
        subscription = self.subscriptions.get(frame.subscription_id)
        if subscription is not None:
            self.subscriptions[frame.subscription_id] = attrs.evolve(subscription, after=frame.envelope.sequence)

    def _called(self, frame: f.RequestFrame) -> f.RequestFrame:
        """The hub numbers its calls per connection; here they are told apart over all of them."""
        if isinstance(frame.params, ops.CancelRequest):
            number = self._epoch << _EPOCH_BITS | frame.params.request_id
            return attrs.evolve(frame, params=ops.CancelRequest(number))
        if isinstance(frame.params, ops.Withdraw):
            place = frame.params
            self._in_hand.pop((place.agent_id, place.session_id, place.sequence), None)
            return frame
        number = self._epoch << _EPOCH_BITS | frame.request_id
        self._calls[number] = None
        return attrs.evolve(frame, request_id=number)

    # The cut.

    def cut(self) -> Iterator[f.Frame]:
        """The connection is lost: what the client is told at once."""
        self._epoch += 1
        for number in self._calls:
            yield f.RequestFrame(0, ops.CancelRequest.op, ops.CancelRequest(number))
        sent, self._sent = self._sent, set()
        for request_id in sorted(sent):
            frame = self._open[request_id]
            if isinstance(frame, f.RequestFrame) and not is_repeatable(frame.params):
                del self._open[request_id]
                message = f"the link was lost before {frame.op!r} was answered; it may have been carried out"
                yield f.ErrorFrame(LinkClosed.code, message, request_id)

    def standing(self) -> Iterator[f.Frame]:
        """What is to be set up again once the identities are attached: watches and subscriptions."""
        for agent_id, session_id in list(self._watches):
            if agent_id in self.identities:
                yield f.RequestFrame(0, ops.Watch.op, ops.Watch(agent_id, session_id))
        yield from list(self.subscriptions.values())

    def unanswered(self, after: int) -> list[f.SendFrame | f.RequestFrame]:
        """The open questions numbered higher than `after`, in order."""
        return [self._open[number] for number in sorted(self._open) if number > after]
