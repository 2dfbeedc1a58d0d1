"""A real hub with a client, and a hub's end of a link that a test scripts frame by frame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from agorio.actors.agents.hub_client import HubClient
from agorio.actors.sessions.identity import Resume
from agorio.actors.sessions.operations import CanSend, ReadWal, Register, Registered, Watch
from agorio.actors.sessions.rule import Rule
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import LinkClosed
from agorio.transports.frames import (
    AcceptFrame,
    ErrorFrame,
    Frame,
    HelloFrame,
    NotifyFrame,
    ReceiptFrame,
    RequestFrame,
    ResponseFrame,
    SendFrame,
    WelcomeFrame,
)
from agorio.transports.link import LinkEndpoint
from agorio.transports.local import LocalLink


class Network:
    """A hub and clients on it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.link = LocalLink(hub)
        self.hc = self.client()

    def client(self, **options: Any) -> HubClient:
        return HubClient(self.link, hub=self.hub, **options)


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        yield Network(hub)


class ScriptedHub:
    """The hub's end of one link: it answers what it has a rule for and remembers everything that it was told."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.endpoint: LinkEndpoint | None = None
        self.log: dict[str, list[Envelope]] = {}
        self.rules: dict[str, Callable[[Any], Any]] = {}
        self.is_mute = False
        self.links = 0
        self._arrived = trio.Event()
        self._waiting: list[LinkEndpoint] = []

    def accept_link(self, endpoint: LinkEndpoint) -> None:
        self.links += 1
        self.endpoint = endpoint
        self._waiting.append(endpoint)
        self._arrived.set()

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                for endpoint in self._waiting:
                    nursery.start_soon(self._read, endpoint)
                self._waiting.clear()

    async def _read(self, endpoint: LinkEndpoint) -> None:
        async for frame in endpoint.frames():
            self.frames.append(frame)
            if not self.is_mute:
                try:
                    for answer in self._answers(frame):
                        endpoint.send_nowait(answer)
                except LinkClosed:
                    return

    def _answers(self, frame: Frame) -> list[Frame]:
        if isinstance(frame, HelloFrame):
            return [WelcomeFrame("scripted", "2026-01-01T00:00:00Z")]
        if isinstance(frame, SendFrame):
            if "send" in self.rules:
                answer = self.rules["send"](frame)
                return [answer] if answer is not None else []
            return [AcceptFrame(frame.request_id, attrs.evolve(frame.envelope, envelope_id="e", sequence=99))]
        if isinstance(frame, RequestFrame) and frame.request_id:
            return self._result(frame)
        return []

    def _result(self, frame: RequestFrame) -> list[Frame]:
        operation = frame.params
        if frame.op in self.rules:
            answer = self.rules[frame.op](operation)
            if isinstance(answer, ErrorFrame):
                return [attrs.evolve(answer, request_id=frame.request_id)]
            return [] if answer is NO_ANSWER else [ResponseFrame(frame.request_id, answer)]
        if isinstance(operation, Register):
            passport = attrs.evolve(operation.passport, agent_id=f"id-{operation.passport.name}")
            return [ResponseFrame(frame.request_id, Registered(passport.agent_id, passport, Resume(), Rule()))]
        if isinstance(operation, ReadWal):
            log = self.log.get(operation.session_id, [])
            end = operation.before or len(log) + 1
            return [ResponseFrame(frame.request_id, tuple(e for e in log if operation.after < e.sequence < end))]
        if isinstance(operation, Watch | CanSend):
            return [ResponseFrame(frame.request_id, True)]
        return [ResponseFrame(frame.request_id, None)]

    def push(self, recipient_id: str, envelope: Envelope, attempt: int = 1) -> None:
        assert self.endpoint is not None
        self.endpoint.send_nowait(NotifyFrame(recipient_id, envelope, attempt))

    def receipts(self) -> list[tuple[str, int, str]]:
        found = [frame for frame in self.frames if isinstance(frame, ReceiptFrame)]
        return [(frame.session_id, frame.sequence, frame.status) for frame in found]

    def requests(self, op: str) -> list[Any]:
        return [frame.params for frame in self.frames if isinstance(frame, RequestFrame) and frame.op == op]

    def sent(self) -> list[Envelope]:
        return [frame.envelope for frame in self.frames if isinstance(frame, SendFrame)]


NO_ANSWER = object()


@asynccontextmanager
async def _scripted(**options: Any) -> AsyncIterator[tuple[ScriptedHub, HubClient]]:
    hub = ScriptedHub()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.serve)
        async with HubClient(LocalLink(hub), **options) as hc:
            yield hub, hc
        nursery.cancel_scope.cancel()


Scripted = Callable[..., AbstractAsyncContextManager[tuple[ScriptedHub, HubClient]]]


@pytest.fixture
def scripted() -> Scripted:
    """`async with scripted() as (hub, hc)`: a client on a link whose other end the test plays."""
    return _scripted


@pytest.fixture
def no_answer() -> object:
    """What a rule returns to leave a request unanswered."""
    return NO_ANSWER


def _said(sequence: int, text: str = "hi", session_id: str = "s", **fields: Any) -> Envelope:
    return Envelope(
        session_id,
        fields.pop("sender_id", "id-peer"),
        None,
        fields.pop("event_type", "ag2.msg.text"),
        fields.pop("event_data", {"text": text}),
        envelope_id=f"{session_id}-{sequence:04}",
        sequence=sequence,
        **fields,
    )


@pytest.fixture
def said() -> Callable[..., Envelope]:
    """Makes envelopes as a hub would have stamped them."""
    return _said
