"""Whoever speaks next is told so, also where nothing that was said tells them."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from agorio.actors.agents.session import Session
from agorio.actors.sessions.graph import Transition, TransitionGraph
from agorio.actors.sessions.graph_conditions import Always, FromSpeaker
from agorio.actors.sessions.graph_targets import AgentTarget, StayTarget
from agorio.actors.sessions.identity import Passport
from agorio.mailbox.events import EV_TEXT, EV_TURN_DUE


class Counting:
    """An agent that numbers its answers and keeps what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []

    async def ask(self, text: str) -> str:
        self.asked.append(text)
        return f"{self.name} {len(self.asked)}"


async def texts(session: Session) -> list[str]:
    return [envelope.text for envelope in await session.history() if envelope.event_type == EV_TEXT]


async def test_a_speaker_that_keeps_the_word_is_asked_again(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(None, Passport("ann"), attach_plugin=False)
    bob = Counting("bob")
    await net.hc.register(bob)
    graph = TransitionGraph("ann", (Transition(FromSpeaker("ann"), AgentTarget("bob")),), StayTarget(), max_turns=4)
    session = await ann.open("workflow", "bob", knobs={"graph": graph.to_dict()})
    await session.send("go")
    done = await session.wait_closed()
    assert done.close_reason == "max_turns"
    assert await texts(session) == ["go", "bob 1", "bob 2", "bob 3"]
    assert bob.asked == ["[ann]: go"] * 3


async def test_an_agent_that_speaks_first_begins_with_the_intent(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(None, Passport("ann"), attach_plugin=False)
    agents = [Counting("bob"), Counting("carl")]
    for agent in agents:
        await net.hc.register(agent)
    graph = TransitionGraph.sequence(["bob", "carl"])
    session = await ann.open("workflow", ["bob", "carl"], intent="Write a poem", knobs={"graph": graph.to_dict()})
    done = await session.wait_closed()
    assert done.close_reason == "sequence_complete"
    assert [agent.asked for agent in agents] == [["Write a poem"], ["[bob]: bob 1"]], agents[1].asked


async def test_without_an_intent_it_is_asked_to_begin(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(None, Passport("ann"), attach_plugin=False)
    bob = Counting("bob")
    await net.hc.register(bob)
    graph = TransitionGraph("bob", (Transition(Always(), AgentTarget("ann")),))
    session = await ann.open("workflow", "bob", knobs={"graph": graph.to_dict()})
    assert (await session.wait(lambda envelope: envelope.event_type == EV_TEXT)).text == "bob 1"
    assert bob.asked == ["It is your turn to begin."]


async def test_where_the_next_speaker_hears_what_was_said_nothing_is_added(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(None, Passport("ann"), attach_plugin=False)
    await net.hc.register(Counting("bob"))
    session = await ann.open("discussion", "bob", knobs={"max_turns": 2})
    await session.send("hello")
    await session.wait_closed()
    assert EV_TURN_DUE not in {envelope.event_type for envelope in await net.hub.read_wal(session.session_id)}


async def test_nobody_answers_the_same_thing_twice_because_others_are_silent(
    autojump_clock: MockClock, net: Any
) -> None:
    async def quiet(text: str) -> None:
        return None

    ann = await net.hc.register(quiet, Passport("ann"))
    bob = Counting("bob")
    await net.hc.register(bob)
    await net.hc.register(quiet, Passport("carl"))
    session = await ann.open("discussion", ["bob", "carl"])
    await session.send("hello")
    with trio.fail_after(60):
        done = await session.wait_closed()
    assert done.close_reason == "all_silent"
    assert bob.asked == ["[ann]: hello"]
