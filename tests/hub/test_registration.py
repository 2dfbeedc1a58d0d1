"""Who is registered: entering, leaving, coming back, and taking a live connection over."""

from __future__ import annotations

import pytest
import trio

from agorio.actors.sessions.identity import ObservedStat, Passport, Resume, ResumeExample
from agorio.actors.sessions.rule import InboxBlock, LimitsBlock, RateBlock, Rule
from agorio.hub.stores.protocol import Put
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import (
    AccessDeniedError,
    AuthError,
    ConflictError,
    LinkClosed,
    NameTaken,
    NotFoundError,
    SessionClosedError,
)
from tests.hub.conftest import OpenNetwork
from tests.hub.network import Network, accept_next, converse, settle
from tests.hub.refusals import refused


async def echo(text: str) -> str:
    return f"re: {text}"


async def test_what_the_hub_stamps(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        resume = Resume(["search"], observed={"search": ObservedStat(n=99, completed=99)}, version=7)
        alice = await net.hc.register(
            None, Passport("alice", agent_id="mine", created_at="never"), resume, attach_plugin=False
        )
        assert alice.agent_id != "mine"
        assert alice.passport.created_at.endswith("Z")
        assert await net.hub.get_passport(alice.agent_id) == await net.hub.get_passport("alice") == alice.passport
        stored = await net.hub.get_resume("alice")
        assert stored.claimed_capabilities == ("search",)
        assert stored.observed == {}, "a track record is the hub's"
        assert stored.version == 1
        [record] = await net.audit()
        assert (record.kind, record.agent_id, record.name) == ("agent_registered", alice.agent_id, "alice")


async def test_many_race_for_one_name(open_network: OpenNetwork) -> None:
    won, lost = [], []

    async def race(net: Network) -> None:
        try:
            won.append(await net.agent("alice"))
        except NameTaken:
            lost.append(1)

    async with open_network() as net:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(race, net)
        assert (len(won), len(lost)) == (1, 19)
        assert len(await net.audit("agent_registered")) == 1
        assert len(net.hc.clients) == 1


async def test_ids_rise_and_are_unique(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        ids = [(await net.agent(f"a{number}")).agent_id for number in range(20)]
        assert ids == sorted(set(ids))


async def test_unregistered_mail_is_dead_lettered_and_the_name_is_free(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        await session.send("one")
        await session.send("two")
        assert net.pending("bob") == 2
        await bob.unregister()
        await settle()
        assert [(d.envelope.text, d.reason) for d in net.hub.dead_letters(bob.agent_id)] == [
            ("one", "unregistered"),
            ("two", "unregistered"),
        ]
        assert len(await net.audit("dead_letter")) == 2
        assert (await net.hub.get_session(session.session_id)).close_reason == "participant_gone"
        with pytest.raises(NotFoundError):
            await net.hub.get_passport("bob")
        with pytest.raises((AuthError, LinkClosed)):
            await bob.set_skill("x")
        with pytest.raises(SessionClosedError):
            await session.send("three")
        again = await net.agent("bob")
        assert again.agent_id != bob.agent_id
        await net.check()


async def test_nothing_of_an_unregistered_agent_stays_in_memory(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob", echo)
        session = await converse(alice, bob)
        await session.send("one")
        await settle()
        await bob.unregister()
        await alice.unregister()
        await settle()
        statistics = net.hub.statistics()
        assert (statistics.current_sessions, statistics.current_pending, statistics.current_unsettled) == (0, 0, 0)
        assert statistics.current_agents == 0


async def test_a_larger_session_goes_on_without_one_that_has_left(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = [await net.agent(name) for name in ("alice", "bob", "carol")]
        session = await converse(alice, bob, carol, type="discussion")
        await net.hub.unregister(bob.agent_id)
        await settle()
        await session.send("first")
        metadata = await net.hub.get_session(session.session_id)
        assert metadata.state == "active"
        assert metadata.expected_next == (carol.agent_id,), "bob's turn is passed over"
        await net.check()


async def test_an_invitation_to_one_that_leaves(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")

        async def leave() -> None:
            await trio.sleep(1)
            await bob.unregister()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            with pytest.raises(Exception, match="participant_gone"):
                await alice.open(target="bob")
        await net.check()


async def test_only_the_holder_unregisters(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        await net.agent("alice")
        bob = await net.agent("bob", hc=await net.client())
        async with refused(net, AuthError, bob.agent_id):
            await net.hc.unregister(bob.agent_id)
        async with refused(net, NotFoundError):
            await net.hub.unregister("nobody")


# Coming back.


async def test_attach_registers_the_first_time_and_keeps_the_record_afterwards(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        first = await net.agent("alice", attach=True)
        await first.set_resume(Resume(["search"], summary="finds"))
        await first.set_skill("# skill")
        await net.hub.set_rule(first.agent_id, Rule(inbox=InboxBlock(7)))
        second = await net.hc.register(None, Passport("alice"), attach=True, attach_plugin=False)
        assert second.agent_id == first.agent_id
        assert second.resume.claimed_capabilities == ("search",)
        assert second.rule.inbox.max_pending == 7
        assert await net.hc.get_skill("alice") == "# skill"
        assert [record.kind for record in await net.audit()][-1] == "agent_attached"


async def test_after_a_restart_everything_is_as_it_was(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        await alice.add_example(ResumeExample("the great hunt", "found"))
        session = await converse(alice, bob)
        await session.send("while you were out")
        before = await net.hub.get_session(session.session_id)
        store = net.store
    async with open_network(store) as net:
        assert [info.connected for info in net.hub.agents()] == [False, False]
        assert net.pending("bob") == 1
        assert await net.hub.get_session(session.session_id) == before
        again = await net.agent("alice", attach=True)
        assert again.agent_id == alice.agent_id
        assert [e.title for e in again.resume.examples] == ["the great hunt"]
        back = await net.agent("bob", attach=True)
        missed = await back.wait_for_session_event(session.session_id, timeout=5)
        assert missed.text == "while you were out"
        assert missed.sender_id == alice.agent_id
        await settle()
        assert net.pending("bob") == 0
        await net.check()


async def test_a_member_that_was_away_gets_the_close_notice(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        hc = await net.client()
        alice, bob = await net.agent("alice"), await net.agent("bob", hc=hc)
        session = await converse(alice, bob)
        await hc.close()
        await settle()
        await session.send("last words")
        await session.close("done with it")
        store = net.store
        seen = []

        async def see(envelope: Envelope) -> None:
            seen.append(envelope)

        await net.agent("bob", attach=True, handler=see)
        await settle()
        assert [e.event_type for e in seen][-2:] == ["ag2.msg.text", "ag2.session.closed"]
        assert net.hub.statistics().current_unsettled == 0
    async with open_network(store) as net:
        seen.clear()
        await net.agent("bob", attach=True, handler=see)
        await settle()
        assert seen == [], "what was handled is not delivered again"


async def test_the_close_notice_survives_a_restart(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        hc = await net.client()
        alice, bob = await net.agent("alice"), await net.agent("bob", hc=hc)
        session = await converse(alice, bob)
        await hc.close()
        await session.send("last words")
        await session.close("done with it")
        store = net.store
    async with open_network(store) as net:
        back = await net.agent("bob", attach=True)
        assert (await back.wait_for_session_event(session.session_id, timeout=5)).text == "last words"
        with pytest.raises(SessionClosedError, match="done with it"):
            await back.wait_for_session_event(session.session_id, timeout=5)
        await settle()
        statistics = net.hub.statistics()
        assert statistics.current_unsettled == 0 or statistics.current_sessions == 1  # alice is still away
        await net.check()


async def test_a_live_connection_is_taken_over(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        old_hc, new_hc = await net.client(), await net.client()
        alice = await net.agent("alice")
        old = await net.agent("bob", hc=old_hc)
        session = await converse(alice, old)
        await session.send("unhandled")
        await settle()
        new = await net.agent("bob", hc=new_hc, attach=True)
        assert new.agent_id == old.agent_id
        assert (await new.wait_for_session_event(session.session_id, timeout=5)).text == "unhandled"
        async with refused(net, AuthError):
            await old_hc.unregister(old.agent_id)
        await session.send("for the new one")
        assert (await new.wait_for_session_event(session.session_id, timeout=5)).text == "for the new one"
        assert not old_hc.statistics().is_closed, "the connection itself lives on for its other agents"
        await old_hc.close()
        await session.send("and on")
        assert (await new.wait_for_session_event(session.session_id, timeout=5)).text == "and on"
        await net.check()


async def test_attaching_twice_on_one_connection(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        await session.send("one")
        await settle()
        again = await net.agent("bob", attach=True)
        assert (await again.wait_for_session_event(session.session_id, timeout=5)).text == "one"
        await settle()
        assert net.pending("bob") == 0


async def test_the_hub_forgets_nothing_that_it_was_told_before_it_died(open_network: OpenNetwork) -> None:
    """A session with a member that was struck off just before the crash does not wait for it for ever."""
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        store = net.store
    documents = [doc for doc in await store.scan("agent/") if b'"bob"' in doc.body]
    await store.commit([Put(documents[0].key, None)])
    async with open_network(store) as net:
        await settle()
        assert (await net.hub.get_session(session.session_id)).close_reason == "participant_gone"
        await net.check()


# Records.


async def test_an_agent_cannot_loosen_its_rule(open_network: OpenNetwork) -> None:
    rule = Rule(limits=LimitsBlock(max_concurrent_sessions=2), rate=RateBlock(60), inbox=InboxBlock(5))
    async with open_network() as net:
        alice = await net.agent("alice", rule=rule)
        for looser in (Rule(), Rule(limits=rule.limits, rate=RateBlock(61), inbox=rule.inbox)):
            async with refused(net, AccessDeniedError, "operator"):
                await alice.set_rule(looser)
            alice = await net.agent("alice", attach=True, rule=looser)
            assert await net.hub.get_rule(alice.agent_id) == rule
        tighter = await alice.set_rule(Rule(rule.access, rule.limits, RateBlock(30), rule.inbox))
        assert (tighter.version, tighter.rate.envelopes_per_minute) == (2, 30)
        loosened = await net.hub.set_rule(alice.agent_id, Rule())
        assert loosened.rate.envelopes_per_minute is None


async def test_a_record_that_somebody_else_changed_first(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await alice.set_resume(Resume(summary="a"), expected_version=1)
        async with refused(net, ConflictError, "version 2"):
            await alice.set_resume(Resume(summary="b"), expected_version=1)
        assert (await net.hub.get_resume("alice")).summary == "a"


async def test_concurrent_examples_are_all_kept(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(alice.add_example, ResumeExample(str(number)))
        resume = await net.hub.get_resume("alice")
        assert sorted(int(e.title) for e in resume.examples) == list(range(20))
        assert resume.version == 21


async def test_accepting_is_the_invitees_business(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_next, bob)
            session = await alice.open(target="bob")
        metadata = await net.hub.get_session(session.session_id)
        assert [p.role for p in metadata.participants] == ["initiator", "respondent"]
        assert all(p.joined_at for p in metadata.participants)
