"""What a tool layer publishes, and the tools of the network: in one agent's name, and only what it may see."""

from __future__ import annotations

import inspect
import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.agents.tools import Tool, Toolbox, network_tools
from agorio.actors.agents.turn_context import current_turn
from agorio.actors.sessions.graph import TransitionGraph
from agorio.actors.sessions.handoff import Handoff
from agorio.actors.sessions.identity import Passport, Resume
from agorio.mailbox.errors import (
    AccessDeniedError,
    InvalidInput,
    NotAMemberError,
    NotFoundError,
    TurnError,
)
from agorio.mailbox.events import EV_TEXT

NAMES = ("say", "delegate", "peers", "sessions", "tasks", "context")


async def quiet(text: str) -> None:
    return None


async def multiply(
    left: Annotated[int, msgspec.Meta(description="A number.")],
    right: float = 2.0,
    unit: Literal["m", "km"] | None = None,
    labels: list[str] | None = None,
) -> str:
    """Multiply two numbers.

    If cancelled: nothing is multiplied.
    """
    return f"{left * right} {unit} {labels}"


# Publishing.


def test_a_function_is_described_by_its_signature() -> None:
    tool = Tool(multiply)
    assert (tool.name, tool.description) == ("multiply", "Multiply two numbers.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "left": {"type": "integer", "description": "A number."},
            "right": {"type": "number", "default": 2.0},
            "unit": {"anyOf": [{"enum": ["km", "m"]}, {"type": "null"}], "default": None},
            "labels": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
        },
        "required": ["left"],
        "additionalProperties": False,
    }
    assert list(inspect.signature(tool).parameters) == ["left", "right", "unit", "labels"]
    tool.parameters["properties"].clear()
    assert tool.parameters["properties"]


async def test_arguments_are_checked() -> None:
    tool = Tool(multiply, name="times")
    assert await tool(left="3", unit="km") == "6.0 km None"
    assert await tool(3, 4) == "12.0 None None"
    for arguments, problem in (
        ({"left": "three"}, "left"),
        ({"left": 1, "unit": "mile"}, "unit"),
        ({}, "missing a required argument"),
        ({"left": 1, "more": 1}, "unexpected keyword argument"),
    ):
        with pytest.raises(InvalidInput, match=f"times: .*{problem}"):
            await tool(**arguments)


async def test_errors_as_text_for_a_model() -> None:
    async def slow() -> str:
        raise TimeoutError("too late")

    async def broken() -> str:
        raise ZeroDivisionError

    box = Toolbox([Tool(slow), Tool(broken)]).with_errors_as_text()
    assert await box.get("slow")() == "Error: too late"
    assert (await box.get("slow")(1)).startswith("Error: slow: too many positional")
    with pytest.raises(ZeroDivisionError):
        await box.get("broken")()
    with pytest.raises(InvalidInput, match="there are: slow, broken"):
        box.get("fast")
    with pytest.raises(InvalidInput, match="async def"):
        Tool(len)  # type: ignore[arg-type]


async def test_the_six_are_publishable(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    tools = network_tools(ann)
    assert tuple(tool.name for tool in tools) == NAMES
    for tool in tools:
        schema = json.loads(json.dumps(tool.parameters))
        assert schema["type"] == "object"
        assert tool.description
        assert "cancelled" not in tool.description
        assert all("description" in spec for spec in schema["properties"].values()), tool.name


async def test_who_takes_tools_is_given_them(autojump_clock: MockClock, net: Any) -> None:
    given: list[Any] = []

    async def with_tools(text: str, tools: Any) -> str:
        given.append([tool.name for tool in tools])
        return "ok"

    await net.hc.register(with_tools, Passport(name="bob"))
    user = await net.hc.register(None, Passport(name="user"), attach_plugin=False)
    session = await user.open("consulting", "bob")
    await session.ask("x")
    assert given == [list(NAMES)]


# say


class Speaker:
    """An agent that says things and then returns a final text."""

    def __init__(self, name: str, *said: Any, final: str | None = None, **arguments: Any) -> None:
        self.name = name
        self.said = said
        self.final = final
        self.arguments = arguments
        self.results: list[Any] = []

    async def ask(self, text: str, tools: Toolbox) -> str | None:
        for content in self.said:
            self.results.append(await tools.get("say")(content=content, **self.arguments))
        return self.final


@pytest.fixture
async def ann(net: Any) -> Any:
    return await net.hc.register(quiet, Passport(name="ann"))


async def texts(session: Any) -> list[str]:
    await wait_all_tasks_blocked()
    return [e.text for e in await session.history() if e.event_type == EV_TEXT]


@pytest.mark.parametrize("final", [None, "I think so.", "Message posted."])
@pytest.mark.parametrize("kind", ["consulting", "discussion"])
async def test_say_is_the_turns_reply_where_turns_are_kept(
    autojump_clock: MockClock, net: Any, ann: Any, kind: str, final: str | None
) -> None:
    bob = Speaker("bob", "I think so.", final=final)
    await net.hc.register(bob)
    session = await ann.open(kind, ["bob"], knobs={"max_turns": 2} if kind == "discussion" else {})
    await session.send("is it so?")
    await trio.sleep(1)
    assert await texts(session) == ["is it so?", "I think so."]
    assert bob.results == [{"envelope_id": None, "posted": False, "note": "it is sent when your turn ends"}]
    if kind == "consulting":
        assert (await session.info()).close_reason == "consulting_complete"


async def test_several_says_are_one_reply_where_turns_are_kept(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    await net.hc.register(Speaker("bob", "First.", "Second.", "First."))
    session = await ann.open("consulting", "bob")
    assert (await session.ask("?")).text == "First.\n\nSecond."

    async def two_minds(text: str, tools: Toolbox) -> str:
        await tools.get("say")(content="for ann", audience=["ann"])
        with pytest.raises(TurnError, match="addressed it to others"):
            await tools.get("say")(content="for all")
        return ""

    await net.hc.register(two_minds, Passport(name="carl"))
    session = await ann.open("consulting", "carl")
    reply = await session.ask("?")
    assert (reply.text, reply.audience) == ("for ann", (ann.agent_id,))


@pytest.mark.parametrize(("final", "last"), [(None, []), ("working on it", []), ("done", ["done"])])
async def test_where_anybody_speaks_say_posts_at_once(
    autojump_clock: MockClock, net: Any, ann: Any, final: str | None, last: list[str]
) -> None:
    bob = Speaker("bob", "working on it", final=final)
    await net.hc.register(bob)
    session = await ann.open("conversation", "bob")
    asked = await session.send("please")
    await trio.sleep(1)
    assert await texts(session) == ["please", "working on it", *last]
    assert bob.results[0]["posted"]
    assert (await session.history())[-1].causation_id == asked.envelope_id


async def test_a_turn_that_said_something_and_failed_is_not_run_again(
    autojump_clock: MockClock, net: Any, ann: Any
) -> None:
    calls: list[str] = []

    async def fails(text: str, tools: Toolbox) -> str:
        calls.append(text)
        await tools.get("say")(content="half of it")
        raise ValueError("and then this")

    await net.hc.register(fails, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await session.send("please")
    await trio.sleep(3600)
    assert await texts(session) == ["please", "half of it"]
    assert calls == ["please"]


async def test_say_elsewhere(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    bob = await net.hc.register(quiet, Passport(name="bob"))
    say = network_tools(ann).get("say")
    with pytest.raises(InvalidInput, match="pass session_id"):
        await say(content="hello?")
    session = await ann.open("conversation", "bob")
    result = await say(content="hello", session_id=session.session_id, audience=["bob"])
    last = (await session.history())[-1]
    assert (last.envelope_id, last.audience) == (result["envelope_id"], (bob.agent_id,))
    carl = await net.hc.register(quiet, Passport(name="carl"))
    with pytest.raises(NotAMemberError, match="carl is not a participant"):
        await network_tools(carl).get("say")(content="me too", session_id=session.session_id)


async def test_a_private_question_gets_a_private_answer(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    async def answer(text: str) -> str:
        return "between us"

    bob = await net.hc.register(answer, Passport(name="bob"))
    carl = await net.hc.register(quiet, Passport(name="carl"))
    await net.hc.register(quiet, Passport(name="dora"))
    session = await ann.open("discussion", ["bob", "carl", "dora"])
    await session.send("psst", audience=["bob", "carl"])
    await trio.sleep(1)
    reply = next(e for e in await session.history() if e.sender_id == bob.agent_id and e.event_type == EV_TEXT)
    assert set(reply.audience or ()) == {ann.agent_id, carl.agent_id}


async def test_a_tool_called_from_a_task_without_the_turns_context(
    autojump_clock: MockClock, net: Any, ann: Any
) -> None:
    """A tool layer may run tools in a task of its own; the tool knows its turn all the same."""

    async def agent(text: str, tools: Toolbox) -> None:
        send.send_nowait(tools.get("say"))
        await done.wait()

    async def layer() -> None:
        tool = await receive.receive()
        assert current_turn() is None
        await tool(content="from afar")
        done.set()

    send, receive = trio.open_memory_channel[Tool](1)
    done = trio.Event()
    await net.hc.register(agent, Passport(name="bob"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(layer)
        session = await ann.open("conversation", "bob")
        await session.send("x")
    assert await texts(session) == ["x", "from afar"]
    send.close()
    receive.close()


# peers


async def test_peers(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    skill = "---\nname: bob\n---\nKnows tax law."
    bob = await net.hc.register(quiet, Passport(name="bob"), Resume(["law"], summary="A lawyer."), skill_md=skill)
    for name in ("carl", "dora", "eve"):
        await net.hc.register(quiet, Passport(name=name), Resume(["law"]))
    eve = net.hc.clients[await net.hc.find_agent_id("eve")]
    async with eve.task("a case", capability="law"):
        pass
    peers = network_tools(ann).get("peers")
    assert [peer["name"] for peer in await peers()] == ["bob", "carl", "dora", "eve"]
    assert [peer["name"] for peer in await peers(limit=2)] == ["bob", "carl"]
    assert [peer["name"] for peer in await peers(query="TAX knows")] == ["bob"]
    best = await peers(capability="law", sort_by="track_record", limit=1)
    assert best[0]["name"] == "eve"
    assert best[0]["track_record"]["law"]["completed"] == 1
    assert await peers(kind="human") == []
    described = await peers(action="describe", name="bob")
    assert described["agent_id"] == bob.agent_id
    assert described["skill"] == skill
    assert "# eve" in (await peers(action="describe", name="eve"))["skill"]
    json.dumps([best, described])
    with pytest.raises(NotFoundError):
        await peers(action="describe", name="zoe")
    with pytest.raises(InvalidInput, match="needs a name"):
        await peers(action="describe")


# sessions


async def test_sessions(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    await net.hc.register(quiet, Passport(name="bob"))
    carl = await net.hc.register(quiet, Passport(name="carl"))
    sessions = network_tools(ann).get("sessions")
    opened = await sessions(action="open", participants=["bob"], message="hello", intent="a chat")
    assert opened["participants"] == ["ann", "bob"]
    assert [(s["session_id"], s["intent"]) for s in await sessions()] == [(opened["session_id"], "a chat")]
    info = await sessions(action="info", session_id=opened["session_id"])
    assert (info["state"], info["whose_turn"]) == ("active", None)
    others = network_tools(carl).get("sessions")
    assert await others() == []
    for action in ("info", "close"):
        with pytest.raises(NotAMemberError):
            await others(action=action, session_id=opened["session_id"])
    closed = await sessions(action="close", session_id=opened["session_id"], reason="that is all")
    assert closed["close_reason"] == "that is all"
    assert await sessions(state="open") == []
    json.dumps(closed)


async def test_an_opening_whose_first_word_is_refused_is_taken_back(
    autojump_clock: MockClock, net: Any, ann: Any
) -> None:
    heard: list[Any] = []
    await net.hc.register(None, Passport(name="bob"), handler=heard.append)  # takes no turn, so it stays bob's
    graph = TransitionGraph.round_robin(["bob", "ann"]).to_dict()
    session = await ann.open("workflow", ["bob"], knobs={"graph": graph})
    assert (await network_tools(ann).get("sessions")(action="info", session_id=session.session_id))["whose_turn"] == [
        "bob"
    ]
    with pytest.raises(InvalidInput):
        await network_tools(ann).get("sessions")(action="open", participants=["bob"], message="\ud800")
    assert [s.close_reason for s in await net.hub.list_sessions(state="closed")] == ["first_message_refused"]


# tasks


async def test_tasks(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    started = trio.Event()

    async def works(text: str, tools: Toolbox) -> str:
        turn = current_turn()
        assert turn is not None
        async with turn.client.task("count", capability="counting"):
            await tools.get("tasks")(action="progress", progress={"done": 3})
            started.set()
            await trio.sleep(100)
            await tools.get("tasks")(action="complete", result={"sum": 6})
        return "counted"

    await net.hc.register(works, Passport(name="bob"))
    carl = await net.hc.register(quiet, Passport(name="carl"))
    session = await ann.open("conversation", "bob")
    await session.send("count!")
    await started.wait()
    tasks = network_tools(ann).get("tasks")
    (task,) = await tasks()
    assert (task["title"], task["owner"], task["state"], task["progress"]) == ("count", "bob", "running", {"done": 3})
    others = network_tools(carl).get("tasks")
    assert await others() == []
    for action in ("status", "wait", "cancel"):
        with pytest.raises((NotFoundError, AccessDeniedError)):
            await others(action=action, task_id=task["task_id"])
    assert (await tasks(action="wait", task_id=task["task_id"]))["result"] == {"sum": 6}
    assert await tasks(state="running") == []
    assert (await tasks(action="status", task_id=task["task_id"]))["state"] == "completed"
    for action, problem in (("status", "needs a task_id"), ("progress", "nothing to progress")):
        with pytest.raises(InvalidInput, match=problem):
            await tasks(action=action)


async def test_a_task_is_cancelled_through_the_tool(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    ended: list[str] = []

    async def works(text: str) -> str:
        turn = current_turn()
        assert turn is not None
        async with turn.client.task("for ever") as task:
            await trio.sleep_forever()
        ended.append(str(task.state))
        return "stopped"

    await net.hc.register(works, Passport(name="bob"))
    session = await ann.open("conversation", "bob")
    await session.send("go")
    await trio.sleep(1)
    tasks = network_tools(ann).get("tasks")
    (task,) = await tasks()
    await tasks(action="cancel", task_id=task["task_id"], reason="enough")
    assert (await tasks(action="wait", task_id=task["task_id"]))["state"] == "cancelled"
    assert (await session.wait(lambda e: e.event_type == EV_TEXT)).text == "stopped"
    assert ended == ["cancelled"]


# context


async def test_context_finds_what_was_said(autojump_clock: MockClock, net: Any) -> None:
    async def hum(text: str) -> str:
        return "hm"

    ann = await net.hc.register(None, Passport(name="ann"), handler=quiet)
    bob = await net.hc.register(hum, Passport(name="bob"))
    carl = await net.hc.register(hum, Passport(name="carl"))
    dora = await net.hc.register(quiet, Passport(name="dora"))
    session = await ann.open("discussion", ["bob", "carl"])
    for text in ("the blue house", "the red house", "a blue car"):
        await session.send(text)
        await trio.sleep(1)
    await session.send("a secret blue", audience=["bob"])
    await trio.sleep(1)
    of_bob, of_carl = (network_tools(agent).get("context") for agent in (bob, carl))
    found = await of_bob(action="search", query="BLUE", session_id=session.session_id)
    assert [entry["text"] for entry in found] == ["a secret blue", "a blue car", "the blue house"]
    assert found[0]["speaker"] == "ann"
    found = await of_carl(action="search", query="blue house", session_id=session.session_id)
    assert [entry["text"] for entry in found] == ["the blue house"]
    quoted = await of_carl(action="quote", speaker="ann", limit=2, session_id=session.session_id)
    assert [entry["text"] for entry in quoted] == ["a blue car", "the red house"]
    with pytest.raises(NotAMemberError):
        await network_tools(dora).get("context")(action="quote", session_id=session.session_id)
    with pytest.raises(InvalidInput, match="needs a query"):
        await of_bob(action="search", session_id=session.session_id)


async def test_context_reads_a_long_log_backwards(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    await net.hc.register(None, Passport(name="bob"), handler=quiet)
    session = await ann.open("conversation", "bob")
    for number in range(600):
        await session.send(f"word {number}")
    context = network_tools(ann).get("context")
    found = await context(action="search", query="word", limit=300, session_id=session.session_id)
    assert [entry["text"] for entry in found] == [f"word {number}" for number in reversed(range(300, 600))]
    assert len(await context(action="search", query="word 599", limit=5, session_id=session.session_id)) == 1


async def test_context_reads_packets_and_variables(autojump_clock: MockClock, net: Any, ann: Any) -> None:
    seen: list[Any] = []

    async def speaker(text: str, tools: Toolbox) -> Any:
        context = tools.get("context")
        await context(action="set", key="color", value={"rgb": [1, 2]})
        await context(action="delete", key="old")
        seen.append(await context(action="read"))
        seen.append(await context(action="read", key="color"))
        return Handoff("ann", "your turn")

    bob = await net.hc.register(speaker, Passport(name="bob"))
    graph = TransitionGraph("ann", (), max_turns=2).to_dict()
    graph["default_target"] = {"name": "round_robin", "args": {"order": []}}
    session = await ann.open("workflow", ["bob"], knobs={"graph": graph, "context_vars": {"old": 1, "kept": 2}})
    await session.send("start")
    await trio.sleep(1)
    assert seen == [{"kept": 2, "color": {"rgb": [1, 2]}}, {"rgb": [1, 2]}]
    found = await network_tools(bob).get("context")(action="search", query="turn", session_id=session.session_id)
    assert [entry["text"] for entry in found] == ["[Handed off] your turn"]
    talk = await ann.open("conversation", "bob")
    with pytest.raises(InvalidInput, match="has no variables"):
        await network_tools(ann).get("context")(action="set", key="a", value=1, session_id=talk.session_id)


class Place(msgspec.Struct):
    """A record as a parameter."""

    name: str


async def visit(places: list[Place], rest: dict[str, int], anything: Any = None) -> str:
    """Visit places."""
    return ", ".join(place.name for place in places)


async def test_records_as_parameters() -> None:
    tool = Tool(visit)
    assert tool.parameters["$defs"]["Place"]["properties"] == {"name": {"type": "string"}}
    assert tool.parameters["properties"]["places"]["items"] == {"$ref": "#/$defs/Place"}
    assert await tool(places=[{"name": "here"}], rest={}) == "here"
