"""A person on the network: pull and push, invitations, and nothing lost when nobody reads."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.sessions.identity import Passport
from agorio.actors.sessions.rule import InboxBlock, Rule
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InboxFull, InvalidInput, LinkClosed, ProtocolError
from agorio.mailbox.events import EV_SESSION_CLOSED, EV_SESSION_INVITE, EV_TEXT, EV_TURN_SKIPPED


async def echo(text: str) -> str:
    return f"you said {text!r}"


async def quiet(text: str) -> None:
    return None


async def test_a_conversation_by_pulling(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe", kind="agent"))
    assert (zoe.passport.kind, zoe.name) == ("human", "zoe")
    assert [peer.name for peer in await net.hc.list_agents(kind="human")] == ["zoe"]
    await net.hc.register(echo, Passport(name="bob"))
    session = await zoe.open("conversation", "bob")
    said = await zoe.say(session, "hello")
    heard = await zoe.next()
    assert (heard.text, heard.causation_id) == ("you said 'hello'", said.envelope_id)
    await zoe.say(session.session_id, "again", answers=heard)
    assert (await zoe.next(timeout=5)).text == "you said 'again'"
    with pytest.raises(TimeoutError, match="zoe"):
        await zoe.next(timeout=5)
    assert (await zoe.close(session)).close_reason == "human_closed"
    assert (await zoe.next()).event_type == EV_SESSION_CLOSED
    assert zoe.unread == 0


async def test_what_does_not_match_stays(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    for text in ("one", "two", "three"):
        await session.send(text)
    assert (await zoe.next(lambda e: e.text == "two")).text == "two"
    assert [(await zoe.next()).text, (await zoe.next()).text] == ["one", "three"]
    with trio.move_on_after(1):
        await zoe.next()
    await session.send("four")
    assert (await zoe.next()).text == "four"


async def test_two_readers_share_the_mail(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    heard: list[str] = []

    async def read() -> None:
        heard.append((await zoe.next()).text)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await session.send("one")
        await session.send("two")
    assert sorted(heard) == ["one", "two"]
    assert zoe.unread == 0


async def test_the_inbox_counts_what_is_unread(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"), rule=Rule(inbox=InboxBlock(max_pending=2)))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    await session.send("one")
    await session.send("two")
    await wait_all_tasks_blocked()
    assert zoe.unread == 2
    with pytest.raises(InboxFull):
        await session.send("three")
    assert (await zoe.next()).text == "one"
    await wait_all_tasks_blocked()
    await session.send("three")
    assert next(info.pending for info in net.hub.agents() if info.name == "zoe") == 2


async def test_what_was_not_read_comes_again(autojump_clock: MockClock, net: Any) -> None:
    far = net.client()
    zoe = await far.register_human(Passport(name="zoe"))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    for text in ("read", "unread"):
        await session.send(text)
    assert (await zoe.next()).text == "read"
    await wait_all_tasks_blocked()
    await far.close()
    with pytest.raises(LinkClosed):
        await zoe.next()
    await session.send("meanwhile")
    again = await net.hc.register_human(Passport(name="zoe"), attach=True)
    assert again.agent_id == zoe.agent_id
    assert [(await again.next()).text for _ in range(2)] == ["unread", "meanwhile"]
    await session.close()
    assert (await again.next()).event_type == EV_SESSION_CLOSED


async def test_disconnecting_wakes_whoever_waits(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    outcome: list[str] = []

    async def wait() -> None:
        with pytest.raises(LinkClosed):
            await zoe.next()
        outcome.append("raised")

    async def iterate() -> None:
        async for _ in zoe.messages():
            raise AssertionError("there is no mail")
        outcome.append("ended")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        await zoe.disconnect()
    assert sorted(outcome) == ["ended", "raised"]
    await net.hc.register_human(Passport(name="zoe"), attach=True)


async def test_invitations_by_hand(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"), auto_ack_invites=False)
    bob = await net.hc.register(quiet, Passport(name="bob"))
    opened: list[Any] = []

    async def invite() -> None:
        opened.append(await bob.open("conversation", "zoe", intent="lunch?"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(invite)
        invitation = await zoe.next()
        assert invitation.event_type == EV_SESSION_INVITE
        assert invitation.event_data["intent"] == "lunch?"
        await wait_all_tasks_blocked()
        assert not opened
        await zoe.accept(invitation)
    assert opened[0].metadata.state == "active"

    async def invite_again() -> None:
        with pytest.raises(ProtocolError, match="invite_rejected"):
            await bob.open("conversation", "zoe")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(invite_again)
        await zoe.decline(await zoe.next(lambda e: e.event_type == EV_SESSION_INVITE), "not today")


async def test_push(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    await session.send("before")
    await wait_all_tasks_blocked()
    heard: list[str] = []
    troubles = [ValueError("coffee")]

    async def first(envelope: Envelope) -> None:
        if envelope.text == "after" and troubles:
            raise troubles.pop()
        heard.append(f"1 {envelope.text}")

    async def second(envelope: Envelope) -> None:
        heard.append(f"2 {envelope.text}")

    stop = zoe.on_message(first)
    stop_second = zoe.on_message(second)
    with pytest.raises(InvalidInput, match="callbacks"):
        await zoe.next()
    await session.send("after")
    await trio.sleep(60)
    assert heard == ["1 before", "2 before", "1 after", "2 after"]  # the one that raised came again
    stop()
    stop_second()
    await session.send("later")
    assert (await zoe.next()).text == "later"
    zoe.on_message(lambda envelope: heard.append(envelope.text))
    await session.send("to a plain function")
    await trio.sleep(1)
    assert heard[-1] == "to a plain function"
    with pytest.raises(InvalidInput, match="cannot be called"):
        zoe.on_message("not a function")


async def test_push_loses_nothing_when_sessions_end_or_callbacks_go(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    bob = await net.hc.register(quiet, Passport(name="bob"))
    heard: list[str] = []
    go_on = trio.Event()

    async def slowly(envelope: Envelope) -> None:
        await go_on.wait()
        heard.append(envelope.text)

    stop = zoe.on_message(slowly)
    session = await bob.open("conversation", "zoe")
    for text in ("one", "two", "three"):
        await session.send(text)
    await session.close()
    await wait_all_tasks_blocked()
    stop()
    go_on.set()
    await wait_all_tasks_blocked()
    assert heard == ["one"]
    assert [(await zoe.next()).text for _ in range(2)] == ["two", "three"]
    assert (await zoe.next()).event_type == EV_SESSION_CLOSED


async def test_waiting_in_a_session_reads_too(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"))
    await net.hc.register(echo, Passport(name="bob"))
    session = await zoe.open("consulting", "bob")
    assert (await session.ask("x")).text == "you said 'x'"
    await wait_all_tasks_blocked()
    assert [envelope.event_type for envelope in (await zoe.next(),)] == [EV_SESSION_CLOSED]
    assert zoe.unread == 0


async def test_a_discussion_with_a_person(autojump_clock: MockClock, net: Any) -> None:
    async def opinion(text: str) -> str:
        return "an opinion"

    zoe = await net.hc.register_human(Passport(name="zoe"))
    await net.hc.register(opinion, Passport(name="bob"))
    await net.hc.register(quiet, Passport(name="carl"))
    session = await zoe.open("discussion", ["bob", "carl"], knobs={"max_rounds": 1})
    await zoe.say(session, "what do you think?")
    heard = [envelope async for envelope in Until(zoe, EV_SESSION_CLOSED)]
    assert [e.event_type for e in heard] == [EV_TEXT, EV_SESSION_CLOSED]
    assert EV_TURN_SKIPPED in [e.event_type for e in await session.history()]
    await zoe.unregister()


class Until:
    """Messages up to the first of a kind."""

    def __init__(self, human: Any, kind: str) -> None:
        self.messages = human.messages()
        self.kind = kind
        self.is_over = False

    def __aiter__(self) -> Until:
        return self

    async def __anext__(self) -> Envelope:
        if self.is_over:
            raise StopAsyncIteration
        envelope: Envelope = await anext(self.messages)
        self.is_over = envelope.event_type == self.kind
        return envelope


KEEPS_TWO = Rule(inbox=InboxBlock(max_pending=2, overflow="drop_oldest"))


async def test_drop_oldest_keeps_the_newest_for_a_person_who_pulls(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"), rule=KEEPS_TWO)
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    for number in range(6):
        await session.send(str(number))
    await wait_all_tasks_blocked()
    assert [dead.envelope.text for dead in net.hub.dead_letters()] == ["0", "1", "2", "3"]
    assert zoe.unread == 2
    assert [(await zoe.next()).text for _ in range(2)] == ["4", "5"]
    await wait_all_tasks_blocked()
    assert net.hub.statistics().current_pending == 0


async def test_drop_oldest_spares_what_a_callback_has_in_hand(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"), rule=KEEPS_TWO)
    bob = await net.hc.register(quiet, Passport(name="bob"))
    session = await bob.open("conversation", "zoe")
    seen: list[str] = []

    async def slowly(envelope: Envelope) -> None:
        seen.append(envelope.text)
        await trio.sleep(10)

    stop = zoe.on_message(slowly)
    for number in range(6):
        await session.send(str(number))
        await wait_all_tasks_blocked()
    await trio.sleep(100)
    assert seen == ["0", "5"], "one in hand, one waits for it"
    assert [dead.envelope.text for dead in net.hub.dead_letters()] == ["1", "2", "3", "4"]
    stop()
    for number in range(3):
        await session.send(f"pulled {number}")
    assert [(await zoe.next()).text for _ in range(2)] == ["pulled 1", "pulled 2"]


async def test_a_person_has_the_words_of_an_agent_client(autojump_clock: MockClock, net: Any) -> None:
    zoe = await net.hc.register_human(Passport(name="zoe"), rule=KEEPS_TWO)
    await net.hc.register(echo, Passport(name="bob"))
    assert zoe.rule.inbox == KEEPS_TWO.inbox
    session = await zoe.open("conversation", "bob")
    await zoe.send(session.session_id, "hello")
    heard = await zoe.wait_for_session_event(session.session_id, timeout=5)
    assert (heard.text, zoe.unread) == ("you said 'hello'", 0)
    seen: list[str] = []
    zoe.on_envelope(lambda envelope: seen.append(envelope.text))
    await zoe.send_envelope(Envelope(session.session_id, "", None, EV_TEXT, {"text": "again"}))
    await trio.sleep(1)
    assert seen == ["you said 'again'"]
    zoe.on_envelope(None)
    await zoe.send(session, "once more")
    assert (await zoe.next(timeout=5)).text == "you said 'once more'"
    assert (await zoe.close_session(session)).close_reason == "human_closed"
