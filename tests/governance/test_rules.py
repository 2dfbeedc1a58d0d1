"""Every block of a rule at the hub: who with whom, what kind, how often, how deep, and that a change holds at once."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from agorio import (
    AccessBlock,
    AccessDeniedError,
    AgentClient,
    InboxBlock,
    InboxFull,
    InvalidInput,
    LimitsBlock,
    MemoryKnowledgeStore,
    Passport,
    RateBlock,
    RateLimited,
    Rule,
    SessionMetadata,
    SessionTypes,
)
from agorio.actors.sessions.operations import OpenSession
from tests.hub.network import Network, converse, settle


async def quiet(text: str) -> str:
    return ""


async def trio_of(net: Network, **rules: Rule) -> list[AgentClient]:
    return [
        await net.agent("ann", rule=rules.get("ann")),
        await net.agent("bob", quiet, rule=rules.get("bob")),
        await net.agent("cid", quiet, rule=rules.get("cid")),
    ]


def only(inbound: Any = ("*",), outbound: Any = ("*",)) -> Rule:
    return Rule(AccessBlock(inbound, outbound))


@pytest.mark.parametrize("audience", [None, "cid"])
@pytest.mark.parametrize("rules", [{"ann": only(outbound=["b*"])}, {"cid": only(inbound=["b?b"])}])
async def test_access_holds_for_broadcasts_and_nobody_gets_a_denied_envelope(
    open_network: Any, audience: str | None, rules: dict[str, Rule]
) -> None:
    async with open_network() as net:
        ann, bob, cid = await trio_of(net)
        session = await converse(ann, bob, cid, type="discussion")
        for name, rule in rules.items():
            await net.hub.set_rule({"ann": ann, "cid": cid}[name].agent_id, rule)
        before = await net.picture()
        with pytest.raises(AccessDeniedError, match="access"):
            await session.send("hi", audience=None if audience is None else [cid.agent_id])
        await settle()
        assert await net.picture() == before
        if audience is None and "cid" in rules:
            await session.send("only you", audience=[bob.agent_id])


async def test_a_rule_that_changes_withdraws_what_waits(open_network: Any) -> None:
    """Neither a redelivery nor a reconnection brings what a rule forbids by now."""
    async with open_network() as net:
        ann = await net.agent("ann")
        seen: list[str] = []

        async def bob_hears(text: str) -> str:
            seen.append(text)
            return ""

        other = await net.client()
        bob = await net.agent("bob", bob_hears, hc=other)
        session = await converse(ann, bob)
        await session.send("one")
        await settle()
        await other.close()
        await settle()
        await session.send("two")
        await net.hub.set_rule(bob.agent_id, only(inbound=["cid"]))
        (letter,) = net.hub.dead_letters("bob") or net.hub.dead_letters(bob.agent_id)
        assert letter.envelope.text == "two"
        assert "access.inbound_from" in letter.reason
        assert net.pending("bob") == 0
        third = await net.client()
        await third.register(bob_hears, Passport("bob"), attach=True)
        await settle()
        assert seen == ["one"]
        await net.check()


async def test_a_sender_that_is_locked_down_takes_what_waits_with_it(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob)
        await session.send("hi")
        await net.hub.set_rule(ann.agent_id, only(outbound=[]))
        assert [letter.envelope.text for letter in net.hub.dead_letters(bob.agent_id)] == ["hi"]


async def test_what_was_forbidden_while_the_hub_was_down_is_not_replayed(open_network: Any) -> None:
    store = MemoryKnowledgeStore()
    async with open_network(store) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob)
        await session.send("hi")
        entry = net.hub._open_services().directory.entry("bob")
        entry.inbox.refuses = lambda envelope: None  # the crash comes before anything is withdrawn
        await net.hub.set_rule(bob.agent_id, only(inbound=[]))
    seen: list[str] = []

    async def hears(text: str) -> str:
        seen.append(text)
        return ""

    async with open_network(store) as net:
        await net.hc.register(hears, Passport("bob"), attach=True)
        await settle()
        assert not seen
        assert len(net.hub.dead_letters()) == 1


TYPES = [
    ({"ann": Rule(AccessBlock(session_types=SessionTypes(initiate=["consult*"])))}, "initiate"),
    ({"bob": Rule(AccessBlock(session_types=SessionTypes(accept=[])))}, "accept"),
]


@pytest.mark.parametrize(("rules", "word"), TYPES)
async def test_session_types_are_enforced(open_network: Any, rules: dict[str, Rule], word: str) -> None:
    async with open_network() as net:
        ann, _, _ = await trio_of(net, **rules)
        with pytest.raises(AccessDeniedError, match=f"access.session_types.{word}"):
            await ann.open("conversation", "bob")
        assert not await net.hub.list_sessions()
        if word == "initiate":
            await ann.open("consulting", "bob")


async def test_the_rate_is_a_bucket_on_the_hubs_clock_with_a_hint_when_to_retry(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, _ = await trio_of(net, ann=Rule(rate=RateBlock(6, 2)))
        session = await converse(ann, bob)
        await trio.sleep(10)  # opening has taken a token
        for text in "ab":
            await session.send(text)
        with pytest.raises(RateLimited) as caught:
            await session.send("c")
        assert 9 < caught.value.retry_after <= 10
        await trio.sleep(caught.value.retry_after)
        await session.send("c", idempotency_key="k")
        await session.send("c", idempotency_key="k")  # a retry of what was accepted costs nothing
        with pytest.raises(RateLimited):
            await session.send("d")


async def test_opening_counts_as_an_envelope_and_a_refused_opening_does_not(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, _ = await trio_of(net, ann=Rule(rate=RateBlock(6, 2)))
        with pytest.raises(InvalidInput):
            await ann.open("conversation", "bob", knobs={"no": "such knob"})
        for _ in range(2):
            await converse(ann, bob)
        with pytest.raises(RateLimited):
            await ann.open("conversation", "bob")
        assert [info.open_sessions for info in net.hub.agents() if info.name == "ann"] == [2]


async def test_changing_the_rule_is_no_way_around_the_rate(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, _ = await trio_of(net, ann=Rule(rate=RateBlock(60, 2)))
        session = await converse(ann, bob)
        await trio.sleep(1)  # opening has taken a token
        for text in "ab":
            await session.send(text)
        for rate in (60, 59, 58):
            await ann.set_rule(Rule(rate=RateBlock(rate, 2)))
            with pytest.raises(RateLimited):
                await session.send("c")
        await net.hub.set_rule(ann.agent_id, Rule())
        for text in "cdefg":
            await session.send(text)


async def test_concurrent_sessions_are_capped_and_a_closed_one_counts_no_more(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, _ = await trio_of(net, ann=Rule(limits=LimitsBlock(max_concurrent_sessions=1)))
        first = await converse(ann, bob)
        with pytest.raises(AccessDeniedError, match="max_concurrent_sessions"):
            await ann.open("conversation", "bob")
        await first.close()
        await converse(ann, bob)
        await net.hub.set_rule(ann.agent_id, Rule())
        await converse(ann, bob)


async def test_silence_about_the_parent_does_not_hide_the_depth(open_network: Any) -> None:
    """bob opens from inside his turn by a bare request, as if nobody had asked him."""
    async with open_network() as net:
        depths: list[int] = []
        clients: dict[str, AgentClient] = {}

        async def bob(text: str) -> str:
            client = clients["bob"]
            bare = OpenSession(client.agent_id, "consulting", ("cid",))
            opened: SessionMetadata = await client.hub_client.connection.request(bare)
            depths.append(opened.depth)
            return "done"

        ann = await net.agent("ann")
        clients["bob"] = await net.agent("bob", bob)
        await net.agent("cid", quiet)
        session = await ann.open("consulting", "bob")
        await session.ask("go on")
        await settle()
        assert depths == [1]
        assert (await clients["bob"].open("consulting", "cid")).metadata.depth == 0, "outside of any turn"


async def test_the_hub_derives_the_depth_of_a_delegation(open_network: Any) -> None:
    """ann asks bob, who opens a session with cid from inside his turn, and so on: each is one deeper."""
    async with open_network() as net:
        depths: list[int] = []
        refused: list[str] = []
        limit = Rule(limits=LimitsBlock(delegation_depth=1))
        clients: dict[str, AgentClient] = {}

        def passes_on_to(name: str, then: str | None) -> Any:
            async def agent(text: str) -> str:
                if then is None:
                    return "done"
                try:
                    session = await clients[name].open("consulting", then)
                except AccessDeniedError as error:
                    refused.append(str(error))
                    return "refused"
                depths.append(session.metadata.depth)
                return (await session.ask(text)).text

            return agent

        clients["ann"] = await net.agent("ann")
        for name, then in (("bob", "cid"), ("cid", "dan"), ("dan", None)):
            clients[name] = await net.agent(name, passes_on_to(name, then), rule=limit)
        session = await clients["ann"].open("consulting", "bob")
        assert session.metadata.depth == 0
        assert (await session.ask("go")).text == "refused"
        assert depths == [1]
        assert "limits.delegation_depth=1 of 'cid'" in refused[0]


async def test_an_agent_may_tighten_its_rule_but_not_loosen_it(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann", rule=Rule(inbox=InboxBlock(5)))
        tight = Rule(inbox=InboxBlock(3), access=AccessBlock(["b*"]))
        assert (await ann.set_rule(tight)).version == 2
        for looser in (Rule(), attrs.evolve(tight, access=AccessBlock(["*"]))):
            with pytest.raises(AccessDeniedError, match="cannot loosen"):
                await ann.set_rule(looser)
        assert (await net.hub.get_rule(ann.agent_id)).inbox.max_pending == 3
        await net.hub.set_rule(ann.agent_id, Rule())
        assert [(r.version, r.by) for r in await net.audit("rule_set")] == [(2, ann.agent_id), (3, "operator")]


async def test_attaching_with_the_rule_of_the_first_start_keeps_what_was_tightened_since(open_network: Any) -> None:
    """A program passes the same rule at every start; the operator's tighter one must not lock it out."""
    first = Rule(inbox=InboxBlock(5))
    async with open_network() as net:
        ann = await net.agent("ann", rule=first)
        tight = await net.hub.set_rule(ann.agent_id, Rule(inbox=InboxBlock(3), access=AccessBlock(["b*"])))
        for passed in (first, Rule()):
            again = await net.hc.register(None, Passport("ann"), attach=True, rule=passed, attach_plugin=False)
            assert again.agent_id == ann.agent_id
            assert await net.hub.get_rule(ann.agent_id) == tight
        tighter = attrs.evolve(tight, inbox=InboxBlock(2))
        await net.hc.register(None, Passport("ann"), attach=True, rule=tighter, attach_plugin=False)
        assert (await net.hub.get_rule(ann.agent_id)).inbox.max_pending == 2
        attached = await net.audit("agent_attached")
        kept = [record.get("rule_kept") for record in attached]
        assert kept == ["access.inbound_from", "access.inbound_from", None]
        assert [(r.version, r.by) for r in await net.audit("rule_set")] == [(2, "operator"), (3, ann.agent_id)]


async def test_a_changed_cap_holds_at_once_and_throws_nothing_out(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob)
        for text in "abc":
            await session.send(text)
        await net.hub.set_rule(bob.agent_id, Rule(inbox=InboxBlock(2)))
        with pytest.raises(InboxFull):
            await session.send("d")
        assert net.pending("bob") == 3
        await net.hub.set_rule(bob.agent_id, Rule(inbox=InboxBlock(4)))
        await session.send("d")
        with pytest.raises(InboxFull):
            await session.send("e")


async def test_a_raised_cap_lets_a_waiting_sender_in(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", rule=Rule(inbox=InboxBlock(1, "block")))
        session = await converse(ann, bob)
        await session.send("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send, "b")
            await settle()
            assert net.pending("bob") == 1
            await net.hub.set_rule(bob.agent_id, Rule(inbox=InboxBlock(2, "block")))
        assert net.pending("bob") == 2


async def test_a_changed_default_ttl_is_taken_by_the_next_session(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, _ = await trio_of(net)
        await ann.set_rule(Rule(limits=LimitsBlock("1m")))
        session = await converse(ann, bob)
        await trio.sleep(100)
        assert (await net.hub.get_session(session.session_id)).state == "expired"
