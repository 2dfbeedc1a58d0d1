"""Waiting without sleeping."""

from __future__ import annotations

import pytest
import trio

from agorio import DiskKnowledgeStore, Passport, ProtocolError
from agorio.testing import EchoAgent, FaultyStore, ScriptedAgent, open_test_hub, wait_all_idle, wait_until


async def test_until_something_is_true() -> None:
    done = []

    async def work() -> None:
        await trio.sleep(5)
        done.append("x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        assert await wait_until(lambda: done) == ["x"]
        assert trio.current_time() == pytest.approx(5.0, abs=0.02)


async def test_an_async_condition() -> None:
    async def late() -> float:
        await trio.lowlevel.checkpoint()
        return trio.current_time() if trio.current_time() > 3 else 0.0

    assert await wait_until(late) > 3


async def test_what_does_not_come_true_is_shown() -> None:
    found: list[int] = []

    def some_are_found() -> bool:
        return bool(found)

    with pytest.raises(TimeoutError, match=r"lambda: len\(found\) == 3 did not come true within 60 s; it was .*False"):
        await wait_until(lambda: len(found) == 3)
    with pytest.raises(TimeoutError, match=r"some_are_found\(\) did not come true within 5 s"):
        await wait_until(some_are_found, timeout=5)
    with pytest.raises(TimeoutError, match=r"the end of all days did not come true"):
        await wait_until(some_are_found, what="the end of all days")
    assert trio.current_time() == pytest.approx(125.0, abs=0.1)


async def test_a_condition_that_is_true_already_costs_no_time() -> None:
    assert await wait_until(lambda: 7) == 7
    assert trio.current_time() == 0


async def test_idle_waits_for_slow_turns_and_retries() -> None:
    async with open_test_hub() as net:
        slow = ScriptedAgent("bob", ValueError("not yet"), "at last", delay=30.0)
        await net.add(slow)
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob")
        await session.send("hello")
        await net.settle()
        assert (slow.said, trio.current_time()) == (1, 0)
        await wait_all_idle(net.hub)
        assert slow.said == 2
        assert trio.current_time() > 60
        await net.assert_transcript(session.session_id, "ann: hello", "bob: at last")


async def test_idle_waits_for_a_store_that_takes_its_time() -> None:
    async with open_test_hub(FaultyStore(slow=2.0)) as net:
        await net.add(EchoAgent())
        ann = await net.person("ann")
        session = await ann.open("consulting", "echo")
        await session.send("hello")
        await net.idle()
        assert await net.closed(session.session_id) == "consulting_complete"


async def test_idle_over_a_disk(tmp_path: object) -> None:
    async with open_test_hub(DiskKnowledgeStore(f"{tmp_path}/hub.db")) as net:
        await net.add(EchoAgent())
        ann = await net.person("ann")
        session = await ann.open("consulting", "echo")
        await session.send("hello")
        await net.assert_transcript(session.session_id, "ann: hello", "echo: hello")


async def test_idle_says_who_is_not() -> None:
    async with open_test_hub() as net:
        await net.add(ScriptedAgent("bob", "at last", delay=900.0))
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob")
        await session.send("hello")
        with pytest.raises(TimeoutError, match=r"still busy after 600 s:\n  bob has 1 deliveries to handle"):
            await net.idle()


async def test_idle_does_not_wait_for_people_and_those_who_never_answer() -> None:
    async with open_test_hub() as net:
        ann = await net.person("ann")
        hugh = await net.client.register_human(Passport("hugh"))
        ghost = await net.person("ghost", answers=False)
        session = await ann.open("conversation", "hugh")
        await session.send("hello")
        with pytest.raises(ProtocolError, match="ghost did not answer"):
            await ann.open("conversation", "ghost", invite_ack_timeout=5)
        await net.idle()
        assert (hugh.unread > 0, ghost.statistics().total_handled, trio.current_time()) == (True, 0, 5)
