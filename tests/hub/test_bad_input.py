"""Bad input: each is a typed error that teaches, and nothing is changed by it."""

from __future__ import annotations

from typing import Any

import pytest

from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.metadata import Expectation
from agorio.actors.sessions.rule import AccessBlock, InboxBlock, LimitsBlock, RateBlock, Rule
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.errors import (
    AgorioError,
    InvalidInput,
    NameTaken,
    NotFoundError,
)
from tests.hub.conftest import OpenNetwork
from tests.hub.network import converse
from tests.hub.refusals import refused

ID_SHAPED = "0" * 32


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "*", "-a", "a" * 65, "ä", "a\n", "a\ud800", ID_SHAPED, None, 7, ["a"]], ids=repr
)
async def test_a_name_outside_the_grammar(open_network: OpenNetwork, name: Any) -> None:
    async with open_network() as net:
        await net.agent("alice")
        async with refused(net, InvalidInput, "name"):
            await net.hc.register(None, Passport(name), attach_plugin=False)


async def test_a_name_is_registered_once(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        async with refused(net, NameTaken, "alice", alice.agent_id, "attach=True"):
            await net.agent("alice")


BAD_RULES: list[tuple[str, Any]] = [
    ("limits.session_ttl_default", Rule(limits=LimitsBlock(session_ttl_default="-1h"))),
    ("limits.session_ttl_default", Rule(limits=LimitsBlock(session_ttl_default="soon"))),
    ("limits.task_ttl_default", Rule(limits=LimitsBlock(task_ttl_default=0))),
    ("limits.delegation_depth", Rule(limits=LimitsBlock(delegation_depth=-1))),
    ("limits.max_concurrent_sessions", Rule(limits=LimitsBlock(max_concurrent_sessions=1.5))),  # type: ignore[arg-type]
    ("limits.automatic_turns", Rule(limits=LimitsBlock(automatic_turns=-1))),
    ("limits.max_concurrent_tasks", Rule(limits=LimitsBlock(max_concurrent_tasks=True))),
    ("rate.envelopes_per_minute", Rule(rate=RateBlock(float("nan")))),
    ("rate.envelopes_per_minute", Rule(rate=RateBlock(-1))),
    ("rate.burst", Rule(rate=RateBlock(60, -1))),
    ("inbox.max_pending", Rule(inbox=InboxBlock(0))),
    ("inbox.max_pending", Rule(inbox=InboxBlock("9"))),  # type: ignore[arg-type]
    ("inbox.overflow", Rule(inbox=InboxBlock(5, "explode"))),  # type: ignore[arg-type]
    ("inbox.high_water", Rule(inbox=InboxBlock(5, high_water=-2))),
    ("access.inbound_from", Rule(access=AccessBlock(inbound_from=[1]))),
    ("access.outbound_to", Rule(access=AccessBlock(outbound_to=["x" * 200]))),
    ("Rule", {"inbox": 5}),
]


@pytest.mark.parametrize(("field", "rule"), BAD_RULES, ids=[f"{name}{n}" for n, (name, _) in enumerate(BAD_RULES)])
async def test_a_bad_rule(open_network: OpenNetwork, field: str, rule: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        async with refused(net, InvalidInput, field):
            await net.agent("bob", rule=rule)
        async with refused(net, InvalidInput, field):
            await net.hub.set_rule(alice.agent_id, rule)
        async with refused(net, InvalidInput, field):
            await alice.set_rule(rule)


async def test_a_single_text_is_no_list_of_globs() -> None:
    with pytest.raises(InvalidInput, match="'boss'"):
        AccessBlock(inbound_from="boss")


@pytest.mark.parametrize(
    ("field", "passport"),
    [
        ("kind", Passport("bob", kind="robot")),  # type: ignore[arg-type]
        ("owner", Passport("bob", owner=5)),  # type: ignore[arg-type]
        ("model", Passport("bob", model=["m"])),  # type: ignore[arg-type]
    ],
    ids=["kind", "owner", "model"],
)
async def test_a_bad_passport(open_network: OpenNetwork, field: str, passport: Any) -> None:
    async with open_network() as net:
        async with refused(net, InvalidInput, field):
            await net.hc.register(None, passport, attach_plugin=False)


@pytest.mark.parametrize(
    ("field", "resume"),
    [
        ("claimed_capabilities", Resume([5])),
        ("domains", Resume(domains=["x"] * 300)),
        ("summary", Resume(summary=b"x")),  # type: ignore[arg-type]
        ("examples", Resume(examples=["x"])),  # type: ignore[list-item]
        ("Resume", {"summary": "x"}),
    ],
    ids=["capabilities", "domains", "summary", "examples", "dict"],
)
async def test_a_bad_resume(open_network: OpenNetwork, field: str, resume: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        async with refused(net, InvalidInput, field):
            await net.hc.register(None, Passport("bob"), resume, attach_plugin=False)
        async with refused(net, InvalidInput, field):
            await alice.set_resume(resume)


@pytest.mark.parametrize("skill", [5, "x" * 300_000], ids=["number", "long"])
async def test_a_bad_skill(open_network: OpenNetwork, skill: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        async with refused(net, InvalidInput, "skill_md"):
            await alice.set_skill(skill)


# Opening.


async def test_targets_that_cannot_be(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = [await net.agent(name) for name in ("alice", "bob", "carol")]
        async with refused(net, NotFoundError, "'dave'", "list_agents"):
            await alice.open(target="dave")
        async with refused(net, InvalidInput, "target"):
            await alice.open(target=[])
        async with refused(net, InvalidInput, "'bob'", "twice"):
            await alice.open("discussion", ["bob", bob.agent_id])
        async with refused(net, InvalidInput, "exactly 2", "got 3"):
            await alice.open(target=["bob", "carol"])
        async with refused(net, InvalidInput, "exactly 2", "got 1"):
            await alice.open(target=[alice.agent_id])
        async with refused(net, InvalidInput, "target"):
            await alice.open(target=[5])  # type: ignore[list-item]
        async with refused(net, InvalidInput, "target"):
            await alice.open("discussion", [[carol.agent_id]])  # type: ignore[list-item]


async def test_types_that_do_not_exist(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await net.agent("bob")
        async with refused(net, NotFoundError, "seance", "consulting"):
            await alice.open("seance", "bob")
        async with refused(net, NotFoundError, "99"):
            await alice.open("consulting", "bob", version=99)
        async with refused(net, InvalidInput, "type"):
            await alice.open(["consulting"], "bob")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ttl", [0, -1, "-5m", "0s", "soon", "", "5x", float("nan"), float("inf"), "inf", 1e300, True, [5]], ids=repr
)
async def test_a_ttl_that_is_no_duration(open_network: OpenNetwork, ttl: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await net.agent("bob")
        async with refused(net, InvalidInput, "ttl"):
            await alice.open(target="bob", ttl=ttl)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True, [5]], ids=repr)
async def test_an_invite_timeout_that_is_no_duration(open_network: OpenNetwork, timeout: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await net.agent("bob")
        async with refused(net, InvalidInput, "invite_ack_timeout"):
            await alice.open(target="bob", invite_ack_timeout=timeout)


@pytest.mark.parametrize(
    ("kind", "knobs", "word"),
    [
        ("conversation", {"max_truns": 3}, "max_turns"),
        ("consulting", {"max_turns": 3}, "none"),
        ("conversation", {"max_turns": 0}, "max_turns"),
        ("conversation", {"max_turns": True}, "max_turns"),
        ("conversation", {"max_turns": "3"}, "max_turns"),
    ],
)
async def test_a_bad_knob(open_network: OpenNetwork, kind: str, knobs: dict[str, Any], word: str) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await net.agent("bob")
        async with refused(net, InvalidInput, word):
            await alice.open(kind, "bob", knobs=knobs)


@pytest.mark.parametrize("acks", [0, -1, 2, 1.0, True, "1"], ids=repr)
async def test_a_quorum_out_of_range(open_network: OpenNetwork, acks: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await net.agent("bob")
        async with refused(net, InvalidInput, "required_acks"):
            await alice.open(target="bob", required_acks=acks)


@pytest.mark.parametrize(
    "expectation",
    [
        Expectation("reply_within_reason", "audit", {"seconds": 5}),
        Expectation("reply_within", "explode", {"seconds": 5}),
        Expectation("reply_within", "audit", {"seconds": -5}),
        Expectation("reply_within", "audit", {"seconds": "soon"}),
        Expectation("reply_within", "audit", {"minutes": 5}),
        Expectation("reply_within", "audit", {"seconds": 5}, ["nobody"]),
        "reply_within",
    ],
    ids=["name", "reaction", "negative", "text", "parameter", "stranger", "no-record"],
)
async def test_a_bad_expectation(open_network: OpenNetwork, expectation: Any) -> None:
    async with open_network() as net:
        alice = await net.agent("alice")
        await net.agent("bob")
        async with refused(net, InvalidInput):
            await alice.open(target="bob", expectations=[expectation])


async def test_what_is_read_is_checked_too(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        calls: list[tuple[type[AgorioError], str, Any]] = [
            (InvalidInput, "after", lambda: net.hub.read_wal(session.session_id, after=-1)),
            (InvalidInput, "limit", lambda: net.hub.read_wal(session.session_id, limit=-1)),
            (InvalidInput, "after", lambda: net.hub.read_wal(session.session_id, after="1")),  # type: ignore[arg-type]
            (InvalidInput, "after", lambda: net.hc.read_wal(session.session_id, after=-1)),
            (NotFoundError, "list_sessions", lambda: net.hub.read_wal("none")),
            (NotFoundError, "list_sessions", lambda: net.hub.get_session("none")),
            (NotFoundError, "list_sessions", lambda: net.hub.close_session("none")),
            (NotFoundError, "list_agents", lambda: net.hub.get_passport("none")),
            (NotFoundError, "list_agents", lambda: net.hub.get_resume("none")),
            (NotFoundError, "list_agents", lambda: net.hub.get_rule("none")),
            (NotFoundError, "list_agents", lambda: net.hub.unregister("none")),
            (InvalidInput, "state", lambda: net.hub.list_sessions(state="ajar")),
            (InvalidInput, "limit", lambda: net.hub.list_sessions(limit=-1)),
            (InvalidInput, "limit", lambda: net.hub.list_agents(limit=-1)),
            (InvalidInput, "sort_by", lambda: net.hub.list_agents(sort_by="charm")),
            (InvalidInput, "sort_by", lambda: net.hc.list_agents(sort_by="charm")),
            (InvalidInput, "kind", lambda: net.hub.list_agents(kind="robot")),
            (InvalidInput, "reason", lambda: net.hub.close_session(session.session_id, 5)),  # type: ignore[arg-type]
            (InvalidInput, "reason", lambda: session.close("x" * 5000)),
        ]
        for kind, word, call in calls:
            async with refused(net, kind, word):
                await call()


@pytest.mark.parametrize("name", ["ttl_sweep_interval", "expectation_sweep_interval", "invite_ack_timeout", "grace"])
@pytest.mark.parametrize("value", [-1, float("nan"), "5", True, None], ids=repr)
def test_bad_intervals(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        Hub(MemoryKnowledgeStore(), **{name: value})


@pytest.mark.parametrize("interval", [0, -1, float("nan"), "5", None], ids=repr)
async def test_a_sweeper_needs_an_interval(open_network: OpenNetwork, interval: Any) -> None:
    async def chore() -> None:
        """Nothing to do."""

    async with open_network() as net:
        async with refused(net, InvalidInput, "interval"):
            net.hub.register_sweeper("mine", interval, chore)
        async with refused(net, NotFoundError, "mine"):
            await net.hub.unregister_sweeper("mine")
