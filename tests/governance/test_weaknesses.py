"""What users of such networks have suffered from, by the numbers of the list that this part answers to.

Each test fails on the behaviour that it is named after.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agorio import (
    EV_EXPECTATION_VIOLATED,
    AccessBlock,
    AccessDeniedError,
    Arbiter,
    Expectation,
    InboxBlock,
    InboxFull,
    InvalidInput,
    LimitsBlock,
    NetworkError,
    ObservedStat,
    Passport,
    RateBlock,
    RateLimited,
    Resume,
    Rule,
    SessionTypes,
)
from agorio.actors.sessions.operations import GetResume, GetRule, GetSkill, ListAgents, NamesFor, SetResume
from agorio.mailbox.clock import TrioClock
from tests.hub.network import converse, settle


async def quiet(text: str) -> str:
    return ""


@pytest.mark.parametrize("session_type", ["discussion", "workflow"])
async def test_weakness_06_the_default_expectations_of_turn_based_sessions_do_nothing(
    open_network: Any, session_type: str
) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        knobs = {}
        if session_type == "workflow":
            from agorio import TransitionGraph

            knobs = {"graph": TransitionGraph.round_robin([ann.agent_id, bob.agent_id], max_turns=8).to_dict()}
        session = await converse(ann, bob, type=session_type, knobs=knobs)
        assert "turn_within" in [one.name for one in session.metadata.expectations]
        await session.send("your turn")
        await trio.sleep(3600)
        fired = [(r.expectation, list(r.violators)) for r in await net.audit("expectation_violated")]
        assert ("turn_within", [bob.agent_id]) in fired


async def test_weakness_12_fired_expectations_are_forgotten_by_a_restart(open_network: Any, make_store: Any) -> None:
    store, clock = make_store(), TrioClock()
    for _ in range(3):
        async with open_network(store, clock=clock) as net:
            if not net.hub.agents():
                ann, bob = await net.agent("ann"), await net.agent("bob")
                silence = [Expectation("max_silence", params={"seconds": 60})]
                await converse(ann, bob, expectations=silence, ttl="1d")
            await trio.sleep(200)
            assert len(await net.audit("expectation_violated")) == 1


async def test_weakness_13_rate_limits_are_stored_and_never_enforced(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann", rule=Rule(rate=RateBlock(1))), await net.agent("bob", quiet)
        session = await converse(ann, bob)
        await trio.sleep(60)  # opening has taken the token
        await session.send("x")
        for _ in range(19):
            with pytest.raises(RateLimited) as caught:
                await session.send("x")
            assert 0 < caught.value.retry_after <= 60


@pytest.mark.parametrize("side", ["initiate", "accept"])
async def test_weakness_14_session_type_permissions_are_never_enforced(open_network: Any, side: str) -> None:
    types = SessionTypes(initiate=["consulting"]) if side == "initiate" else SessionTypes(accept=[])
    async with open_network() as net:
        ann = await net.agent("ann", rule=Rule(AccessBlock(session_types=types)) if side == "initiate" else None)
        await net.agent("bob", quiet, rule=Rule(AccessBlock(session_types=types)) if side == "accept" else None)
        with pytest.raises(AccessDeniedError, match=side):
            await ann.open("conversation", "bob")


async def test_weakness_15_outbound_is_bypassed_by_broadcasting(open_network: Any) -> None:
    async with open_network() as net:
        heard: list[str] = []

        async def cid_hears(text: str) -> str:
            heard.append(text)
            return ""

        ann, bob, cid = await net.agent("ann"), await net.agent("bob", quiet), await net.agent("cid", cid_hears)
        session = await converse(ann, bob, cid, type="discussion")
        await net.hub.set_rule(ann.agent_id, Rule(AccessBlock(outbound_to=["bob"])))
        with pytest.raises(AccessDeniedError, match="outbound_to"):
            await session.send("to all")
        await settle()
        assert not heard


async def test_weakness_15_inbound_is_bypassed_by_reconnecting(open_network: Any) -> None:
    async with open_network() as net:
        heard: list[str] = []

        async def hears(text: str) -> str:
            heard.append(text)
            return ""

        other = await net.client()
        ann, bob = await net.agent("ann"), await net.agent("bob", quiet, hc=other)
        session = await converse(ann, bob)
        await other.close()
        await settle()
        await session.send("spam")
        await net.hub.set_rule(bob.agent_id, Rule(AccessBlock(inbound_from=["friend*"])))
        await net.hc.register(hears, Passport("bob"), attach=True)
        await settle()
        assert not heard
        with pytest.raises(AccessDeniedError, match="inbound_from"):  # and the sender is told
            await session.send("more spam")


async def test_weakness_16_agents_rewrite_their_own_rule_and_track_record(open_network: Any) -> None:
    async with open_network() as net:
        wire = await net.wire()
        ann = await wire.register("ann", rule=Rule(limits=LimitsBlock(max_concurrent_sessions=1)))
        from agorio.actors.sessions.operations import SetRule

        with pytest.raises(AccessDeniedError, match="max_concurrent_sessions"):
            await wire.request(SetRule(ann.agent_id, Rule()))
        boast = Resume(observed={"law": ObservedStat(99, 99)})
        assert (await wire.request(SetResume(ann.agent_id, boast))).observed == {}
        again = await wire.register("ann", resume=boast, attach=True)
        assert again.resume.observed == {}


@pytest.mark.parametrize("overflow", ["reject", "drop_oldest", "drop_newest"])
async def test_weakness_17_the_inbox_cap_is_fiction(open_network: Any, overflow: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", rule=Rule(inbox=InboxBlock(3, overflow)))
        session = await converse(ann, bob)
        outcomes: list[str] = []

        async def send(text: str) -> None:
            try:
                await session.send(text)
                outcomes.append("accepted")
            except InboxFull:
                outcomes.append("full")

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(send, str(number))
        assert net.pending("bob") == 3
        letters = net.hub.dead_letters(bob.agent_id)
        if overflow == "reject":
            assert (outcomes.count("accepted"), letters) == (3, ())
        else:
            assert outcomes.count("accepted") == 10
            assert [letter.reason for letter in letters] == [overflow] * 7
            sent = await net.texts(session.session_id)
            lost = sent[:7] if overflow == "drop_oldest" else sent[3:]
            assert [letter.envelope.text for letter in letters] == lost


async def test_weakness_20_delegation_depth_is_never_propagated(open_network: Any) -> None:
    """An agent that delegates to itself by way of a peer is stopped at its own limit."""
    async with open_network() as net:
        clients: dict[str, Any] = {}
        depths: list[int] = []

        def delegates_to(name: str, peer: str) -> Any:
            async def agent(text: str) -> str:
                session = await clients[name].open("consulting", peer, ttl="1m")
                depths.append(session.metadata.depth)
                await session.send(text)
                return "passed on"

            return agent

        for name, peer in (("ping", "pong"), ("pong", "ping")):
            clients[name] = await net.agent(name, delegates_to(name, peer))
        starter = await net.agent("starter")
        await (await starter.open("consulting", "ping")).send("go")
        await trio.sleep(600)
        assert depths == [1, 2, 3, 4, 5]
        assert any("delegation_depth" in record.reason for record in await net.audit("denied"))


async def test_weakness_21_the_register_gate_is_never_called(open_network: Any) -> None:
    class Closed(Arbiter):
        def authorize_register(self, passport: Passport, rule: Rule) -> NetworkError | None:
            return AccessDeniedError("members only")

    async with open_network(arbiter=Closed()) as net:
        with pytest.raises(AccessDeniedError, match="members only"):
            await net.agent("ann")
        assert not net.hub.agents()


@pytest.mark.parametrize("operation", [GetRule, GetResume, GetSkill, NamesFor, ListAgents])
async def test_weakness_21_strangers_read_rules_and_resumes(open_network: Any, operation: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann", skill_md="# secret")
        wire = await net.wire()
        args: dict[Any, Any] = {NamesFor: [[ann.agent_id]], ListAgents: []}
        with pytest.raises(AccessDeniedError):
            await wire.request(operation(*args.get(operation, [ann.agent_id])))
        await wire.register("bob")
        with pytest.raises(AccessDeniedError, match="own rule"):
            await wire.request(GetRule(ann.agent_id))


async def test_weakness_22_applies_to_is_ignored(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob, cid = [await net.agent(name) for name in ("ann", "bob", "cid")]
        only_cid = [Expectation("reply_within", "audit", {"seconds": 60}, applies_to=["cid"])]
        session = await converse(ann, bob, cid, type="discussion", expectations=only_cid)
        await session.send("bob?")
        await trio.sleep(200)
        assert not await net.audit("expectation_violated")
        await (await bob.session(session.session_id)).send("cid?")
        await trio.sleep(200)
        assert [list(r.violators) for r in await net.audit("expectation_violated")] == [[cid.agent_id]]


async def test_weakness_24_expectations_never_rearm(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        hour = [Expectation("max_silence", params={"seconds": 3600})]
        session = await converse(ann, bob, expectations=hour, ttl="2d")
        for _ in range(3):
            await session.send("x")
            await trio.sleep(5400)
        assert len(await net.audit("expectation_violated")) == 3


async def test_weakness_24_the_notice_skips_the_creator_and_eats_inbox_budget(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann", rule=Rule(inbox=InboxBlock(1)))
        bob = await net.agent("bob", rule=Rule(inbox=InboxBlock(1)))
        warn = [Expectation("max_silence", "warn", {"seconds": 60})]
        session = await converse(ann, bob, expectations=warn)
        await trio.sleep(100)
        for agent in (ann, bob):
            notice = await agent.wait_for_session_event(
                session.session_id, lambda e: e.event_type == EV_EXPECTATION_VIOLATED, timeout=10
            )
            assert notice.event_data["expectation"] == "max_silence"
            assert net.pending(agent) == 0
        await session.send("there is room")


async def test_weakness_33_sweeper_errors_and_unknown_names_leave_no_trace(open_network: Any) -> None:
    async def broken() -> None:
        raise RuntimeError("the sweeper's own fault")

    async with open_network() as net:
        net.hub.register_sweeper("broken", 5, broken)
        await trio.sleep(6)
        (record,) = await net.audit("actor_restarted")
        assert record.actor == "hub/sweepers/broken"
        ann = await net.agent("ann")
        await net.agent("bob", quiet)
        with pytest.raises(InvalidInput, match="turn_whithin"):
            await ann.open("conversation", "bob", expectations=[Expectation("turn_whithin")])
        with pytest.raises(InvalidInput, match="notify_channel"):
            await ann.open("conversation", "bob", expectations=[Expectation("max_silence", "notify_channel")])


async def test_weakness_38_a_negative_ttl_is_immortal(open_network: Any) -> None:
    async with open_network() as net:
        for ttl in (-1, "0s", "-2h", ""):
            with pytest.raises(InvalidInput):
                await net.agent("ann", rule=Rule(limits=LimitsBlock(ttl)))


async def test_weakness_31_the_callers_rule_changes_what_is_enforced(open_network: Any) -> None:
    globs = ["bob"]
    rule = Rule(AccessBlock(outbound_to=globs))
    async with open_network() as net:
        ann = await net.agent("ann", rule=rule)
        await net.agent("cid", quiet)
        globs.append("cid")
        with pytest.raises(AccessDeniedError):
            await ann.open("conversation", "cid")
