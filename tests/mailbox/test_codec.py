"""Envelopes as bytes: everything that can be made can be read back, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.mailbox.codec import decode_envelope, encode_envelope
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import BadFrame
from agorio.mailbox.frozen import FrozenDict, FrozenList
from tests.mailbox.test_envelope import ENVELOPES
from tests.mailbox.test_frozen import JSON, TEXT

STAMPED = st.builds(
    lambda envelope, data, number: attrs.evolve(
        envelope, event_data=data, envelope_id=f"{number:032x}", sequence=number, created_at="2026-01-01T00:00:00Z"
    ),
    ENVELOPES,
    st.dictionaries(TEXT, JSON, max_size=3),
    st.integers(0, 2**40),
)


@given(envelope=STAMPED)
def test_there_and_back(envelope: Envelope) -> None:
    body = encode_envelope(envelope)
    assert decode_envelope(body) == envelope
    assert encode_envelope(decode_envelope(body)) == body
    json.loads(body)


def test_what_comes_back_is_frozen() -> None:
    envelope = decode_envelope(encode_envelope(Envelope("s", "a", event_data={"x": [1, {"y": 2}]})))
    assert type(envelope.event_data) is FrozenDict
    assert type(envelope.event_data["x"]) is FrozenList
    assert type(envelope.event_data["x"][1]) is FrozenDict


def test_defaults_are_left_out() -> None:
    assert encode_envelope(Envelope("s", "a")) == b'{"session_id":"s","sender_id":"a","event_type":"ag2.msg.text"}'


@given(unknown=st.dictionaries(st.sampled_from(["x1", "x2", "ü"]), JSON, min_size=1))
def test_fields_of_a_newer_peer_are_kept(unknown: dict[str, Any]) -> None:
    body = msgspec.json.encode({"session_id": "s", "sender_id": "a", "event_type": "t", **unknown})
    envelope = decode_envelope(body)
    assert envelope.extra == json.loads(msgspec.json.encode(unknown))
    assert decode_envelope(encode_envelope(envelope)) == envelope


GOOD = {"session_id": "s", "sender_id": "a", "event_type": "t"}
BAD: list[bytes] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b'{"session_id":"s"}',
    b'{"session_id":"s","sender_id":"a","event_type":"t","event_data":{"x":"\\ud800"}}',
    b'{"session_id":"s","sender_id":"a","event_type":"t","event_data":' + b'{"x":' * 70 + b"1" + b"}" * 71,
    b'{"session_id":"s","sender_id":"a","event_type":"t","event_data":' + b'{"x":' * 5000 + b"1" + b"}" * 5001,
    *(
        json.dumps({**GOOD, field: value}).encode()
        for field, value in [
            ("session_id", None),
            ("sender_id", 5),
            ("event_type", ["t"]),
            ("sequence", -1),
            ("sequence", "1"),
            ("sequence", 1.5),
            ("audience", "all"),
            ("audience", [None]),
            ("event_data", []),
            ("event_data", None),
            ("event_data", {"x": 2**64}),
            ("priority", 77),
            ("priority", "urgent?"),
            ("depth", -1),
            ("ttl_seconds", -1),
            ("ttl_seconds", "soon"),
            ("idempotency_key", ""),
            ("idempotency_key", 5),
            ("causation_id", {}),
            ("trace_id", "x" * 5000),
        ]
    ),
]


@pytest.mark.parametrize("body", BAD, ids=[str(number) for number in range(len(BAD))])
def test_anything_else_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_envelope(body)


@given(body=st.binary(max_size=60) | st.builds(lambda v: msgspec.json.encode(v), st.dictionaries(TEXT, JSON)))
def test_no_bytes_do_worse_than_a_bad_frame(body: bytes) -> None:
    try:
        decode_envelope(body)
    except BadFrame:
        return


@given(envelope=STAMPED, at=st.integers(0, 400), to=st.binary(min_size=1, max_size=2))
def test_a_damaged_body_is_a_bad_frame_or_another_envelope(envelope: Envelope, at: int, to: bytes) -> None:
    body = encode_envelope(envelope)
    at %= len(body)
    try:
        found = decode_envelope(body[:at] + to + body[at + 1 :])
    except BadFrame:
        return
    assert decode_envelope(encode_envelope(found)) == found, "what is taken in can be written and read again"
