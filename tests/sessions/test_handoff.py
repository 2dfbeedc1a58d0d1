"""Handoffs, finishes, packets and context changes: built, read, refused, shown."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions.handoff import (
    ContextUpdates,
    Finish,
    Handoff,
    Packet,
    Routing,
    ToolResult,
    build_packet,
    read_context_set,
    read_handoff,
    read_packet,
    render_routed,
    resolve_target,
    route_round,
)
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import GraphError, InvalidInput
from agorio.mailbox.events import EV_HANDOFF, EV_PACKET, EV_TEXT
from agorio.mailbox.frozen import FrozenDict, freeze_payload

IDS = {"bob": "id-bob"}


def test_context_that_the_builder_takes_is_what_the_reader_finds() -> None:
    data = build_packet("hi", context_set={"x": 1}, context_delete=["y"])
    assert read_packet(data).updates == ContextUpdates({"x": 1}, ["y"])


def test_a_handoff_to_a_name_becomes_one_to_an_id() -> None:
    data = build_packet("hi", Handoff("bob", "knows more"), tool="pass", resolve=IDS.__getitem__)
    assert data["routing"] == {"kind": "handoff", "tool": "pass", "reason": "knows more", "target": "id-bob"}


def test_a_finish_carries_its_summary() -> None:
    packet = read_packet(build_packet("bye", Finish("all done")))
    assert packet == Packet(Routing("finish", None, "finished", None, "all done"), body="bye")


@pytest.mark.parametrize(
    "data",
    [
        {"routing": None},
        {"routing": "x"},
        {"routing": {"kind": "jump"}},
        {"routing": {"kind": ["text"]}},
        {"routing": {"kind": "handoff"}},
        {"routing": {"kind": "handoff", "target": 7}},
        {"routing": {"kind": "text", "target": "b"}},
        {"routing": {"kind": "finish", "summary": 3}},
        {"routing": {"tool": ["t"]}},
        {"context_updates": []},
        {"context_updates": {"set": []}},
        {"context_updates": {"delete": "x"}},
        {"context_updates": {"delete": [1]}},
        {"context_updates": {"sets": {}}},
        {"context": {"x": 1}},
        {"context_set": {"x": 1}},
        {"body": 5},
    ],
)
def test_a_malformed_packet_is_refused_with_a_path(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_packet(data)
    assert caught.value.details["path"].startswith("event_data")


@pytest.mark.parametrize(
    "data", [{}, {"target": ""}, {"target": 3}, {"target": "b", "text": 1}, {"target": "b", "reason": []}]
)
def test_a_malformed_handoff_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_handoff(data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"key": "x"},
        {"key": 1, "value": 2},
        {"key": "x", "value": 1, "set": {}},
        {"set": 1},
        {"delete": "xy"},
        {"x": 1},
    ],
)
def test_a_malformed_context_change_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_context_set(data)


def test_both_spellings_of_a_context_change() -> None:
    assert read_context_set({"key": "x", "value": None}) == ContextUpdates({"x": None})
    assert read_context_set({"set": {"x": 1}, "delete": ["y"]}) == ContextUpdates({"x": 1}, ["y"])


def test_deletions_come_before_settings() -> None:
    updates = ContextUpdates({"x": 2}, ["x", "y"])
    assert updates.apply(FrozenDict({"x": 1, "y": 1, "z": 1})) == {"x": 2, "z": 1}


@pytest.mark.parametrize(
    ("calls", "routing"),
    [
        ([], Routing()),
        ([ToolResult("search", "text")], Routing()),
        ([ToolResult("end", Finish("s", "r"))], Routing("finish", "end", "r", None, "s")),
        ([ToolResult("go", Handoff("b", "why"))], Routing("handoff", "go", "why", "b")),
        ([ToolResult("done", "ok", {"reason": "because"})], Routing("handoff", "done", "because")),
        ([ToolResult("done", "ok", {"reason": 7})], Routing("handoff", "done")),
        ([ToolResult("done", Handoff("b"))], Routing("handoff", "done", "", "b")),
        (
            [ToolResult("search"), ToolResult("go", Handoff("b")), ToolResult("end", Finish())],
            Routing("handoff", "go", "", "b"),
        ),
    ],
)
def test_the_first_call_that_routes_decides(calls: list[ToolResult], routing: Routing) -> None:
    assert route_round(calls, ["done"]) == routing


def test_targets_are_resolved_where_the_event_names_them() -> None:
    packet = {"routing": {"kind": "handoff", "target": "bob"}, "body": ""}
    assert resolve_target(EV_PACKET, packet, IDS.__getitem__)["routing"]["target"] == "id-bob"
    assert resolve_target(EV_HANDOFF, {"target": "bob"}, IDS.__getitem__) == {"target": "id-bob"}
    assert resolve_target(EV_TEXT, {"text": "bob"}, IDS.__getitem__) == {"text": "bob"}
    assert resolve_target(EV_PACKET, {"routing": 3}, IDS.__getitem__) == {"routing": 3}
    assert packet["routing"] == {"kind": "handoff", "target": "bob"}


def test_a_stranger_as_target_is_refused_with_its_path() -> None:
    with pytest.raises(GraphError) as caught:
        resolve_target(EV_PACKET, {"routing": {"kind": "handoff", "target": "eve"}}, IDS.__getitem__)
    assert caught.value.details["path"] == "event_data.routing.target"


@pytest.mark.parametrize(
    ("event_type", "data", "text"),
    [
        (EV_PACKET, build_packet("hello"), "hello"),
        (EV_PACKET, build_packet("hello", Handoff("b", "why"), tool="go"), "[Handed off via go] why\nhello"),
        (EV_PACKET, build_packet("bye", Finish("it works"), tool="end"), "[Finished via end] it works\nbye"),
        (EV_PACKET, build_packet("", Finish()), "[Finished] finished"),
        (EV_HANDOFF, {"target": "b", "text": "yours"}, "[Handed off]\nyours"),
    ],
)
def test_the_next_reader_sees_the_routing(event_type: str, data: dict[str, Any], text: str) -> None:
    assert render_routed(Envelope("s", "a", None, event_type, data)) == text


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["kind", "tool", "target", "reason", "set", "delete", "key", "value"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(
    st.sampled_from(
        ["routing", "context_updates", "body", "set", "delete", "key", "value", "target", "text", "reason"]
    ),
    ANY,
)


@given(PAYLOADS)
def test_readers_answer_or_refuse(data: dict[str, Any]) -> None:
    frozen = freeze_payload(data)
    for read in (read_packet, read_handoff, read_context_set):
        with suppress(InvalidInput):
            read(frozen)
