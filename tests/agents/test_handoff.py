"""What an agent replies: texts, objects, handoffs and ends, its own and its tools'; packets in workflows, else text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from agorio.actors.agents.routing import is_silent, read_reply, routing_tools, utter
from agorio.actors.agents.tools import Tool, Toolbox
from agorio.actors.sessions.graph import Transition, TransitionGraph
from agorio.actors.sessions.graph_conditions import AllOf, ContextEquals, FromSpeaker, ToolCalled
from agorio.actors.sessions.graph_targets import AgentTarget, StayTarget
from agorio.actors.sessions.handoff import ContextUpdates, Finish, Handoff, Packet, Routing, ToolResult
from agorio.actors.sessions.identity import Passport
from agorio.mailbox.errors import InvalidInput
from agorio.mailbox.events import EV_PACKET, EV_TEXT


async def quiet(text: str) -> None:
    return None


# The pure part.


@pytest.mark.parametrize(
    ("reply", "packet"),
    [
        (None, Packet()),
        ("hi", Packet(body="hi")),
        (SimpleNamespace(body="hi"), Packet(body="hi")),
        (SimpleNamespace(body=None), Packet()),
        (Handoff("bob", "yours"), Packet(Routing("handoff", None, "yours", "bob"))),
        (SimpleNamespace(body=Finish("all")), Packet(Routing("finish", None, "finished", None, "all"))),
        (Packet(body="x", updates=ContextUpdates({"a": 1})), Packet(body="x", updates=ContextUpdates({"a": 1}))),
        (
            SimpleNamespace(body="hi", tool_results=[ToolResult("look", 3), Handoff("bob"), Finish()]),
            Packet(Routing("handoff", "handoff", "", "bob"), body="hi"),
        ),
    ],
)
def test_replies_of_every_shape(reply: Any, packet: Packet) -> None:
    assert read_reply(reply) == packet


def test_the_first_that_was_emitted_wins() -> None:
    calls = [ToolResult("look", "a thing"), ToolResult("end", Finish("done")), ToolResult("pass", Handoff("bob"))]
    assert read_reply(Handoff("carl"), calls).routing == Routing("finish", "end", "finished", None, "done")
    static = [ToolResult("escalate", None, {"reason": "too hard"}), *calls]
    assert read_reply("hm", static, {"escalate"}) == Packet(Routing("handoff", "escalate", "too hard"), body="hm")
    with pytest.raises(InvalidInput, match="a Handoff, a Finish"):
        read_reply(42)


def test_outside_of_a_workflow_routing_is_text() -> None:
    def text(packet: Packet) -> Any:
        said = utter(packet, is_workflow=False)
        return said and said.event_data["text"]

    assert text(Packet(Routing("handoff", None, "yours", "bob"), body="hm")) == "[Handed off to bob] yours\nhm"
    assert text(Packet(Routing("finish", None, "over", None, "all done"))) == "all done"
    assert text(Packet(Routing("finish", None, "over"))) == "[Finished: over]"
    assert text(Packet()) is None
    assert text(Packet(updates=ContextUpdates({"a": 1}))) is None


def test_in_a_workflow_it_is_a_packet() -> None:
    plain = utter(Packet(body="x"), is_workflow=True)
    assert plain is not None
    assert (plain.event_type, plain.event_data) == (EV_TEXT, {"text": "x"})
    changed = utter(Packet(updates=ContextUpdates({"a": 1}, ["b"])), is_workflow=True)
    assert changed is not None
    assert changed.event_type == EV_PACKET
    assert changed.event_data["context_updates"] == {"set": {"a": 1}, "delete": ["b"]}
    assert is_silent(Packet())


def test_the_tools_that_a_graph_waits_for() -> None:
    graph = TransitionGraph(
        "a",
        [
            Transition(AllOf((ToolCalled("x"), FromSpeaker("a"))), StayTarget()),
            Transition(ToolCalled("y"), StayTarget()),
        ],
    )
    assert routing_tools(graph.to_dict()) == {"x", "y"}
    assert routing_tools(None) == set()


# In a network.


async def run(net: Any, graph: TransitionGraph, members: list[str], **knobs: Any) -> tuple[Any, list[Any]]:
    user = await net.hc.register(None, Passport(name="user"), handler=quiet)
    session = await user.open("workflow", members, knobs={"graph": graph.to_dict(), **knobs})
    await session.send("start")
    await trio.sleep(60)
    log = [e for e in await net.hub.read_wal(session.session_id) if e.event_type in (EV_TEXT, EV_PACKET)]
    names = await net.hc.names(session.metadata.participant_ids)
    return await session.info(), [(names[e.sender_id], e.event_type, e.event_data) for e in log]


async def test_a_handoff_by_name_and_a_finish(autojump_clock: MockClock, net: Any) -> None:
    seen: list[str] = []

    async def bob(text: str) -> Handoff:
        return Handoff("carl", "knows it better")

    async def carl(text: str) -> Finish:
        seen.append(text)
        return Finish("it is 42", "answered")

    await net.hc.register(bob)
    carl_client = await net.hc.register(carl)
    graph = TransitionGraph("user", [Transition(FromSpeaker("user"), AgentTarget("bob"))])
    info, log = await run(net, graph, ["bob", "carl"])
    assert [(name, kind) for name, kind, _ in log] == [("user", EV_TEXT), ("bob", EV_PACKET), ("carl", EV_PACKET)]
    assert log[1][2]["routing"]["target"] == carl_client.agent_id
    assert info.close_reason == "answered"
    closing = (await net.hub.read_wal(info.session_id))[-1]
    assert closing.event_data["summary"] == "it is 42"
    assert seen == ["[bob]: [Handed off] knows it better"]


async def test_a_tools_handoff_routes_the_turn(autojump_clock: MockClock, net: Any) -> None:
    async def to_carl(reason: str) -> Handoff:
        """Hand over to carl."""
        return Handoff("carl", reason)

    async def give_up() -> Finish:
        """End it."""
        return Finish()

    async def fails() -> Handoff:
        """Never works."""
        raise OSError("no")

    async def bob(text: str) -> str:
        with pytest.raises(OSError, match="no"):
            await Tool(fails)()
        await Tool(to_carl)(reason="a hard one")
        await Tool(give_up)()
        return "Let me pass you on."

    async def carl(text: str) -> Finish:
        return Finish("ok")

    await net.hc.register(bob)
    carl_client = await net.hc.register(carl)
    graph = TransitionGraph("user", [Transition(FromSpeaker("user"), AgentTarget("bob"))])
    info, log = await run(net, graph, ["bob", "carl"])
    routing = dict(log[1][2]["routing"])
    assert routing.pop("target") == carl_client.agent_id
    assert routing == {"kind": "handoff", "tool": "to_carl", "reason": "a hard one"}
    assert log[1][2]["body"] == "Let me pass you on."
    assert info.close_reason == "finished"


async def test_a_tool_that_the_graph_waits_for(autojump_clock: MockClock, net: Any) -> None:
    async def escalate(reason: str) -> str:
        """Ask for help."""
        return "help is on the way"

    async def bob(text: str) -> str:
        return str(await Tool(escalate)(reason="too hard"))

    async def carl(text: str) -> Finish:
        return Finish(text)

    await net.hc.register(bob)
    await net.hc.register(carl)
    graph = TransitionGraph(
        "user",
        [Transition(FromSpeaker("user"), AgentTarget("bob")), Transition(ToolCalled("escalate"), AgentTarget("carl"))],
    )
    info, log = await run(net, graph, ["bob", "carl"])
    assert log[1][2]["routing"] == {"kind": "handoff", "tool": "escalate", "reason": "too hard"}
    assert log[2][0] == "carl"
    assert info.close_reason == "finished"


async def test_say_and_a_handoff_are_one_packet(autojump_clock: MockClock, net: Any) -> None:
    async def bob(text: str, tools: Toolbox) -> Handoff:
        await tools.get("say")(content="My part is done.")
        return Handoff("carl")

    async def carl(text: str) -> Packet:
        return Packet(Routing("finish", summary="both"), ContextUpdates({"done": True}), "And mine.")

    await net.hc.register(bob)
    await net.hc.register(carl)
    graph = TransitionGraph(
        "user",
        [
            Transition(FromSpeaker("user"), AgentTarget("bob")),
            Transition(ContextEquals("done", True), AgentTarget("user")),
        ],
    )
    info, log = await run(net, graph, ["bob", "carl"])
    assert [(name, data.get("body")) for name, _, data in log[1:]] == [
        ("bob", "My part is done."),
        ("carl", "And mine."),
    ]
    assert info.is_terminal()


async def test_elsewhere_it_is_text(autojump_clock: MockClock, net: Any) -> None:
    async def bob(text: str) -> Handoff:
        return Handoff("carl", "knows it")

    await net.hc.register(bob)
    user = await net.hc.register(None, Passport(name="user"), attach_plugin=False)
    session = await user.open("consulting", "bob")
    reply = await session.ask("?")
    assert (reply.event_type, reply.text) == (EV_TEXT, "[Handed off to carl] knows it")


async def test_a_stranger_as_target_fails_the_turn_and_stalls_nobody(autojump_clock: MockClock, net: Any) -> None:
    async def bob(text: str) -> Handoff:
        return Handoff("nobody")

    await net.hc.register(bob)
    graph = TransitionGraph("user", [Transition(FromSpeaker("user"), AgentTarget("bob"))])
    info, log = await run(net, graph, ["bob"])
    assert [name for name, _, _ in log] == ["user"]
    assert info.is_terminal()
    assert any("nobody" in str(record) for record in await net.hub.audit_log.read_all())


def test_results_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ToolResult("x").tool = "y"  # type: ignore[misc]
