"""Which view an agent sees a session through, and how much of the log that reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from agorio.actors.agents.handler import resolve_view_policy
from agorio.actors.agents.stream import MemoryStream, Message
from agorio.actors.agents.views import FullTranscript, NamedTranscript, NamedWindowedSummary, Scene, WindowedSummary
from agorio.actors.sessions.graph import TransitionGraph
from agorio.actors.sessions.handoff import Handoff
from agorio.actors.sessions.identity import Passport
from agorio.actors.sessions.metadata import Manifest, Participant, SessionMetadata, SessionState
from agorio.mailbox.envelope import Envelope


async def quiet(text: str) -> None:
    return None


class Watcher:
    """An agent that remembers what it was shown."""

    def __init__(self, name: str = "bob") -> None:
        self.name = name
        self.shown: list[list[str]] = []
        self.asked: list[str] = []

    async def ask(self, text: str, stream: MemoryStream) -> str:
        self.asked.append(text)
        self.shown.append([message.text for message in stream])
        return f"reply {len(self.shown)}"


@attrs.frozen
class Count:
    """A custom view: how much there was."""

    window: int | None = None

    def project(self, log: Sequence[Envelope], scene: Scene) -> list[Message]:
        texts = [scene.render(envelope) for envelope in log]
        return [Message("user", f"{len([t for t in texts if t])} messages", envelope_id="-")]


async def test_whose_view_counts(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    bob = await net.hc.register(Watcher())
    net.hc.views.register("count", Count())
    plain = await ann.open("conversation", "bob")
    labelled = await ann.open("conversation", "bob", labels={"view": "count"})
    odd = await ann.open("conversation", "bob", labels={"view": "unknown here"})
    assert await resolve_view_policy(bob, plain.metadata) == WindowedSummary()
    assert await resolve_view_policy(bob, odd.metadata) == WindowedSummary()
    assert await resolve_view_policy(bob, labelled.metadata) == Count()
    bob.set_view("named")
    assert await resolve_view_policy(bob, labelled.metadata) == NamedTranscript()
    bob.set_view(FullTranscript(), session_id=plain.session_id)
    assert await resolve_view_policy(bob, plain.metadata) == FullTranscript()
    assert await resolve_view_policy(bob, labelled.metadata) == NamedTranscript()
    bob.set_view(None, session_id=plain.session_id)
    bob.set_view(None)
    assert await resolve_view_policy(bob, plain.metadata) == WindowedSummary()
    other = await net.hc.register(quiet, Passport(name="carl"), view="count")
    assert await resolve_view_policy(other, plain.metadata) == Count()


async def test_a_custom_view_is_what_the_agent_sees(autojump_clock: MockClock, net: Any) -> None:
    bob = Watcher()
    await net.hc.register(bob, view=Count())
    ann = await net.hc.register(quiet, Passport(name="ann"))
    session = await ann.open("conversation", "bob")
    await session.ask("one")
    await session.send("two")
    await trio.sleep(1)
    assert bob.shown == [["0 messages"], ["2 messages"]]


@pytest.mark.parametrize("bookkeeping", [0, 40])
async def test_a_window_reads_the_tail_and_no_more(
    autojump_clock: MockClock, scripted: Any, said: Any, bookkeeping: int
) -> None:
    """Where task events and the like fill the tail it reads on, until it has what it shows."""
    async with scripted() as (hub, hc):
        bob = Watcher()
        await hc.register(bob, view=WindowedSummary(5))
        texts = [said(number, f"text {number}") for number in range(1, 1001)]
        notes = [said(1000 + n, event_type="app.note", event_data={}) for n in range(1, bookkeeping + 1)]
        last = 1001 + bookkeeping
        hub.log["s"] = [*texts, *notes]
        members = tuple(Participant(who, "participant", order) for order, who in enumerate(("id-peer", "id-bob")))
        active = SessionState.ACTIVE
        metadata = SessionMetadata("s", Manifest("conversation"), "id-peer", members, active, "2026-01-01T00:00:00Z")
        hub.rules["get_session"] = lambda op: metadata
        hub.rules["names_for"] = lambda op: {}
        hub.push("id-bob", said(last, "and now?"))
        await trio.sleep(1)
        assert bob.asked == ["and now?"]
        assert bob.shown[0][1:] == [f"text {number}" for number in range(996, 1001)]
        assert "are not shown" in bob.shown[0][0]
        read = sum(last - 1 - op.after for op in hub.requests("read_wal"))
        assert read < 150


async def test_packets_are_seen_in_words(autojump_clock: MockClock, net: Any) -> None:
    async def bob(text: str) -> Handoff:
        return Handoff("carl", "a reason")

    carl = Watcher("carl")
    await net.hc.register(bob)
    await net.hc.register(carl)
    ann = await net.hc.register(quiet, Passport(name="ann"))
    graph = TransitionGraph.sequence(["ann", "bob", "carl"]).to_dict()
    session = await ann.open("workflow", ["bob", "carl"], knobs={"graph": graph})
    await session.send("start")
    await trio.sleep(1)
    assert carl.shown == [["[ann]: start"]]
    assert carl.asked == ["[bob]: [Handed off] a reason"]
    assert await net.hc.default_view_policy(session.session_id, "x") == NamedWindowedSummary(6)
