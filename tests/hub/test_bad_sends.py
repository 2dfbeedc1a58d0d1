"""Bad envelopes: each is a typed error that teaches, and nothing is changed by it."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import (
    AuthError,
    InvalidInput,
    NotAMemberError,
    NotFoundError,
    ProtocolError,
    SessionClosedError,
    TurnError,
)
from tests.hub.conftest import OpenNetwork
from tests.hub.network import converse, settle
from tests.hub.refusals import refused


class Mood(enum.Enum):
    GOOD = 1


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"x": object()}, "event_data.x"),
        ({"x": {1, 2}}, "event_data.x"),
        ({"x": b"bytes"}, "event_data.x"),
        ({"x": Mood.GOOD}, "event_data.x"),
        ({"x": ["\ud800"]}, "event_data.x[0]"),
        ({"\ud800": 1}, "surrogate"),
        ({"x": float("nan")}, "event_data.x"),
        ({"x": {"y": float("-inf")}}, "event_data.x.y"),
        ({"x": 2**63}, "64 bits"),
        ({"x": nested(70)}, "64 levels"),
        ({5: "x"}, "keys"),
    ],
    ids=["object", "set", "bytes", "enum", "surrogate", "key-surrogate", "nan", "inf", "huge", "deep", "key"],
)
async def test_a_payload_that_json_cannot_carry(open_network: OpenNetwork, payload: Any, path: str) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        async with refused(net, InvalidInput, path):
            await session.send(payload)


async def test_a_payload_that_holds_itself(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        circle: dict[str, Any] = {}
        circle["again"] = circle
        async with refused(net, InvalidInput, "64 levels"):
            await session.send(circle)


async def test_payloads_wrapped_in_payloads_stay_readable(open_network: OpenNetwork) -> None:
    """Each message quotes the one before: the depth is counted through quoted payloads, too."""
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        quoted = await session.send({"text": "first"})
        with pytest.raises(InvalidInput, match="64 levels"):
            for _ in range(100):
                quoted = await session.send({"text": "again", "quoted": quoted.event_data})
        await net.check()
        assert len(await net.texts(session.session_id)) == 64


FIELDS: list[tuple[str, Any]] = [
    ("causation_id", 5),
    ("task_id", ["t"]),
    ("trace_id", 7),
    ("idempotency_key", ["k"]),
    ("idempotency_key", 5),
    ("idempotency_key", ""),
    ("idempotency_key", "k" * 2000),
    ("ttl_seconds", -1.0),
    ("ttl_seconds", 0),
    ("ttl_seconds", float("nan")),
    ("ttl_seconds", "soon"),
    ("ttl_seconds", True),
    ("depth", -1),
    ("depth", 1.5),
    ("depth", 2**70),
    ("priority", "asap"),
    ("priority", 9),
    ("audience", "bob"),
    ("audience", [5]),
    ("event_type", ""),
    ("event_type", 5),
    ("event_type", "x" * 200),
    ("event_type", "a\nb"),
]


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{field}={str(value)[:9]}" for field, value in FIELDS])
async def test_an_envelope_with_a_bad_field(open_network: OpenNetwork, field: str, value: Any) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        async with refused(net, InvalidInput, field):
            fields: dict[str, Any] = {"event_data": {"text": "x"}, field: value}
            await alice.send_envelope(Envelope(session.session_id, alice.agent_id, **fields))


@pytest.mark.parametrize(
    "event_type",
    [
        "ag2.session.closed",
        "ag2.session.expired",
        "ag2.session.opened",
        "ag2.session.invite",
        "ag2.expectation.violated",
        "ag2.turn.skipped",
    ],
)
async def test_a_member_cannot_speak_as_the_hub(open_network: OpenNetwork, event_type: str) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        async with refused(net, ProtocolError, event_type, "hub only"):
            await session.send({"reason": "forged"}, event_type=event_type)


async def test_the_reserved_names_are_known_ones(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        async with refused(net, ProtocolError, "ag2.made.up", "'ag2.'"):
            await session.send({}, event_type="ag2.made.up")
        await session.send({"n": 1}, event_type="my.own")
        async with refused(net, InvalidInput, "'text'"):
            await session.send({"txet": "x"})


async def test_who_may_send(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob, carol = [await net.agent(name) for name in ("alice", "bob", "carol")]
        elsewhere = await net.agent("dave", hc=await net.client())
        session = await converse(alice, bob)

        def text(sender: str, audience: Any = None) -> Envelope:
            return Envelope(session.session_id, sender, audience, event_data={"text": "x"})

        async with refused(net, NotAMemberError, carol.agent_id):
            await carol.send_envelope(text(carol.agent_id))
        async with refused(net, NotAMemberError, carol.agent_id):
            await alice.send_envelope(text(alice.agent_id, [carol.agent_id]))
        async with refused(net, NotAMemberError, "'nobody'"):
            await alice.send_envelope(text(alice.agent_id, ["nobody"]))
        async with refused(net, AuthError, elsewhere.agent_id, "register or attach"):
            await alice.send_envelope(text(elsewhere.agent_id))
        async with refused(net, AuthError):
            await elsewhere.send_envelope(text(alice.agent_id))
        async with refused(net, NotFoundError, "no session", "list_sessions"):
            await alice.send_envelope(Envelope("elsewhere", alice.agent_id, event_data={"text": "x"}))


async def test_nothing_is_sent_out_of_turn_or_after_the_end(open_network: OpenNetwork) -> None:
    async with open_network() as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob, type="consulting")
        early = Envelope(session.session_id, bob.agent_id, event_data={"text": "x"})
        async with refused(net, TurnError, alice.agent_id):
            await bob.send_envelope(early)
        await session.close("enough")
        await settle()
        async with refused(net, SessionClosedError, "enough", "open a new one"):
            await session.send("late")
        async with refused(net, SessionClosedError):
            await bob.send_envelope(early)
