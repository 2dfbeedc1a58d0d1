"""Discussions: everybody in turn, and nobody who can stall the round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions.adapters.check import check_adapter
from agorio.actors.sessions.adapters.discussion import DiscussionAdapter, DiscussionState
from agorio.actors.sessions.metadata import SessionSetup
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput, ProtocolError, TurnError
from agorio.mailbox.events import EV_CONTEXT_SET, EV_HANDOFF, EV_PACKET, EV_TASK_PROGRESS, EV_TEXT, EV_TURN_SKIPPED

ADAPTER = DiscussionAdapter()


def setup(*members: str, creator: str = "", **knobs: Any) -> SessionSetup:
    return SessionSetup("s", ADAPTER.manifest, creator or members[0], members, 0.0, None, knobs=knobs)


def said(sender: str, text: Any = "hello", event_type: str = EV_TEXT) -> Envelope:
    return Envelope("s", sender, None, event_type, {"text": text})


def skip(agent_id: str, reason: str = "silent") -> Envelope:
    return Envelope("s", "a", None, EV_TURN_SKIPPED, {"agent_id": agent_id, "reason": reason})


def say(state: DiscussionState, *senders: str) -> DiscussionState:
    for sender in senders:
        ADAPTER.validate_send(state, said(sender))
        state = ADAPTER.fold(state, said(sender))
    return state


def fold(state: DiscussionState, *envelopes: Envelope) -> DiscussionState:
    for envelope in envelopes:
        state = ADAPTER.fold(state, envelope)
    return state


def start(*members: str, **knobs: Any) -> DiscussionState:
    return ADAPTER.initial_state(setup(*members, **knobs))


def test_it_keeps_its_promises() -> None:
    check_adapter(ADAPTER)
    check_adapter(ADAPTER, knobs={"max_turns": 5, "max_rounds": 3}, seed=1)


def test_the_creator_goes_first_wherever_it_stands_in_the_list() -> None:
    state = ADAPTER.initial_state(setup("a", "b", "c", creator="b"))
    assert ADAPTER.expected_next(say(state, "b")) == ("a",)
    assert ADAPTER.expected_next(say(state, "b", "a", "c")) == ("b",)


@pytest.mark.parametrize("event_type", [EV_TEXT, EV_PACKET, EV_HANDOFF])
def test_out_of_turn_is_refused_and_says_whose_turn_it_is(event_type: str) -> None:
    state = start("a", "b", "c")
    with pytest.raises(TurnError, match="it is a") as caught:
        ADAPTER.validate_send(state, said("b", event_type=event_type))
    assert caught.value.details["expected"] == ["a"]
    assert state == start("a", "b", "c")


@pytest.mark.parametrize("event_type", [EV_TASK_PROGRESS, EV_CONTEXT_SET, "app.note"])
def test_what_is_no_text_takes_no_turn(event_type: str) -> None:
    state = start("a", "b")
    envelope = Envelope("s", "b", None, event_type, {"x": 1})
    ADAPTER.validate_send(state, envelope)
    assert ADAPTER.fold(state, envelope) == state


@pytest.mark.parametrize("ordering", ["random", "", None, ["round_robin"]])
def test_other_orderings_are_refused(ordering: Any) -> None:
    with pytest.raises(InvalidInput, match="ordering"):
        ADAPTER.validate_create(setup("a", "b", ordering=ordering))
    ADAPTER.validate_create(setup("a", "b", ordering="round_robin"))


@pytest.mark.parametrize("knob", ["max_turns", "max_rounds"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
def test_limits_are_whole_numbers(knob: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=knob):
        ADAPTER.validate_create(setup("a", "b", **{knob: value}))


def test_max_turns_closes_it_and_then_nobody_may_speak() -> None:
    state = say(start("a", "b", max_turns=3), "a", "b", "a")
    assert ADAPTER.auto_close_reason(state) == "max_turns"
    assert ADAPTER.expected_next(state) == ()
    with pytest.raises(TurnError, match="nobody"):
        ADAPTER.validate_send(state, said("b"))


def test_max_rounds_counts_those_passed_over() -> None:
    state = say(start("a", "b", "c", max_rounds=2), "a", "b", "c", "a")
    state = fold(state, skip("b"))
    assert ADAPTER.auto_close_reason(state) is None
    assert ADAPTER.auto_close_reason(say(state, "c")) == "max_rounds"


@pytest.mark.parametrize("reason", ["silent", "failed"])
def test_a_silent_or_failed_speaker_is_passed_over_once(reason: str) -> None:
    state = fold(say(start("a", "b", "c"), "a"), skip("b", reason))
    assert ADAPTER.expected_next(state) == ("c",)
    assert ADAPTER.expected_next(say(state, "c", "a")) == ("b",)


@pytest.mark.parametrize("reason", ["gone", "declined"])
def test_who_is_gone_is_passed_over_from_then_on(reason: str) -> None:
    state = fold(say(start("a", "b", "c"), "a"), skip("b", reason))
    assert ADAPTER.expected_next(say(state, "c", "a")) == ("c",)


def test_who_goes_while_another_has_the_word_takes_nobodys_turn() -> None:
    state = fold(start("a", "b", "c"), skip("c", "gone"))
    assert ADAPTER.expected_next(state) == ("a",)
    assert ADAPTER.expected_next(say(state, "a", "b")) == ("a",)


def test_a_late_notice_about_somebody_else_passes_over_nobody() -> None:
    state = say(start("a", "b", "c"), "a")
    assert fold(state, skip("a")) == state
    assert fold(state, skip("stranger")) == state
    assert fold(state, Envelope("s", "a", None, EV_TURN_SKIPPED, {})) == state


def test_a_round_of_silence_ends_it() -> None:
    state = fold(say(start("a", "b", "c"), "a"), skip("b"), skip("c"))
    assert ADAPTER.auto_close_reason(state) is None
    assert ADAPTER.auto_close_reason(fold(state, skip("a"))) == "all_silent"
    assert ADAPTER.auto_close_reason(fold(say(state, "a"), skip("b"), skip("c"))) is None


def test_a_text_in_between_breaks_the_silence() -> None:
    state = fold(say(fold(start("a", "b", "c"), skip("a")), "b", "c", "a"), skip("b"), skip("c"))
    assert ADAPTER.auto_close_reason(state) is None


def test_everybody_gone_ends_it() -> None:
    state = fold(start("a", "b"), skip("b", "gone"), skip("a", "gone"))
    assert ADAPTER.auto_close_reason(state) == "all_silent"


def test_a_discussion_of_one_left_goes_on_with_that_one() -> None:
    state = fold(say(start("a", "b"), "a"), skip("b", "gone"))
    assert ADAPTER.expected_next(say(state, "a")) == ("a",)


def test_a_text_without_text_is_refused() -> None:
    with pytest.raises(InvalidInput):
        ADAPTER.validate_send(start("a", "b"), said("a", None))


def test_packets_and_handoffs_are_shown() -> None:
    assert ADAPTER.render(Envelope("s", "a", None, EV_PACKET, {"body": "hello"})) == "hello"
    assert ADAPTER.render(said("a")) == "hello"
    assert ADAPTER.render(skip("a")) == ""


MOVES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["say", "silent", "failed", "gone", "note"])), max_size=30
)


@given(st.integers(2, 4), MOVES)
def test_the_word_always_goes_to_somebody_who_is_there(size: int, moves: list[tuple[int, str]]) -> None:
    members = tuple("abcd"[:size])
    state = start(*members)
    gone: set[str] = set()
    for number, move in moves:
        member = members[number % size]
        if move == "say":
            expected = ADAPTER.expected_next(state)
            try:
                ADAPTER.validate_send(state, said(member))
            except ProtocolError:
                assert member not in expected
                continue
            assert member in expected
            state = fold(state, said(member))
        elif move == "note":
            state = fold(state, Envelope("s", member, None, "app.note", {}))
        else:
            gone |= {member} if move == "gone" else set()
            state = fold(state, skip(member, move))
        if ADAPTER.auto_close_reason(state):
            assert ADAPTER.expected_next(state) == ()
            break
        assert not gone & set(ADAPTER.expected_next(state))


@given(st.integers(2, 5))
def test_silence_ends_after_exactly_one_round(size: int) -> None:
    state = start(*"abcde"[:size])
    skips = 0
    while ADAPTER.auto_close_reason(state) is None:
        state = fold(state, skip(*ADAPTER.expected_next(state)))
        skips += 1
    assert skips == size
