"""Expectations: who is waited for, when that fires, and that the same wait fires once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.adapters.consulting import ConsultingAdapter
from agorio.actors.sessions.adapters.discussion import DiscussionAdapter
from agorio.actors.sessions.adapters.registry import default_adapters
from agorio.actors.sessions.adapters.workflow import WorkflowAdapter
from agorio.actors.sessions.expectations import (
    EVALUATORS,
    REACTIONS,
    Activity,
    Due,
    Waiting,
    check_expectations,
    due,
    fold_activity,
    mark_fired,
    next_due,
    overdue,
    seconds_of,
    start_activity,
)
from agorio.actors.sessions.graph import TransitionGraph
from agorio.actors.sessions.metadata import Expectation, Manifest, SessionSetup, SessionState
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput
from agorio.mailbox.events import (
    EV_CONTEXT_SET,
    EV_EXPECTATION_VIOLATED,
    EV_PACKET,
    EV_SESSION_CLOSED,
    EV_SESSION_EXPIRED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_ACK,
    EV_SESSION_INVITE_REJECT,
    EV_SESSION_OPENED,
    EV_TASK_PROGRESS,
    EV_TEXT,
    EV_TURN_SKIPPED,
)

FREE = SessionAdapter()
FREE.manifest = Manifest("free")


class Watched:
    """A session as the hub keeps it: the adapter's state and the activity folded side by side."""

    def __init__(
        self,
        *expectations: Expectation,
        members: tuple[str, ...] = ("a", "b", "c"),
        adapter: SessionAdapter = FREE,
        knobs: Any = None,
    ) -> None:
        self.adapter = adapter
        self.setup = SessionSetup(
            "s", adapter.manifest, members[0], members, 0.0, None, knobs=knobs or {}, expectations=expectations
        )
        self.state = adapter.initial_state(self.setup)
        self.activity = start_activity(self.setup)
        self.log: list[tuple[Envelope, float, tuple[str, ...] | None]] = []

    def post(self, at: float, sender: str, event_type: str = EV_TEXT, data: Any = None, to: Any = None) -> Watched:
        payload = {"text": "x"} if data is None else data
        envelope = Envelope("s", sender, to, event_type, payload, sequence=len(self.log) + 1)
        if event_type not in (EV_SESSION_INVITE, EV_SESSION_INVITE_ACK, EV_SESSION_INVITE_REJECT):
            self.state = self.adapter.fold(self.state, envelope)
        expected = self.adapter.expected_next(self.state)
        self.activity = fold_activity(self.activity, envelope, at, expected)
        self.log.append((envelope, at, expected))
        return self

    def opened(self, at: float = 0.0) -> Watched:
        for member in self.setup.invitees:
            self.post(at, member, EV_SESSION_INVITE_ACK, {})
        return self.post(at, self.setup.creator_id, EV_SESSION_OPENED, {})

    def skip(self, at: float, member: str, reason: str = "silent") -> Watched:
        return self.post(at, self.setup.creator_id, EV_TURN_SKIPPED, {"agent_id": member, "reason": reason})

    def due(self) -> tuple[float, tuple[str, ...]] | None:
        found = next_due(self.activity, self.setup)
        return None if found is None else (found.at, found.violators)

    def fire(self) -> Due:
        found = next_due(self.activity, self.setup)
        assert found is not None
        self.activity = mark_fired(self.activity, found.key)
        return found

    def refolded(self) -> Activity:
        activity = start_activity(self.setup)
        for envelope, at, expected in self.log:
            activity = fold_activity(activity, envelope, at, expected)
        return activity


def within(name: str, seconds: float, reaction: str = "audit", applies_to: Any = None) -> Expectation:
    return Expectation(name, reaction, {"seconds": seconds}, applies_to)


def test_acks_within_names_those_who_have_not_answered() -> None:
    session = Watched(within("acks_within", 30))
    assert session.due() == (30.0, ("b", "c"))
    session.post(5, "b", EV_SESSION_INVITE_ACK, {})
    assert session.due() == (30.0, ("c",))
    session.post(6, "c", EV_SESSION_INVITE_REJECT, {})
    assert session.due() is None


def test_acks_within_ends_with_the_opening() -> None:
    session = (
        Watched(within("acks_within", 30)).post(1, "b", EV_SESSION_INVITE_ACK, {}).post(1, "a", EV_SESSION_OPENED, {})
    )
    assert session.due() is None


def test_reply_within_counts_from_the_question() -> None:
    session = Watched(within("reply_within", 10), members=("a", "b")).opened()
    assert session.due() is None
    session.post(5, "a").post(9, "a")
    assert session.due() == (15.0, ("b",))
    assert session.post(12, "b").due() is None


def test_an_answer_needs_no_answer() -> None:
    session = Watched(within("reply_within", 600), members=("a", "b"), adapter=ConsultingAdapter()).opened()
    assert session.post(1, "a").due() == (601.0, ("b",))
    assert session.post(2, "b").due() is None
    free = Watched(within("reply_within", 600), members=("a", "b")).opened().post(1, "a").post(2, "b")
    assert free.due() is None
    assert free.post(3, "b").due() == (603.0, ("a",))


def test_a_word_to_another_is_no_answer() -> None:
    session = Watched(within("reply_within", 10)).opened().post(0, "a", to=["b"]).post(3, "b", to=["c"])
    assert session.due() == (10.0, ("b",))
    assert session.fire().violators == ("b",)
    assert session.due() == (13.0, ("c",))


def test_packets_count_as_text_and_only_whose_turn_it_is_owes() -> None:
    knobs = {"graph": TransitionGraph.round_robin("a b c".split()).to_dict()}
    session = Watched(within("reply_within", 10), adapter=WorkflowAdapter(), knobs=knobs).opened()
    session.post(5, "a", EV_PACKET, {"body": "x"})
    assert session.due() == (15.0, ("b",))
    session.post(9, "b", EV_PACKET, {"body": "x"})
    assert session.due() == (19.0, ("c",))


def test_max_silence_is_the_sessions() -> None:
    session = Watched(within("max_silence", 60)).opened(7)
    assert session.due() == (67.0, ())
    assert session.post(20, "b").due() == (80.0, ())


@pytest.mark.parametrize("event_type", [EV_TASK_PROGRESS, EV_CONTEXT_SET, EV_EXPECTATION_VIOLATED, EV_TURN_SKIPPED])
def test_bookkeeping_breaks_no_silence(event_type: str) -> None:
    session = Watched(within("max_silence", 60)).opened()
    assert session.post(20, "a", event_type, {}).due() == (60.0, ())


def test_max_silence_of_some_is_each_ones_own() -> None:
    session = Watched(within("max_silence", 60, applies_to=["b", "initiator"])).opened()
    assert session.due() == (60.0, ("a", "b"))
    session.post(30, "b").post(40, "c")
    assert session.due() == (60.0, ("a",))
    session.fire()
    assert session.due() == (90.0, ("b",))


def test_an_invitation_is_nothing_said() -> None:
    session = Watched(within("max_silence", 60, applies_to=["a"])).post(0, "a", EV_SESSION_INVITE, {}, ["b"])
    assert session.opened(50).due() == (110.0, ("a",))


def test_turn_within_follows_the_word() -> None:
    session = Watched(within("turn_within", 120), adapter=DiscussionAdapter())
    assert session.due() is None
    assert session.opened(10).due() == (130.0, ("a",))
    assert session.post(20, "a").due() == (140.0, ("b",))
    assert session.post(25, "c", "app.note", {}).due() == (140.0, ("b",))
    assert session.skip(30, "c", "gone").due() == (140.0, ("b",))
    assert session.skip(140, "b").due() == (260.0, ("a",))


def test_a_turn_that_comes_back_to_the_same_member_is_a_new_one() -> None:
    graph = {"initial_speaker": "a", "default_target": {"name": "stay"}}
    session = Watched(within("turn_within", 120), adapter=WorkflowAdapter(), knobs={"graph": graph}).opened()
    session.fire()
    assert session.due() is None
    assert session.post(130, "a").due() == (250.0, ("a",))
    session.fire()
    assert session.skip(250, "a").due() == (370.0, ("a",))


def test_turn_within_needs_turns() -> None:
    assert Watched(within("turn_within", 1)).opened().due() is None


def test_a_wait_fires_once_and_the_next_one_again() -> None:
    session = Watched(within("max_silence", 3600)).opened()
    for hour in range(3):
        fired = session.fire()
        assert fired.at == 3600.0 + 10_000 * hour
        assert session.due() is None
        session.post(10_000 * (hour + 1), "a")
    assert session.due() == (33_600.0, ())


def test_a_firing_is_remembered_by_the_log() -> None:
    session = Watched(within("turn_within", 5, "warn"), adapter=DiscussionAdapter()).opened()
    found = next_due(session.activity, session.setup)
    assert found is not None
    assert found.data()["violators"] == ["a"]
    assert "turn_within" in found.data()["detail"]
    session.post(5, "a", EV_EXPECTATION_VIOLATED, found.data())
    assert session.due() is None
    assert session.refolded() == session.activity
    assert session.post(6, "a").due() == (11.0, ("b",))


def test_a_firing_that_names_some_leaves_the_others() -> None:
    session = Watched(within("acks_within", 30))
    session.activity = mark_fired(session.activity, Due(0, session.setup.expectations[0], 30.0, ("b",), 0).key)
    assert session.due() == (30.0, ("c",))


@pytest.mark.parametrize("key", ["", "x", "[]", "[1]", "5", "null", '[0,"x"]'])
def test_a_key_that_says_nothing_changes_nothing(key: str) -> None:
    activity = Watched(within("max_silence", 1)).activity
    assert mark_fired(activity, key) == activity


def test_warn_first_and_hide_later() -> None:
    session = Watched(*DiscussionAdapter.manifest.expectations, adapter=DiscussionAdapter()).opened()
    found = overdue(session.activity, session.setup, 1000.0)
    assert [(one.at, one.expectation.on_violation) for one in found] == [(120.0, "warn"), (600.0, "hide")]
    assert overdue(session.activity, session.setup, 119.9) == ()


@pytest.mark.parametrize(
    ("named", "violators"), [(["c"], ("c",)), (["participant"], ("b", "c")), (["initiator"], None)]
)
def test_applies_to_takes_ids_and_roles(named: list[str], violators: tuple[str, ...] | None) -> None:
    session = Watched(within("acks_within", 30, applies_to=named))
    assert session.due() == (None if violators is None else (30.0, violators))


@pytest.mark.parametrize(("event_type", "state"), [(EV_SESSION_CLOSED, "closed"), (EV_SESSION_EXPIRED, "expired")])
def test_nothing_is_due_after_the_end(event_type: str, state: str) -> None:
    every = [within(name, 1) for name in EVALUATORS]
    session = Watched(*every, adapter=DiscussionAdapter()).opened().post(1, "a")
    assert session.due() is not None
    session.post(2, "a", event_type, {"reason": "x"})
    assert session.due() is None
    assert session.activity.state is SessionState(state)


def test_who_is_gone_owes_nothing() -> None:
    session = Watched(within("reply_within", 10)).opened().post(0, "a", to=["b", "c"])
    assert session.skip(1, "b", "gone").due() == (10.0, ("c",))


def test_debts_are_kept_only_where_somebody_looks() -> None:
    session = Watched(within("max_silence", 10)).opened().post(0, "a")
    assert session.activity.debts == ()


def test_an_evaluator_of_ones_own() -> None:
    def often(expectation: Expectation, activity: Activity, setup: SessionSetup) -> list[Waiting]:
        return [Waiting(who, activity.content) for who in activity.members if who not in activity.spoke]

    evaluators = {**EVALUATORS, "everybody_speaks": often}
    session = Watched(within("everybody_speaks", 50)).opened().post(5, "b")
    found = due(session.setup.expectations[0], 0, session.activity, session.setup, evaluators)
    assert found is not None
    assert (found.at, found.violators) == (55.0, ("a", "c"))
    assert next_due(session.activity, session.setup) is None


def test_the_manifests_of_the_house_are_sound() -> None:
    for adapter in default_adapters():
        check_expectations(adapter.manifest.expectations)


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        (Expectation("turn_withing", "audit"), "acks_within, reply_within, max_silence, turn_within"),
        (Expectation("turn_within", "notify"), "audit, warn, hide, auto_close"),
        (within("turn_within", 0), "positive"),
        (within("turn_within", -5), "positive"),
        (Expectation("turn_within", "audit", {"seconds": "soon"}), "duration"),
        (Expectation("turn_within", "audit", {"second": 5}), "params"),
        (within("turn_within", 5, applies_to=["stranger"]), "stranger"),
    ],
)
def test_what_would_silently_never_fire_is_refused(expectation: Expectation, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        check_expectations([expectation], EVALUATORS, REACTIONS, ["a", "initiator"])


def test_names_of_ones_own_are_known_where_they_are_registered() -> None:
    own = Expectation("mine", "page", {"seconds": "5m", "who": "x"})
    check_expectations([own], [*EVALUATORS, "mine"], [*REACTIONS, "page"])
    assert seconds_of(own) == 300.0
    with pytest.raises(InvalidInput, match="needs params"):
        check_expectations([Expectation("mine", "audit")], ["mine"])


def test_a_session_outlives_an_evaluator_that_is_no_longer_registered() -> None:
    session = Watched(within("lost", 1), within("max_silence", 9)).opened()
    assert session.due() == (9.0, ())


MEMBERS = ("a", "b", "c")
EVENTS = st.tuples(
    st.floats(0, 500),
    st.sampled_from(MEMBERS),
    st.sampled_from([EV_TEXT, EV_PACKET, EV_TASK_PROGRESS, EV_TURN_SKIPPED, "app.note"]),
    st.none() | st.lists(st.sampled_from(MEMBERS), max_size=2),
)


@given(st.lists(EVENTS, max_size=20), st.sampled_from([FREE, DiscussionAdapter()]))
def test_every_wait_fires_exactly_once_however_often_one_looks(moves: list[Any], adapter: SessionAdapter) -> None:
    every = [within(name, 20) for name in EVALUATORS]
    session, now, keys = Watched(*every, adapter=adapter).opened(), 0.0, []
    for pause, sender, event_type, to in moves:
        now += pause
        for found in overdue(session.activity, session.setup, now):
            keys.append(found.key)
            assert found.at <= now
            assert json.loads(found.key)[:2] == [found.index, found.sequence]
            session.post(now, "a", EV_EXPECTATION_VIOLATED, found.data())
        assert overdue(session.activity, session.setup, now) == ()
        data = {"agent_id": sender, "reason": "silent"} if event_type == EV_TURN_SKIPPED else {"text": "x"}
        session.post(now, sender, event_type, data, to)
    assert len(keys) == len(set(keys))
    assert session.refolded() == session.activity


@given(st.lists(EVENTS, max_size=20))
def test_a_next_firing_never_moves_to_before_what_armed_it(moves: list[Any]) -> None:
    session, now = Watched(*[within(name, 20) for name in EVALUATORS]).opened(), 0.0
    for pause, sender, event_type, to in moves:
        now += pause
        session.post(now, sender, event_type, {"text": "x"}, to)
        found = next_due(session.activity, session.setup)
        assert found is not None
        assert found.sequence <= len(session.log)
