"""Frames to JSON and back, and everything that is no frame."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions import operations as ops
from agorio.actors.sessions.identity import ObservedStat, Passport, Resume
from agorio.actors.sessions.metadata import Manifest, Participant, SessionMetadata, SessionState
from agorio.actors.sessions.rule import AccessBlock, Rule
from agorio.actors.sessions.tasks import TaskMetadata, TaskRequest, TaskSpec
from agorio.actors.sessions.wire import WIRE
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import BadFrame, InvalidInput
from agorio.mailbox.priority import Priority
from agorio.transports import frames as f
from agorio.transports.codec import MAX_DEPTH, Codec, Unreadable, depth_exceeds
from agorio.transports.limits import Limits

CODEC = Codec(WIRE, Limits())
SAID = Envelope(
    "session",
    "alice",
    ("bob",),
    "ag2.msg.text",
    {"text": "grüße 🎉", "n": [1, 2.5, None, True]},
    priority=Priority.URGENT,
)
PASSPORT = Passport("alice", labels={"team": "red"}, agent_id="id", created_at="2026-01-01T00:00:00Z")
SESSION = SessionMetadata(
    "s", Manifest("conversation"), "a", (Participant("a", "initiator", 0),), SessionState.ACTIVE, "2026-01-01T00:00:00Z"
)
RESUME = Resume(("research",), observed={"research": ObservedStat(2, 1, 1, window=(1.0, 2.0))})

FRAMES: list[f.Frame] = [
    f.HelloFrame(client="test"),
    f.WelcomeFrame("websocket-1", "2026-01-01T00:00:00Z", limits={"max_message": 5}),
    f.SendFrame(1, SAID),
    f.AcceptFrame(1, SAID, duplicate=True),
    f.ErrorFrame("invalid", "no", 3, {"field": "name"}),
    f.ErrorFrame("bad_frame", "no"),
    f.NotifyFrame("bob", SAID, 2),
    f.ReceiptFrame("bob", "session", 4, "nack", "it failed"),
    f.SubscribeFrame(1, "session", "bob", 7, ("ag2.msg.text",), "task"),
    f.UnsubscribeFrame(1),
    f.EventFrame(1, SAID),
    f.RequestFrame(2, "register", ops.Register(PASSPORT, RESUME, "# skill", Rule(access=AccessBlock(("a*",))))),
    f.RequestFrame(2, "open_session", ops.OpenSession("a", "conversation", ("b",), ttl=3, knobs={"x": [1]})),
    f.RequestFrame(2, "observe_task", ops.ObserveTask("a", TaskRequest(TaskSpec("t"), "1h"))),
    f.RequestFrame(2, "actor_ask", ops.ActorAsk("a", "b", {"any": ["json"]}, 1.5)),
    f.ResponseFrame(2),
    f.ResponseFrame(2, True),
    f.ResponseFrame(2, {"a": ["b"]}),
    f.ResponseFrame(2, ()),
    f.ResponseFrame(2, (SAID, SAID)),
    f.ResponseFrame(2, (PASSPORT,)),
    f.ResponseFrame(2, SESSION),
    f.ResponseFrame(2, ops.Registered("id", PASSPORT, RESUME, Rule(), attached=True)),
    f.ResponseFrame(2, TaskMetadata("t", "a", TaskSpec("title"), result=[1])),
    f.PingFrame(1),
    f.PongFrame(1),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_every_frame_comes_back_as_it_was(frame: f.Frame) -> None:
    data = CODEC.encode(frame)
    assert CODEC.decode(data.decode()) == [frame]
    assert CODEC.decode(data) == [frame]


def test_several_frames_share_a_message() -> None:
    message = b"[" + b",".join(map(CODEC.encode, FRAMES)) + b"]"
    assert CODEC.decode(message) == FRAMES


def test_unknown_fields_are_passed_over_or_kept() -> None:
    plain = json.loads(CODEC.encode(f.SendFrame(1, SAID)))
    plain["later"] = 1
    plain["envelope"]["later"] = {"a": 1}
    (frame,) = CODEC.decode(json.dumps(plain))
    assert isinstance(frame, f.SendFrame)
    assert frame.envelope.extra == {"later": {"a": 1}}
    request = json.loads(CODEC.encode(f.RequestFrame(1, "register", ops.Register(PASSPORT))))
    request["params"]["passport"]["later"] = 1
    request["params"]["later"] = 1
    (frame,) = CODEC.decode(json.dumps(request))
    assert isinstance(frame, f.RequestFrame)
    assert frame.params.passport.extra == {"later": 1}


def unreadable(message: str | bytes) -> Unreadable:
    """The only thing in a message that is no frame."""
    (found,) = CODEC.decode(message)
    assert isinstance(found, Unreadable)
    return found


@pytest.mark.parametrize(
    "message",
    [
        "",
        "null",
        "nonsense",
        "[",
        '{"kind":"ping"} trailing',
        '{"kind":5}',
        '{"kind":"ping","nonce":-1}',
        '{"kind":"ping","nonce":NaN}',
        '{"kind":"ping","nonce":1e400}',
        '{"kind":"ping","nonce":' + "9" * 5000 + "}",
        '{"kind":"ping","nonce":1180591620717411303424}',
        '{"kind":"ping","nonce":"1"}',
        '{"kind":"receipt","recipient_id":"a","session_id":"s","sequence":1,"status":"maybe"}',
        '{"kind":"receipt","recipient_id":"' + "a" * 1025 + '","session_id":"s","sequence":1}',
        "\ufeff" + '{"kind":"ping"}',
        b'{"kind":"ping","x":"\xff"}',
        b"\x00\x01\x02",
        '{"kind":"ping","x":"\\ud800"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"kind":"request","request_id":1,"op":"dance"}',
        '{"kind":"request","request_id":1,"op":"set_window","params":[]}',
        '{"kind":"response","request_id":1,"type":"Nothing","result":{}}',
    ],
)
def test_what_is_no_frame(message: str | bytes) -> None:
    assert isinstance(unreadable(message).error, BadFrame)


def test_too_many_bytes_are_counted_as_bytes() -> None:
    codec = Codec(WIRE, Limits(max_message=100))
    message = '{"kind":"ping","x":"' + "🎉" * 24 + '"}'
    assert len(message) < 100 < len(message.encode())
    (found,) = codec.decode(message)
    assert isinstance(found, Unreadable)
    assert "100 bytes" in str(found.error)


def test_too_many_frames() -> None:
    codec = Codec(WIRE, Limits(max_frames=3))
    assert len(codec.decode('[{"kind":"ping"},{"kind":"ping"},{"kind":"ping"}]')) == 3
    for more in ('{"kind":"ping"}', "{}"):
        (found,) = codec.decode('[{"kind":"ping"},{"kind":"ping"},{"kind":"ping"},' + more + "]")
        assert isinstance(found, Unreadable)


def test_a_frame_that_is_too_large_to_be_sent() -> None:
    with pytest.raises(BadFrame, match="at most"):
        Codec(WIRE, Limits(max_outgoing=200)).encode(f.SendFrame(1, Envelope("s", "a", event_data={"text": "x" * 200})))


def test_a_bad_frame_does_not_take_its_neighbours_with_it() -> None:
    items = CODEC.decode('[{"kind":"ping","nonce":1},{"kind":"jump","request_id":9},{"kind":"pong"},7]')
    assert [type(item) for item in items] == [f.PingFrame, Unreadable, f.PongFrame, Unreadable]
    assert isinstance(items[1], Unreadable)
    assert items[1].request_id == 9
    assert "jump" in str(items[1].error)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, "passport"),
        ({"passport": None}, "passport"),
        ({"passport": []}, "passport"),
        ({"passport": {"name": None}}, "passport.name"),
        ({"passport": {"name": 5}}, "passport.name"),
        ({"passport": {"name": "a"}, "attach": "false"}, "attach"),
        ({"passport": {"name": "a"}, "attach": 1}, "attach"),
        ({"passport": {"name": "a"}, "window": True}, "window"),
        ({"passport": {"name": "a"}, "window": 2**70}, "window"),
        ({"passport": {"name": "a"}, "resume": {"domains": "bob"}}, "domains"),
        ({"passport": {"name": "a"}, "resume": {"domains": [None]}}, "domains"),
        ({"passport": {"name": "a"}, "resume": {"examples": {}}}, "examples"),
        ({"passport": {"name": "a", "kind": "king"}}, "kind"),
        ({"passport": {"name": "a", "labels": "x"}}, "labels"),
    ],
)
def test_records_are_not_coerced(params: Any, told: str) -> None:
    message = json.dumps({"kind": "request", "request_id": 8, "op": "register", "params": params})
    found = unreadable(message)
    assert isinstance(found.error, InvalidInput)
    assert found.request_id == 8
    assert told in str(found.error)


@pytest.mark.parametrize(
    "change",
    [
        {"sender_id": None},
        {"audience": "bob"},
        {"event_data": []},
        {"priority": 9},
        {"ttl_seconds": -1},
        {"depth": "1"},
    ],
)
def test_envelopes_are_not_coerced(change: dict[str, Any]) -> None:
    plain = json.loads(CODEC.encode(f.SendFrame(1, SAID)))
    plain["envelope"].update(change)
    found = unreadable(json.dumps(plain))
    assert isinstance(found.error, InvalidInput)
    assert found.request_id == 1


def test_what_json_would_lose_is_refused_before_it_is_sent() -> None:
    for operation in (
        ops.OpenSession("a", "b", ("c",), ttl=float("nan")),
        ops.ActorAsk("a", "b", float("inf")),
        ops.ActorAsk("a", "b", object()),
        ops.Register("alice"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput):
            CODEC.encode(f.RequestFrame(1, operation.op, operation))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_the_quick_way_and_the_careful_one_read_the_same(frame: f.Frame) -> None:
    one = CODEC.encode(frame)
    together = b"[" + one + b"," + one + b"]"
    one_by_one = b"[" + one + b',{"kind":"nothing"},' + one + b"]"
    careful = [item for item in CODEC.decode(one_by_one) if not isinstance(item, Unreadable)]
    assert CODEC.decode(together) == careful == [frame, frame]


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_fuzz_bytes(message: bytes | str) -> None:
    assert all(isinstance(item, Unreadable) for item in CODEC.decode(message))


@given(st.sampled_from(FRAMES), st.data())
def test_fuzz_mutated_frames(frame: f.Frame, data: st.DataObject) -> None:
    raw = bytearray(CODEC.encode(frame))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for item in CODEC.decode(bytes(raw)):
        if not isinstance(item, Unreadable):
            assert CODEC.decode(CODEC.encode(item)) == [item]


@given(st.sampled_from(FRAMES), st.data(), json_values)
def test_fuzz_a_field_of_another_kind(frame: f.Frame, data: st.DataObject, value: Any) -> None:
    plain = json.loads(CODEC.encode(frame))
    target = plain
    while True:
        key = data.draw(st.sampled_from(sorted(target)))
        if not (isinstance(target[key], dict) and target[key]) or data.draw(st.booleans()):
            break
        target = target[key]
    target[key] = value
    for item in CODEC.decode(json.dumps(plain)):
        assert isinstance(item, Unreadable) or CODEC.decode(CODEC.encode(item)) == [item]


@given(json_values)
def test_depth_is_counted_as_the_parser_counts_it(value: Any) -> None:
    def depth(item: Any) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    data, real = msgspec.json.encode(value) if json.dumps(value).isascii() else json.dumps(value).encode(), depth(value)
    assert not depth_exceeds(data, real)
    if real:
        assert depth_exceeds(data, real - 1)


def test_depth_at_its_limit() -> None:
    inner = MAX_DEPTH - 2
    message = '{"kind":"request","request_id":1,"op":"actor_ask","params":{"agent_id":"a","name":"b","message":%s}}'
    (frame,) = CODEC.decode(message % ("[" * inner + "]" * inner))
    assert isinstance(frame, f.RequestFrame)
    assert isinstance(unreadable(message % ("[" * (inner + 1) + "]" * (inner + 1))).error, BadFrame)
    assert not depth_exceeds(b'"' + b"[" * 100 + b'"', 2)
    assert depth_exceeds(b'["\\"]",' + b"[" * 100, 50)
