"""The documents of the protocol say what the code does, and the connection's table is kept."""

from __future__ import annotations

import itertools
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from agorio.actors.sessions.operations import operations
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import BadFrame, InvalidInput
from agorio.transports import frames as f
from agorio.transports.limits import Budget, Limits
from agorio.transports.machine import MAY_SEND, TRANSITIONS, State, after, check
from agorio.transports.metering import FrameMeter, Violation
from agorio.transports.reconnect import Reconnect
from agorio.transports.shapes import FRAME_SHAPES
from tests.websocket.raw import handshake, ws_frame

DOCS = Path(__file__).parents[2] / "docs"
SAID = Envelope("s", "a")
ONE_OF_EACH: list[f.Frame] = [
    f.HelloFrame(),
    f.WelcomeFrame("x", "now"),
    f.SendFrame(1, SAID),
    f.AcceptFrame(1, SAID),
    f.ErrorFrame("error", "no"),
    f.NotifyFrame("a", SAID),
    f.ReceiptFrame("a", "s", 1),
    f.SubscribeFrame(1, "s"),
    f.UnsubscribeFrame(1),
    f.EventFrame(1, SAID),
    f.RequestFrame(1, "x", None),
    f.ResponseFrame(1),
    f.PingFrame(),
    f.PongFrame(),
]


def test_the_schemas_are_those_of_the_code() -> None:
    made: dict[str, str] = runpy.run_path(str(DOCS / "make_protocol.py"))["rendered"]()
    for name, text in made.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"run `python docs/make_protocol.py`: {name} is old"


def test_every_operation_and_frame_is_in_the_schema() -> None:
    schema = json.loads((DOCS / "protocol.schema.json").read_text(encoding="utf-8"))
    named = {rule["if"]["properties"]["op"]["const"] for rule in schema["$defs"]["RequestWire"]["allOf"]}
    assert named == set(operations())
    assert len(schema["$defs"]["Frame"]["oneOf"]) == len(FRAME_SHAPES) == len(ONE_OF_EACH)
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    for shape in FRAME_SHAPES:
        assert f"| `{shape.__struct_config__.tag}` |" in page


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("side", ["client", "hub"])
@pytest.mark.parametrize("frame", ONE_OF_EACH, ids=lambda frame: type(frame).__name__)
def test_who_may_send_what_when(state: State, side: Any, frame: f.Frame) -> None:
    if type(frame) in MAY_SEND[state, side]:
        check(state, side, frame)
    else:
        with pytest.raises(BadFrame):
            check(state, side, frame)


def test_every_way_through_the_states_ends() -> None:
    assert after(State.CONNECTING, "opened") is State.HELLO
    assert after(State.HELLO, f.WelcomeFrame) is State.OPEN
    for state, event in itertools.product(State, ["close"]):
        assert after(state, event) is State.CLOSING
    assert not [key for key in TRANSITIONS if key[0] is State.CLOSING]
    assert after(State.OPEN, f.WelcomeFrame) is State.OPEN


def stream_of_bytes() -> bytes:
    frames = [ws_frame(b"a" * size, 1) for size in (0, 1, 125, 126, 70_000)]
    fragments = [ws_frame(b"b", 1, last=False), ws_frame(b"ping", 9), ws_frame(b"b", 0)]
    return b"".join([*frames, *fragments])


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 10**6])
def test_the_meter_counts_the_same_however_the_bytes_are_cut(step: int) -> None:
    meter = FrameMeter(Limits())
    data = handshake() + stream_of_bytes()
    assert sum(meter.feed(data[at : at + step]) for at in range(0, len(data), step)) == 8
    assert meter.in_frames


@pytest.mark.parametrize("step", [1, 5, 10**6])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ws_frame(b"a" * 1001), 1009),
        (ws_frame(b"", claimed=2**62), 1009),
        (ws_frame(b"a" * 600, 1, last=False) + ws_frame(b"a" * 600, 0), 1009),
        (ws_frame(b"", 1, last=False) + ws_frame(b"", 0, last=False) * 8, 1008),
        (ws_frame(b"a" * 126, 9), 1002),
    ],
)
def test_the_meter_knows_a_violation_from_the_header(data: bytes, code: int, step: int) -> None:
    meter = FrameMeter(Limits(max_message=1000, max_fragments=8))
    meter.feed(handshake())
    with pytest.raises(Violation) as caught:
        for at in range(0, len(data), step):
            meter.feed(data[at : at + step])
    assert caught.value.code == code


def test_an_answer_that_refuses_is_no_frame() -> None:
    meter = FrameMeter(Limits(max_message=10))
    meter.feed(b"HTTP/1.1 403 \r\n\r\n" + b"\xff" * 100)
    meter.feed(b"\xff" * 100)
    assert not meter.in_frames


def test_a_budget_is_exact() -> None:
    budget = Budget(10, 0.0)
    assert budget.spend(10, 0.0) == 0
    assert budget.spend(5, 0.0) == 0.5
    assert budget.spend(0, 0.5) == 0
    assert budget.spend(10, 100.0) == 0
    assert budget.spend(1, 100.0) == pytest.approx(0.1)


def test_delays_grow_and_are_bounded() -> None:
    policy = Reconnect(initial=1, factor=2, max_delay=10)
    assert [policy.delay(n, 1.0) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    assert policy.delay(10**6, 0.5) == 5
    assert policy.delay(3, 0.0) == 0


@pytest.mark.parametrize(
    "change", [{"max_message": 0}, {"heartbeat": -1}, {"max_frames": "5"}, {"hello_timeout": True}]
)
def test_limits_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Limits(**change)
