"""A link client that outlives its connections: it makes a lost one again and takes up what was under way.

To its user it is one unbroken link. While there is no connection, frames are accepted: what must arrive stands in the
ledger and is sent on the next one. The reconnecting is done by whoever reads `frames()`.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import attrs
import trio

from ...mailbox.errors import (
    AgorioError,
    AuthError,
    HubClosedError,
    LinkClosed,
    LinkError,
    RateLimited,
    StoreError,
)
from ...transports.frames import ErrorFrame, Frame, HelloFrame, RequestFrame, ResponseFrame, WelcomeFrame
from ...transports.link import Link, LinkClient, drain_of
from ...transports.reconnect import Reconnect, ReconnectingLink
from ..sessions.credentials import Answerer, Challenge, Credentials
from ..sessions.identity import AuthBlock
from ..sessions.operations import AuthChallenge, IdentityLost, Operation, Register
from .correlation import as_error
from .resumption import Ledger

# The client numbers its questions from 1; these are the link's own.
OWN_NUMBERS: Final = 2**62
ATTEMPT_TIMEOUT: Final = 30.0
# What a hub refuses today and may grant tomorrow; it says nothing about the identity that asks.
PASSING: Final = (LinkError, HubClosedError, StoreError, RateLimited)

_log = logging.getLogger("agorio.agents")


@attrs.frozen
class LinkChange:
    """The link is up or down."""

    is_connected: bool
    """Whether there is a connection now."""
    reason: str = ""
    """Why it was lost."""
    attempts: int = 0
    """How many attempts it took to make it again."""
    is_final: bool = False
    """Whether it will not be tried again."""


class ResumingLink:
    """One link over many connections."""

    def __init__(
        self, link: ReconnectingLink, policy: Reconnect, on_change: Callable[[LinkChange], None], rng: random.Random
    ) -> None:
        self._link = link
        self._policy = policy
        self._on_change = on_change
        self._rng = rng
        self._prefix = f"{rng.getrandbits(64):016x}."
        self._keys = 0
        self._ledger = Ledger(self._new_key)
        self._proofs: dict[str, Answerer] = {}
        self._current: LinkClient | None = None
        self._frames: AsyncIterator[Frame] | None = None
        self._drain: Callable[[], Sequence[Frame]] = tuple
        self._arrived: deque[Frame] = deque()  # as they came
        self._ready: deque[Frame] = deque()  # to be handed on
        self._hello = HelloFrame()
        self._own = OWN_NUMBERS
        self._reason = ""
        self._lost_at, self._lost_by, self._attempts = math.inf, "", 0
        self._is_closed = False
        self.is_up = False

    def _new_key(self) -> str:
        self._keys += 1
        return f"{self._prefix}{self._keys}"

    def remember(self, agent_id: str, credentials: Credentials | None) -> None:
        """Credentials that must be computed anew for each connection."""
        if callable(credentials):
            self._proofs[agent_id] = credentials

    async def open(self) -> None:
        """Connect. Raises `LinkError` when the hub cannot be reached; only later losses are made good.

        If cancelled: not connected.
        """
        if self._current is None:
            current = self._link.client()
            await current.open()
            self._read_from(current)
            self._set_up(LinkChange(True))

    def _read_from(self, current: LinkClient) -> None:
        self._current, self._frames = current, current.frames()
        self._drain = drain_of(self._frames)
        self._arrived.clear()

    async def send_frame(self, frame: Frame) -> None:
        """Send one frame, or keep it for the next connection. Raises `LinkClosed` once there will be none.

        If cancelled: the frame was not sent.
        """
        if self._is_closed or self._current is None:
            raise LinkClosed(f"the link is closed: {self._reason or 'it was not opened'}")
        if isinstance(frame, HelloFrame):
            self._hello = frame
        noted = self._ledger.outgoing(frame)
        if noted is None or not self.is_up:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        try:
            await self._current.send_frame(noted)
            self._ledger.note_sent(noted)
        except LinkClosed:
            return  # what must arrive is in the ledger; the reader of the frames has seen the end, or will
        except BaseException:
            self._ledger.forget(noted)
            raise

    def frames(self) -> ResumingLink:
        """The frames that arrive, over all connections. One reader at a time."""
        return self

    def __aiter__(self) -> ResumingLink:
        return self

    async def __anext__(self) -> Frame:
        while not self._ready:
            if await self._receive():
                while self._arrived:
                    answer = self._hand_on(self._arrived.popleft())
                    if answer is not None:
                        await self._send_quietly(answer)
            elif self._is_closed:
                raise StopAsyncIteration
            elif self._lost_at == math.inf:
                self._cut()
            else:
                await self._make_good()
        return self._ready.popleft()

    def drain_nowait(self) -> list[Frame]:
        """What came together with the frame before."""
        ready = list(self._ready)
        self._ready.clear()
        return ready

    async def _receive(self) -> bool:
        """Wait until a frame of this connection is here; False at its end, whose reason is kept."""
        while not self._arrived:
            if self._frames is None:
                return False
            frame = await anext(self._frames, None)
            if frame is None:
                self._frames = None
                return False
            self._arrived.extend(other for other in (frame, *self._drain()) if not self._is_reason(other))
        return True

    async def _next(self) -> Frame | None:
        """The next frame of this connection; None at its end."""
        return self._arrived.popleft() if await self._receive() else None

    def _is_reason(self, frame: Frame) -> bool:
        """Whether a frame only says why the link is about to end."""
        if isinstance(frame, ErrorFrame) and frame.request_id is None and _is_about_link(frame):
            self._reason = frame.message
            return True
        return False

    def _hand_on(self, frame: Frame) -> Frame | None:
        """Pass on what the reader is to see; what the hub is to be answered instead, if anything."""
        onward, answer = self._ledger.incoming(frame)
        if onward is not None:
            self._ready.append(onward)
        return answer

    async def _send_quietly(self, frame: Frame) -> None:
        """Send over this connection; if it is lost, the next one makes it good."""
        if self._current is None:
            return
        try:
            await self._current.send_frame(frame)
        except LinkClosed:
            return

    # Making a lost connection good.

    def _cut(self) -> None:
        """The connection is lost. What cannot be made good is told before anything else is tried."""
        self._lost_at, self._lost_by, self._attempts = trio.current_time(), self._reason or "the connection was lost", 0
        self._set_up(LinkChange(False, self._lost_by))
        self._ready.extend(self._ledger.cut())

    async def _make_good(self) -> None:
        """Try until there is a connection again, or something to be told."""
        while not (self._is_closed or self._ready):
            await trio.sleep(self._policy.delay(self._attempts, self._rng.random()))
            self._attempts += 1
            error = await self._failure()
            if error is None:
                self._lost_at = math.inf
                self._set_up(LinkChange(True, "", self._attempts))
                return
            self._ready.extend(self._ledger.cut())
            late = trio.current_time() - self._lost_at >= self._policy.give_up_after
            if late or _is_final(error):
                self._give_up(f"{self._lost_by}; reconnecting has failed: {error}")

    async def _failure(self) -> Exception | None:
        """Why an attempt has failed; None where it has not."""
        try:
            await self._attempt()
        except (AgorioError, TimeoutError) as error:
            return error
        return None

    def _give_up(self, reason: str) -> None:
        self._is_closed = True
        self._reason = reason
        self._ready.append(ErrorFrame(LinkClosed.code, reason))
        self._set_up(LinkChange(False, reason, self._attempts, is_final=True))

    def _set_up(self, change: LinkChange) -> None:
        self.is_up = change.is_connected
        try:
            self._on_change(change)
        except Exception:  # a listener of the user's must not end the link that it listens to
            _log.exception("a listener has failed on %s", change)

    async def _attempt(self) -> None:
        """One attempt: connect, greet, attach, take up. If cancelled: not connected."""
        current = self._link.client()
        try:
            with trio.move_on_after(ATTEMPT_TIMEOUT) as scope:
                await current.open()
                self._read_from(current)
                self._reason = ""
                await current.send_frame(self._hello)
                await self._until(lambda frame: isinstance(frame, WelcomeFrame))
                await self._attach_all()
                await self._take_up(current)
        except BaseException:
            await self._drop(current)
            raise
        if scope.cancelled_caught:
            await self._drop(current)
            raise TimeoutError(f"the hub has not taken the client back within {ATTEMPT_TIMEOUT:g} s")

    async def _drop(self, current: LinkClient) -> None:
        self._frames = None
        with trio.CancelScope(shield=True):
            await current.close()

    async def _attach_all(self) -> None:
        """Take up every identity. One that is refused is lost by itself; raises its refusal where none is left."""
        lost: dict[str, AgorioError] = {}
        for agent_id, register in list(self._ledger.identities.items()):
            try:
                await self._attach(agent_id, register)
            except PASSING:
                raise
            except AgorioError as error:
                lost[agent_id] = error
        if lost and len(lost) == len(self._ledger.identities):
            raise next(iter(lost.values()))
        for agent_id, why in lost.items():
            self._hand_on(RequestFrame(0, IdentityLost.op, IdentityLost(agent_id, why.code, str(why))))

    async def _attach(self, agent_id: str, register: Register) -> None:
        name, proof = register.passport.name, self._proofs.get(agent_id)
        if proof is not None:
            scheme = getattr(proof, "scheme", register.passport.auth.scheme)
            challenge = await self._ask(AuthChallenge(name, scheme))
            register = attrs.evolve(register, credentials=await _proven(name, proof, challenge))
        await self._ask(register)

    async def _ask(self, operation: Operation) -> Any:
        """A question of the link's own. Raises the refusal. If cancelled: it may have been carried out."""
        assert self._current is not None
        self._own += 1
        number = self._own
        await self._current.send_frame(RequestFrame(number, operation.op, operation))
        answer = await self._until(
            lambda frame: isinstance(frame, ResponseFrame | ErrorFrame) and frame.request_id == number
        )
        if isinstance(answer, ErrorFrame):
            raise as_error(answer)
        return answer.result

    async def _until(self, is_wanted: Callable[[Frame], bool]) -> Any:
        """Take in what arrives until the frame that is waited for."""
        while (frame := await self._next()) is not None:
            if is_wanted(frame):
                return frame
            if isinstance(frame, ErrorFrame) and frame.request_id is None:
                raise as_error(frame)
            answer = self._hand_on(frame)
            if answer is not None:
                await self._send_quietly(answer)
        raise LinkClosed(f"the link was lost again: {self._reason or 'without a word'}")

    async def _take_up(self, current: LinkClient) -> None:
        """Send what stands, then what is unanswered; what is put meanwhile has a higher number and follows."""
        for frame in self._ledger.standing():
            await current.send_frame(frame)
        sent = 0
        while frames := self._ledger.unanswered(sent):
            for frame in frames:
                sent = frame.request_id
                await current.send_frame(frame)
                self._ledger.note_sent(frame)
        self.is_up = True

    async def close(self) -> None:
        """Close for good; closing again does nothing. If cancelled: closed all the same."""
        self._is_closed = True
        self.is_up = False
        if self._current is not None:
            await self._current.close()
        await trio.lowlevel.checkpoint()


def client_of(link: Link | LinkClient, on_change: Callable[[LinkChange], None] | None) -> LinkClient:
    """The agents' end of a link: one that makes lost connections good where the link can, else its only one."""
    if isinstance(link, ReconnectingLink) and link.reconnect is not None:
        return ResumingLink(link, link.reconnect, on_change or _ignore, random.Random())
    return link.client() if isinstance(link, Link) else link


def is_up(link: LinkClient) -> bool:
    """Whether there is a connection now; a link of one connection has it as long as it lasts."""
    return not isinstance(link, ResumingLink) or link.is_up


async def _proven(name: str, proof: Answerer, challenge: Challenge) -> AuthBlock:
    try:
        answer = proof(challenge)
        return answer if isinstance(answer, AuthBlock) else await answer
    except AgorioError:
        raise
    except Exception as exc:  # code of the user's, which may fail in any way; it costs this identity and no other
        raise AuthError(f"the credentials of {name!r} could not be computed: {exc!r}") from exc


def _ignore(change: LinkChange) -> None:
    """Nobody listens."""


def _is_about_link(frame: ErrorFrame) -> bool:
    """Whether it says why the link is about to end."""
    return isinstance(as_error(frame), HubClosedError | LinkClosed)


def _is_final(error: Exception) -> bool:
    """Whether the hub refuses this client as such: trying again cannot help."""
    if isinstance(error, LinkError):
        status = error.details.get("status", 0)
        return isinstance(status, int) and 400 <= status < 500 and status != 429
    return isinstance(error, AgorioError) and not isinstance(error, PASSING)
