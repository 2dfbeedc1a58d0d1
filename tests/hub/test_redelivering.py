"""Dead letters put back: once, marked, in their place, kept over a crash, and counted in the inbox."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agorio import (
    AUDIT_KIND_REDELIVERED,
    AccessBlock,
    AccessDeniedError,
    ConflictError,
    Envelope,
    InboxBlock,
    InboxFull,
    InvalidInput,
    MemoryKnowledgeStore,
    NotFoundError,
    Redelivered,
    Redelivery,
    Rule,
    current_turn,
)
from tests.hub.network import Network, converse, settle
from tests.hub.stores import copied

ONCE = Redelivery(max_attempts=1)


class Moody:
    """Fails until it is told not to, and remembers what it was asked and at which attempt."""

    name = "bob"

    def __init__(self) -> None:
        self.is_well = False
        self.heard: list[tuple[str, int]] = []

    async def ask(self, text: str) -> str:
        turn = current_turn()
        assert turn is not None
        self.heard.append((text, turn.attempt))
        if not self.is_well:
            raise RuntimeError("not today")
        return f"re: {text}"


async def failed(net: Network, bob: Moody, *texts: str) -> Any:
    ann = await net.agent("ann")
    await net.agent("bob", bob)
    session = await ann.open(type="conversation", target="bob")
    for text in texts:
        await session.send(text)
    await settle()
    bob.is_well = True
    bob.heard.clear()
    return session


async def test_a_letter_is_put_back_once_and_marked(open_network: Any) -> None:
    async with open_network(redelivery=ONCE) as net:
        told: list[Any] = []
        net.hub.subscribe(told.append, Redelivered)
        bob = Moody()
        session = await failed(net, bob, "one", "two")
        await net.audit()
        first, second = net.hub.dead_letters()
        assert 0 < first.letter < second.letter
        found = await net.hub.redeliver(second)
        assert (found.envelope.text, found.letter) == ("two", second.letter)
        await settle()
        assert bob.heard == [("two", 2)]
        assert (await net.texts(session.session_id))[-1] == "re: two"
        for _ in range(2):
            with pytest.raises(ConflictError, match="before"):
                await net.hub.redeliver(second.letter)
        await net.hub.redeliver(first.letter)
        await settle()
        assert bob.heard == [("two", 2), ("one", 2)]
        assert [record.letter for record in await net.audit(AUDIT_KIND_REDELIVERED)] == [second.letter, first.letter]
        assert [event.envelope_id for event in told] == [second.envelope.envelope_id, first.envelope.envelope_id]
        assert net.pending("bob") == 0
        await session.send("three")
        await settle()
        assert bob.heard[-1] == ("three", 1)
        await net.check()


async def test_one_that_fails_again_is_a_letter_of_its_own(open_network: Any) -> None:
    async with open_network(redelivery=ONCE) as net:
        bob = Moody()
        await failed(net, bob, "one")
        bob.is_well = False
        await net.audit()
        (first,) = net.hub.dead_letters()
        await net.hub.redeliver(first)
        await settle()
        await net.audit()
        second = net.hub.dead_letters()[-1]
        assert second.letter > first.letter
        bob.is_well = True
        await net.hub.redeliver(second)
        await settle()
        assert bob.heard[-1] == ("one", 2)


async def test_it_survives_a_crash_until_it_is_handled(open_network: Any) -> None:
    async with open_network(redelivery=ONCE) as net:
        bob = Moody()
        session = await failed(net, bob, "one", "two")
        await net.hub.audit_log.read_all()
        await net.hub.park_agent("bob")
        for letter in net.hub.dead_letters():
            await net.hub.redeliver(letter)
        crashed = copied(net.store)
    async with open_network(crashed) as net:
        assert net.pending("bob") == 2
        await net.agent("bob", bob, attach=True)
        await net.hub.resume_agent("bob")
        await settle()
        assert bob.heard == [("one", 2), ("two", 2)]
        assert (await net.texts(session.session_id))[-2:] == ["re: one", "re: two"]
        await net.hub.audit_log.read_all()
        crashed = copied(net.store)
    async with open_network(crashed) as net:
        assert net.pending("bob") == 0


async def test_also_into_a_session_that_has_ended(open_network: Any) -> None:
    async with open_network(redelivery=ONCE) as net:
        seen: list[str] = []
        ann = await net.agent("ann")
        is_well = False

        async def hear(envelope: Envelope) -> None:
            if envelope.text:
                if not is_well:
                    raise RuntimeError("not today")
                seen.append(envelope.text)

        await net.agent("bob", handler=hear)
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle()
        await session.close()
        await settle()
        assert net.hub.statistics().current_sessions == 0
        is_well = True
        await net.hub.redeliver(net.hub.dead_letters()[0])
        await settle()
        assert (seen, net.pending("bob")) == (["one"], 0)


async def test_what_cannot_be_put_back(open_network: Any) -> None:
    async with open_network(redelivery=ONCE) as net:
        bob = Moody()
        session = await failed(net, bob, "one")
        await net.audit()
        (letter,) = net.hub.dead_letters()
        for wrong, error in [(1, NotFoundError), (0, NotFoundError), (-1, NotFoundError), (10**6, NotFoundError)]:
            with pytest.raises(error):
                await net.hub.redeliver(wrong)
        with pytest.raises(InvalidInput):
            await net.hub.redeliver("1")
        entry = net.hub._open_services().directory.entry("bob")
        await net.hub.set_rule(entry.agent_id, Rule(AccessBlock(inbound_from=["x"])))
        with pytest.raises(AccessDeniedError, match="inbound_from"):
            await net.hub.redeliver(letter)
        await net.hub.set_rule(entry.agent_id, Rule(inbox=InboxBlock(max_pending=1)))
        await net.hub.park_agent("bob")
        await session.send("two")
        with pytest.raises(InboxFull):
            await net.hub.redeliver(letter)
        await net.hub.resume_agent("bob")
        await settle()
        assert bob.heard == [("two", 1)]
        await net.hub.redeliver(letter)
        await settle()
        assert bob.heard == [("two", 1), ("one", 2)]
        await net.hub.unregister(entry.agent_id)
        with pytest.raises(NotFoundError, match="no agent"):
            await net.hub.redeliver(letter)


async def test_among_newer_mail_it_comes_at_its_place(open_network: Any) -> None:
    async with open_network(redelivery=ONCE) as net:
        bob = Moody()
        session = await failed(net, bob, "one")
        await net.audit()
        await net.hub.park_agent("bob")
        await session.send("two")
        await session.send("three")
        await net.hub.redeliver(net.hub.dead_letters()[0])
        await net.hub.resume_agent("bob")
        await settle()
        assert [text for text, _ in bob.heard] == ["one", "two", "three"]
        await net.check()


async def test_asked_twice_at_once_it_comes_once(open_network: Any) -> None:
    store = MemoryKnowledgeStore()
    async with open_network(store, redelivery=ONCE) as net:
        bob = Moody()
        await failed(net, bob, "one")
        await net.audit()
        (letter,) = net.hub.dead_letters()
        refused: list[ConflictError] = []

        async def redeliver() -> None:
            try:
                await net.hub.redeliver(letter)
            except ConflictError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(redeliver)
        await settle()
        assert (bob.heard, len(refused)) == ([("one", 2)], 2)
        await converse(await net.agent("cid"), await net.agent("dan"))
