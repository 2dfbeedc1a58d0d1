"""One connection to a hub: the handshake, questions with their answers, and the pump.

The pump only routes. It hands answers to the tasks that wait and deliveries to `on_notify`, both synchronous, and what
it has to say itself goes through a bounded outbox with a writer task: waiting for room on the link would keep it from
reading, and two ends that both wait for the other to read would stand still for ever.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

from ...mailbox.box import Mailbox
from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError, BadFrame, HubClosedError, InboxFull, LinkClosed, LinkError
from ...transports.frames import (
    AcceptFrame,
    ErrorFrame,
    EventFrame,
    Frame,
    HelloFrame,
    NotifyFrame,
    PingFrame,
    PongFrame,
    ReceiptFrame,
    RequestFrame,
    ResponseFrame,
    SendFrame,
    WelcomeFrame,
)
from ...transports.link import Attended, LinkClient, drain_of
from ..sessions.operations import CancelRequest, Operation
from .correlation import Answer, Call, Calls, again, as_error
from .observing import Observation

OUTBOX = 65_536
PERIOD = 5.0

_log = logging.getLogger("agorio.agents")


class Connection:
    """A link client with its open calls. `pump`, `write` and `keep` are its three tasks; somebody else runs them."""

    def __init__(
        self,
        link: LinkClient,
        *,
        request_timeout: float = 30.0,
        on_notify: Callable[[NotifyFrame], None],
        on_end: Callable[[AgorioError], None],
        on_tick: Callable[[], bool],
        on_request: Callable[[RequestFrame], None],
    ) -> None:
        self._on_request = on_request
        self.welcome: WelcomeFrame | None = None
        self.calls = Calls()
        self._observations: dict[int, Observation] = {}
        self._last_observation = 0
        self._link = link
        self._timeout = request_timeout
        self._on_notify = on_notify
        self._on_end = on_end
        self._on_tick = on_tick
        self._frames: AsyncIterator[Frame] | None = None
        self._outbox: Mailbox[Frame] = Mailbox(OUTBOX, name="outbox")
        self._fault: AgorioError | None = None
        self._last_words: AgorioError | None = None
        self._nap: trio.Event | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing crosses the link any more."""
        return self._fault is not None

    def check(self) -> None:
        """Raise why the connection has ended, if it has."""
        if self._fault is not None:
            raise again(self._fault)

    async def shake_hands(self, client: str) -> None:
        """Open the link and greet the hub. If cancelled: the link is closed."""
        try:
            with trio.move_on_after(self._timeout):
                await self._link.open()
                self._frames = self._link.frames()
                await self._link.send_frame(HelloFrame(client=client))
                self.welcome = await self._welcome(self._frames)
                return
            raise TimeoutError(f"the hub has not answered the greeting within {self._timeout:g} s")
        finally:
            if self.welcome is None:
                await self._link.close()

    async def _welcome(self, frames: AsyncIterator[Frame]) -> WelcomeFrame:
        frame = await anext(frames, None)
        if isinstance(frame, WelcomeFrame):
            return frame
        if isinstance(frame, ErrorFrame):
            raise as_error(frame)
        if frame is None:
            raise LinkClosed("the hub has closed the link instead of welcoming the client")
        raise BadFrame(f"the hub greets with {type(frame).__name__} instead of WelcomeFrame")

    # Questions.

    async def send(self, envelope: Envelope) -> AcceptFrame:
        """Have the hub judge an envelope. It has no deadline: where an inbox blocks, waiting is what was asked for.

        If cancelled: the envelope may have been accepted.
        """
        self.check()
        calls = self.calls
        call = calls.open("send")
        try:
            await self._link.send_frame(SendFrame(call.request_id, envelope))
            accepted = await call.wait()
        except trio.Cancelled:
            self._give_up(call)
            raise
        finally:
            calls.forget(call)
        assert isinstance(accepted, AcceptFrame)
        return accepted

    async def request(
        self,
        operation: Operation,
        *,
        is_bounded: bool = True,
        then: Callable[[Answer | Exception], None] | None = None,
        is_queued: bool = False,
    ) -> Any:
        """Put a control call and wait for its result. With `then` the answer is taken even if nobody waits any more.

        With `is_queued` it stands behind what was posted before.

        If cancelled: the hub may have carried it out.
        """
        self.check()
        call = self.calls.open(operation.op, self._deadline() if is_bounded else math.inf, then)
        self.wake()
        is_expected = False
        try:
            frame = RequestFrame(call.request_id, operation.op, operation)
            if is_queued:
                self.post(frame)
            else:
                await self._link.send_frame(frame)
            is_expected = then is not None
            response = await call.wait()
        except trio.Cancelled:
            if not is_expected:
                self._give_up(call)
            raise
        finally:
            if not is_expected:
                self.calls.forget(call)
        assert isinstance(response, ResponseFrame)
        return response.result

    def _give_up(self, call: Call) -> None:
        """Tell the hub that nobody waits any more; it answers that to nobody."""
        self.post(RequestFrame(0, CancelRequest.op, CancelRequest(call.request_id)))

    def _deadline(self) -> float:
        return trio.current_time() + self._timeout

    # Observers.

    def observe(self, observation: Observation) -> int:
        """Hand it what comes under the number that is returned."""
        self._last_observation = number = self._last_observation + 1
        self._observations[number] = observation
        return number

    def forget_observation(self, number: int) -> bool:
        """Nobody observes any more; whether somebody did."""
        return self._observations.pop(number, None) is not None

    def fail_observations(self, error: AgorioError, agent_id: str | None = None) -> None:
        """Nothing comes any more, to anybody or to those who look in an agent's name."""
        for number, observation in list(self._observations.items()):
            if agent_id is None or observation.agent_id == agent_id:
                del self._observations[number]
                observation.fail(error)

    # Things said without waiting.

    def post(self, frame: Frame) -> None:
        """Queue a frame for the writer. A hub that leaves the whole outbox unread is cut off."""
        if self._fault is None:
            try:
                self._outbox.put_nowait(frame)
            except InboxFull:
                self.end(LinkClosed(f"the hub has left {OUTBOX} frames unread; the link is closed"))

    def post_request(
        self,
        operation: Operation,
        then: Callable[[Answer | Exception], None] | None = None,
        *,
        is_bounded: bool = True,
    ) -> None:
        """Put a control call without waiting; `then` gets the answer."""
        if self._fault is None:
            call = self.calls.open(operation.op, self._deadline() if is_bounded else math.inf, then)
            self.wake()
            self.post(RequestFrame(call.request_id, operation.op, operation))

    def post_envelope(self, envelope: Envelope, then: Callable[[Answer | Exception], None]) -> None:
        """Send an envelope without waiting; `then` gets the answer."""
        if self._fault is None:
            call = self.calls.open("send", math.inf, then)
            self.post(SendFrame(call.request_id, envelope))

    async def receipt(self, frame: ReceiptFrame) -> None:
        """Send a receipt; after the link's end the delivery just stays pending. If cancelled: so it does."""
        try:
            await self._link.send_frame(frame)
        except LinkClosed as exc:
            self.end(exc)

    # The three tasks.

    async def pump(self) -> None:
        """Route what arrives until the link ends. If cancelled: the connection has ended."""
        assert self._frames is not None, "the handshake comes first"
        if isinstance(self._link, Attended):
            self._link.attend(self._route)
        try:
            drain = drain_of(self._frames)
            async for first in self._frames:
                self._route(first)
                for frame in drain():
                    self._route(frame)
        finally:
            self.end(self._last_words or LinkClosed("the link to the hub has ended; what was accepted is kept there"))

    def _route(self, frame: Frame) -> None:
        kind = type(frame)
        if kind is NotifyFrame:
            self._on_notify(frame)  # type: ignore[arg-type]
        elif kind is AcceptFrame or kind is ResponseFrame:
            self.calls.answer(frame)  # type: ignore[arg-type]
        elif isinstance(frame, EventFrame):
            observation = self._observations.get(frame.subscription_id)
            if observation is not None:
                observation.arrive(frame.envelope)
        elif isinstance(frame, ErrorFrame):
            self._route_error(frame)
        elif isinstance(frame, PingFrame):
            self.post(PongFrame(frame.nonce))
        elif isinstance(frame, RequestFrame):
            self._on_request(frame)

    def _route_error(self, frame: ErrorFrame) -> None:
        """An error without a question is about the connection: it may say why the link is about to end."""
        if frame.request_id is not None:
            self.calls.answer(frame)
            return
        error = as_error(frame)
        number = frame.details.get("subscription_id")
        observation = self._observations.pop(number, None) if isinstance(number, int) else None
        if observation is not None and isinstance(error, AgorioError):
            observation.fail(error)
        elif isinstance(error, HubClosedError | LinkError):
            self._last_words = error
        else:
            _log.warning("the hub refused something that nobody waits for: %s", error)

    async def write(self) -> None:
        """Send what the outbox holds. If cancelled: what it still holds is not sent."""
        outbox = self._outbox
        while not outbox.is_closed:
            await outbox.wait()
            for frame in outbox.drain_nowait():
                try:
                    await self._link.send_frame(frame)
                except LinkClosed as exc:
                    self.end(exc)
                    return

    async def keep(self) -> None:
        """Expire late calls and retire idle workers; sleeps while there is nothing to watch. If cancelled: ends."""
        while self._fault is None:
            busy = self._on_tick()
            if not busy and not self.calls:
                self._nap = trio.Event()
                await self._nap.wait()
            # A call that is put during this sleep has a later deadline than `timeout` from now.
            period = min(PERIOD, self._timeout) if busy or self.calls else PERIOD
            await trio.sleep_until(min(self.calls.next_deadline(), trio.current_time() + period))
            self.calls.expire(trio.current_time())

    def wake(self) -> None:
        """Wake the housekeeper: there is something to watch again."""
        if self._nap is not None:
            self._nap.set()
            self._nap = None

    # The end.

    def end(self, fault: AgorioError) -> None:
        """Nothing crosses any more: fail everybody who waits, with `fault`. Only the first end counts."""
        if self._fault is None:
            self._fault = fault
            self._outbox.close()
            self.wake()
            self.calls.fail_all(fault)
            self.fail_observations(fault)
            self._on_end(fault)

    async def close(self) -> None:
        """Close the link. If cancelled: closed all the same."""
        self.end(LinkClosed("this client is closed; make another HubClient"))
        await self._link.close()
