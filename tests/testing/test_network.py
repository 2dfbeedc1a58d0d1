"""`open_test_hub`: what a failing test shows, and what a hanging one."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agorio import EV_TEXT, MemoryKnowledgeStore, ProtocolError, Resume, Rule
from agorio.testing import EchoAgent, MockClock, ScriptedAgent, ScriptExhausted, open_test_hub


async def test_a_conversation() -> None:
    async with open_test_hub() as net:
        await net.add(ScriptedAgent("bob", "hello", "bye"), resume=Resume(["greeting"]), rule=Rule())
        ann = await net.person("ann")
        session = await ann.open("consulting", "bob")
        reply = await session.ask("hi")
        assert (reply.text, await net.closed(session.session_id)) == ("hello", "consulting_complete")
        await net.assert_transcript(session.session_id, "ann: hi", "bob: hello")
        assert len(await net.check_invariants(is_settled=True)) > 10


async def test_plain_functions_take_part_under_their_own_or_another_name() -> None:
    async def shout(text: str) -> str:
        return text.upper()

    async with open_test_hub() as net:
        first, second = await net.add(shout), await net.add(shout, name="other")
        assert (first.name, second.name) == ("shout", "other")


async def test_people_accept_invitations_and_see_what_is_said() -> None:
    async with open_test_hub() as net:
        ann, bob = await net.person("ann"), await net.person("bob")
        session = await ann.open("conversation", "bob")
        await session.send("hello")
        assert (await bob.wait_for_session_event(session.session_id)).text == "hello"
        await net.person("ghost", answers=False)
        with pytest.raises(ProtocolError, match="ghost did not answer"):
            await ann.open("conversation", "ghost")


async def test_what_the_block_raises_comes_out_as_it_is_with_what_was_said() -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        async with open_test_hub() as net:
            await net.add(EchoAgent())
            ann = await net.person("ann")
            for number in range(5):
                session = await ann.open("consulting", "echo")
                await session.ask(f"number {number}\nof five")
            _ = 1 / 0
    (note,) = failure.value.__notes__
    assert note.count("\nsession ") == 3
    assert f"session {session.session_id} (consulting, closed, consulting_complete):\n    * session.invite" in note
    assert "    ann: number 4\n      of five\n    echo: number 4\n      of five\n" in note


async def test_a_long_log_is_shown_from_its_end() -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        async with open_test_hub() as net:
            await net.person("bob")
            ann = await net.person("ann")
            session = await ann.open("conversation", "bob")
            for number in range(40):
                await session.send(str(number))
            _ = 1 / 0
    (note,) = failure.value.__notes__
    assert "... (23 lines)\n    ann: 20\n" in note


QUICK: dict[str, Any] = {"ttl_sweep_interval": 0, "expectation_sweep_interval": 0}


async def test_a_block_that_waits_in_vain_is_given_up() -> None:
    with pytest.raises(TimeoutError, match=r"not over after 86400 s on trio's clock") as failure:
        async with open_test_hub(**QUICK) as net:
            await net.person("ann")
            await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(86_400)
    assert isinstance(failure.value.__context__, trio.Cancelled)


async def test_a_block_that_takes_longer_says_so() -> None:
    async with open_test_hub(give_up_after=None, **QUICK):
        await trio.sleep(200_000)
    with pytest.raises(TimeoutError, match="not over after 5 s"):
        async with open_test_hub(give_up_after=5):
            await trio.sleep(6)


async def test_a_cancelled_block_is_cancelled() -> None:
    with trio.move_on_after(3) as scope:
        async with open_test_hub():
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_script_that_ran_out_fails_the_test() -> None:
    with pytest.raises(ScriptExhausted, match="'bob' was asked 2 times and has 1 line to say"):
        async with open_test_hub() as net:
            await net.add(ScriptedAgent("bob", "hello"))
            ann = await net.person("ann")
            session = await ann.open("conversation", "bob")
            await session.send("hi")
            await session.send("and?")
            await net.settle()


async def test_a_failure_shows_which_script_ran_out() -> None:
    with pytest.raises(TimeoutError) as failure:
        async with open_test_hub() as net:
            await net.add(ScriptedAgent("bob"))
            ann = await net.person("ann")
            session = await ann.open("conversation", "bob")
            await session.send("hi")
            await ann.wait_for_session_event(session.session_id, lambda e: e.event_type == EV_TEXT and e.text != "hi")
    assert "script: 'bob' was asked" in failure.value.__notes__[0]


class Stuck(MemoryKnowledgeStore):
    async def close(self) -> None:
        await super().close()
        raise OSError("the disk is gone")


async def test_where_the_hub_fails_too_both_are_told() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        async with open_test_hub(Stuck()):
            _ = 1 / 0
    assert failure.group_contains(ZeroDivisionError)
    assert failure.group_contains(OSError, match="the disk is gone")
    with pytest.raises((ExceptionGroup, OSError)) as alone:
        async with open_test_hub(Stuck()):
            await trio.lowlevel.checkpoint()
    assert "the disk is gone" in str(alone.value) or alone.group_contains(OSError)


async def test_an_end_that_does_not_come() -> None:
    async with open_test_hub() as net:
        await net.person("bob")
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob")
        with pytest.raises(TimeoutError, match="is still active after 60 s"):
            await net.closed(session.session_id)


async def test_a_clock_that_is_moved_by_hand() -> None:
    clock = MockClock("2026-03-01T12:00:00Z")
    async with open_test_hub(clock=clock) as net:
        await net.person("bob")
        ann = await net.person("ann")
        session = await ann.open("conversation", "bob", ttl="10m")
        assert session.metadata.created_at.startswith("2026-03-01T12:00:00")
        clock.advance("9m")
        await net.hub._ttl_tick()
        assert (await net.hub.get_session(session.session_id)).state == "active"
        clock.advance(60)
        await net.hub._ttl_tick()
        assert await net.closed(session.session_id) == "ttl_expired"
        clock.rewind("1h")
        assert clock().startswith("2026-03-01T11:10:00")
        clock.set("2026-03-02T00:00:00Z")
        with pytest.raises(ValueError, match=r"use rewind\(\)"):
            clock.set(0)
