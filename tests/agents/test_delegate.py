"""Asking another agent from inside a turn: it works on one connection, and circles fail at once and by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.agents.delegation import delegate
from agorio.actors.agents.tools import Toolbox, network_tools
from agorio.actors.agents.turn_context import current_turn
from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.operations import AwaitReply
from agorio.actors.sessions.rule import LimitsBlock, Rule
from agorio.mailbox.errors import (
    AccessDeniedError,
    AskCycle,
    InvalidInput,
    NotAMemberError,
    NotFoundError,
    ProtocolError,
    SessionClosedError,
)
from agorio.mailbox.events import EV_TEXT


async def quiet(text: str) -> None:
    return None


async def upper(text: str) -> str:
    return text.upper()


def passes_on(target: str, timeout: float = 300.0) -> Callable[..., Any]:
    """An agent that asks `target` whatever it is asked, and reports what came of it."""

    async def ask(text: str, tools: Toolbox) -> str:
        try:
            return f"{target} says {await tools.get('delegate')(target=target, prompt=text, timeout=timeout)}"
        except (AskCycle, NotFoundError, InvalidInput, AccessDeniedError, TimeoutError, ProtocolError) as exc:
            return f"{type(exc).__name__}: {exc}"

    return ask


async def add(net: Any, **agents: Any) -> Any:
    for name, agent in agents.items():
        await net.hc.register(agent, Passport(name=name))
    return await net.hc.register(None, Passport(name="user"), attach_plugin=False)


async def consult(user: Any, target: str, text: str = "hm") -> str:
    session = await user.open("consulting", target)
    reply: str = (await session.ask(text, timeout=1000)).text
    return reply


async def test_it_works_from_inside_a_turn_on_one_connection(autojump_clock: MockClock, net: Any) -> None:
    user = await add(net, bob=passes_on("carl"), carl=upper)
    start = trio.current_time()
    assert await consult(user, "bob") == "carl says HM"
    assert trio.current_time() - start < 1
    assert not await net.hub.list_sessions(state="open")


async def test_parallel_delegates(autojump_clock: MockClock, net: Any) -> None:
    async def both(text: str, tools: Toolbox) -> str:
        replies: dict[str, str] = {}

        async def ask(name: str) -> None:
            replies[name] = await tools.get("delegate")(target=name, prompt=text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "carl")
            nursery.start_soon(ask, "dora")
        return f"{replies['carl']} {replies['dora']}"

    async def slow(text: str) -> str:
        await trio.sleep(10)
        return text[::-1]

    user = await add(net, bob=both, carl=slow, dora=slow)
    start = trio.current_time()
    assert await consult(user, "bob") == "mh mh"
    assert trio.current_time() - start < 11


async def test_a_call_chain_that_comes_back_is_a_cycle(autojump_clock: MockClock, net: Any) -> None:
    user = await add(net, ann=passes_on("bob"), bob=passes_on("carl"), carl=passes_on("ann"))
    start = trio.current_time()
    reply = await consult(user, "ann")
    assert "AskCycle" in reply
    assert "carl -> ann -> bob -> carl" in reply
    assert trio.current_time() - start < 1


async def test_two_that_ask_each_other_are_a_cycle(autojump_clock: MockClock, net: Any) -> None:
    """Nobody called anybody back: two independent turns each begin to wait for the other."""
    both_busy = trio.Event()
    busy: list[str] = []

    def crossing(target: str) -> Callable[..., Any]:
        ask = passes_on(target)

        async def agent(text: str, tools: Toolbox) -> str:
            if text != "start":
                return "an answer"
            busy.append(target)
            if len(busy) == 2:
                both_busy.set()
            await both_busy.wait()
            reply: str = await ask("please", tools)
            return reply

        return agent

    user = await add(net, ann=crossing("bob"), bob=crossing("ann"))
    replies: list[str] = []

    async def start(name: str) -> None:
        replies.append(await consult(user, name, "start"))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start, "ann")
        nursery.start_soon(start, "bob")
    assert trio.current_time() - began < 1
    assert sorted("AskCycle" in reply for reply in replies) == [False, True]
    assert any("an answer" in reply for reply in replies)


async def test_an_answered_question_is_no_wait(autojump_clock: MockClock, net: Any) -> None:
    """Whoever has replied may ask back at once, in its next turn."""
    user = await add(net, ann=passes_on("bob"), bob=upper)
    assert await consult(user, "ann") == "bob says HM"
    await net.hc.unregister(await net.hc.find_agent_id("bob"))
    await net.hc.register(passes_on("ann"), Passport(name="bob"))
    assert "AskCycle" in await consult(user, "ann")  # the real one is still found
    assert "AskCycle" in await consult(user, "bob")
    assert len(net.hub._services.waits) == 0


async def test_an_ask_in_a_conversation_counts_too(autojump_clock: MockClock, net: Any) -> None:
    async def ask_back(text: str) -> str:
        turn = current_turn()
        assert turn is not None
        session = await turn.client.open("conversation", turn.envelope.sender_id)
        try:
            return (await session.ask("why?", timeout=1000)).text
        except AskCycle as exc:
            return f"cycle {exc.details['cycle']}"

    user = await add(net, ann=passes_on("bob"), bob=ask_back)
    start = trio.current_time()
    assert await consult(user, "ann") == "bob says cycle ['bob', 'ann', 'bob']"
    assert trio.current_time() - start < 1


async def test_waits_end_with_the_turn_the_session_and_the_connection(autojump_clock: MockClock, net: Any) -> None:
    waits = net.hub._services.waits
    far = net.client()

    async def never(text: str) -> str:
        await trio.sleep_forever()
        raise AssertionError

    await far.register(passes_on("dora", timeout=30), Passport(name="bob"))
    user = await add(net, dora=never)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consult, user, "bob")
        await trio.sleep(1)
        assert len(waits) == 1
        await trio.sleep(30)  # the delegate has timed out
        await wait_all_tasks_blocked()
        assert len(waits) == 0
        nursery.cancel_scope.cancel()
    session = await user.open("consulting", "bob")
    await session.send("again")
    await trio.sleep(1)
    assert len(waits) == 1
    await session.close()  # cancels bob's turn, and the wait with it
    await trio.sleep(1)
    assert len(waits) == 0
    session = await user.open("consulting", "bob")
    await session.send("again")
    await trio.sleep(1)
    assert len(waits) == 1
    far.connection.end(SessionClosedError("the cable"))
    await far.close()
    await wait_all_tasks_blocked()
    assert len(waits) == 0


async def test_an_agent_of_several_turns_may_be_asked_back(autojump_clock: MockClock, net: Any) -> None:
    async def clerk(text: str, tools: Toolbox) -> str:
        return "from the archive" if text == "back" else f"got {await tools.get('delegate')('bob', 'x')}"

    async def bob(text: str, tools: Toolbox) -> str:
        return str(await tools.get("delegate")("clerk", "back"))

    await net.hc.register(clerk, concurrency=2)
    user = await add(net, bob=bob)
    assert await consult(user, "clerk") == "got from the archive"


async def test_only_members_wait(autojump_clock: MockClock, net: Any) -> None:
    user = await add(net, ann=quiet, bob=quiet)
    ann = net.hc.clients[await net.hc.find_agent_id("ann")]
    session = await user.open("conversation", "bob")
    with pytest.raises(NotAMemberError):
        await ann.connection.request(AwaitReply(ann.agent_id, session.session_id))


async def test_targets(autojump_clock: MockClock, net: Any) -> None:
    user = await add(net, bob=passes_on("zoe"), carl=passes_on("carl"), dora=passes_on("functions.eve"), eve=upper)
    reply = await consult(user, "bob")
    assert reply.startswith("NotFoundError")
    assert "carl, dora, eve, user" in reply
    assert "yourself" in await consult(user, "carl")
    assert await consult(user, "dora") == "functions.eve says HM"
    assert len(await net.hub.list_sessions()) == 4  # no session was opened for what could not be asked


async def test_a_timeout_closes_the_session(autojump_clock: MockClock, net: Any) -> None:
    async def slow(text: str) -> str:
        await trio.sleep(100)
        return "late"

    user = await add(net, bob=passes_on("carl", timeout=5), carl=slow)
    assert "TimeoutError" in await consult(user, "bob")
    await wait_all_tasks_blocked()
    reasons = {session.close_reason for session in await net.hub.list_sessions()}
    assert reasons == {"consulting_complete", "delegate_timeout"}


async def test_silence_is_told_at_once(autojump_clock: MockClock, net: Any) -> None:
    user = await add(net, bob=passes_on("carl"), carl=quiet)
    start = trio.current_time()
    assert "carl gave no reply (silent)" in await consult(user, "bob")
    assert trio.current_time() - start < 1
    session = await user.open("consulting", "carl")
    with pytest.raises(ProtocolError, match="no reply"):
        await session.ask("and?")


async def test_a_cancelled_delegate_closes_its_session(autojump_clock: MockClock, net: Any) -> None:
    async def never(text: str) -> str:
        await trio.sleep_forever()
        raise AssertionError

    user = await add(net, bob=never)
    with trio.move_on_after(5):
        await delegate(user, "bob", "hm")
    await wait_all_tasks_blocked()
    assert [session.close_reason for session in await net.hub.list_sessions()] == ["delegate_failed"]


async def test_the_depth_is_the_hubs_and_capped(autojump_clock: MockClock, net: Any) -> None:
    rule = Rule(limits=LimitsBlock(delegation_depth=2))
    names = "abcde"
    for name, target in itertools.pairwise(names):
        await net.hc.register(passes_on(target), Passport(name=name), rule=rule)
    user = await add(net, e=upper)
    reply = await consult(user, "a")
    assert "AccessDeniedError" in reply
    assert "depth 3" in reply
    assert sorted(session.depth for session in await net.hub.list_sessions()) == [0, 1, 2]


async def test_a_capability_enters_the_track_record(autojump_clock: MockClock, net: Any) -> None:
    async def lead(text: str, tools: Toolbox) -> str:
        tool = tools.get("delegate")
        await tool(target="carl", prompt=text, capability="shouting")
        return str(await tool(target="carl", prompt=text, capability="whispering"))

    async def fails(text: str) -> str:
        raise ValueError("no voice")

    user = await add(net, bob=lead)
    carl = await net.hc.register(upper, Passport(name="carl"), Resume(["shouting"]))
    assert await consult(user, "bob") == "HM"
    observed = (await net.hub.get_resume(carl.agent_id)).observed
    assert {name: (stat.n, stat.completed) for name, stat in observed.items()} == {"shouting": (1, 1)}
    texts = [session for session in await net.hub.list_sessions() if session.labels.get("capability")]
    assert {session.close_reason for session in texts} == {"consulting_complete"}

    dora = await net.hc.register(fails, Passport(name="dora"), Resume(["shouting"]))
    with pytest.raises(ProtocolError, match="failed"):
        await delegate(user, "dora", "hm", capability="shouting", timeout=10_000)
    stat = (await net.hub.get_resume(dora.agent_id)).observed["shouting"]
    assert stat.failed == stat.n > 0


async def test_tools_outside_of_a_turn(autojump_clock: MockClock, net: Any) -> None:
    user = await add(net, bob=upper)
    assert await network_tools(user).get("delegate")(target="bob", prompt="hm") == "HM"
    (session,) = await net.hub.list_sessions()
    texts = [e.text for e in await net.hub.read_wal(session.session_id) if e.event_type == EV_TEXT]
    assert texts == ["hm", "HM"]
