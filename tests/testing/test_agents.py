"""Agents for tests: what they say, what they remember, and what happens when they run out of words."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agorio import EV_PACKET, Handoff, TransitionGraph
from agorio.testing import EchoAgent, ScriptedAgent, ScriptExhausted, open_test_hub


@pytest.mark.parametrize(
    "agent",
    [
        ScriptedAgent("bob", "one", "two"),
        ScriptedAgent("one", "two", name="bob"),
        ScriptedAgent("bob", ["one", "two"]),
        ScriptedAgent(["one"], ["two"], name="bob"),
        ScriptedAgent(name="bob", *["one", "two"]),  # noqa: B026
    ],
)
async def test_lines_come_one_by_one_or_as_a_list(agent: ScriptedAgent) -> None:
    assert (agent.name, agent.left) == ("bob", ["one", "two"])
    assert [await agent.ask("a"), await agent.ask("b")] == ["one", "two"]
    assert (agent.questions, agent.said, agent.left) == (["a", "b"], 2, [])
    agent.assert_finished()


async def test_it_remembers_what_it_was_asked_and_when() -> None:
    agent = ScriptedAgent("bob", "one", "two", delay=3.0)
    started = trio.current_time()
    await agent.ask("earlier", "hello")
    await agent.ask("again")
    assert [call.messages for call in agent.heard] == [("earlier", "hello"), ("again",)]
    assert [call.at - started for call in agent.heard] == [0.0, 3.0]
    assert [call.text for call in agent.heard] == ["hello", "again"]


async def test_a_line_may_be_an_error_or_a_function() -> None:
    async def think(question: str) -> Any:
        await trio.sleep(1)
        return question[::-1]

    def refuse(question: str) -> Any:
        return LookupError(question)

    agent = ScriptedAgent("bob", ValueError("no"), OSError, str.upper, think, refuse)
    for kind in (ValueError, OSError):
        with pytest.raises(kind):
            await agent.ask("x")
    assert [await agent.ask("ab"), await agent.ask("ab")] == ["AB", "ba"]
    with pytest.raises(LookupError, match="ab"):
        await agent.ask("ab")


async def test_an_exhausted_script_says_so() -> None:
    agent = ScriptedAgent("bob", "one")
    await agent.ask("a")
    with pytest.raises(
        ScriptExhausted, match=r"'bob' was asked 2 times and has 1 line to say.*no answer to 'what now'"
    ):
        await agent.ask("what now")
    with pytest.raises(ScriptExhausted):
        agent.assert_finished()


async def test_a_line_that_was_not_said_is_noticed() -> None:
    agent = ScriptedAgent("bob", "one", "two" * 100)
    await agent.ask("a")
    with pytest.raises(AssertionError, match=r"'bob' was asked once and has not said 'twotwo.*\.\.\. \(1 of 2 lines"):
        agent.assert_finished()


async def test_what_comes_after_the_last_line() -> None:
    silent = ScriptedAgent("bob", "one", then="silence")
    again = ScriptedAgent("bob", "one", then="repeat")
    assert [await silent.ask("a") for _ in range(3)] == ["one", "", ""]
    assert [await again.ask("a") for _ in range(3)] == ["one", "one", "one"]
    assert await ScriptedAgent("bob", then="repeat").ask("a") == ""


def test_a_script_without_a_name_or_with_a_wrong_end_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a name"):
        ScriptedAgent(ValueError())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="needs a name"):
        ScriptedAgent()  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'fail', 'silence' or 'repeat'"):
        ScriptedAgent("bob", then="shout")  # type: ignore[call-overload]


async def test_an_echo() -> None:
    echo = EchoAgent()
    assert (await echo.ask("hello"), echo.heard, echo.name) == ("hello", ["hello"], "echo")


async def test_scripts_play_on_a_hub_with_replies_of_every_kind() -> None:
    async with open_test_hub() as net:
        await net.add(ScriptedAgent("bob", Handoff("cid", "yours")))
        await net.add(ScriptedAgent("cid", "Thanks."))
        ann = await net.person("ann")
        graph = TransitionGraph.sequence(["ann", "bob", "cid"]).to_dict()
        session = await ann.open("workflow", ["bob", "cid"], knobs={"graph": graph})
        await session.send("go")
        await net.idle()
        assert EV_PACKET in [envelope.event_type for envelope in await net.log(session.session_id)]
        assert (await net.transcript(session.session_id))[-1] == "cid: Thanks."
