"""The pure rules: the table, the payloads, the fold and the rolling median."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions.identity import ObservedStat
from agorio.actors.sessions.task_payloads import MAX_PROGRESS, PAYLOADS, check_payload
from agorio.actors.sessions.tasks import (
    TASK_TRANSITIONS,
    WINDOW,
    TaskMetadata,
    TaskRequest,
    TaskSpec,
    TaskState,
    check_move,
    cut,
    fold_task,
    fold_tasks,
    judge_task_event,
    observe,
    read_request,
)
from agorio.mailbox.clock import iso
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput, TaskError
from agorio.mailbox.events import (
    EV_TASK_CANCEL_REQUEST,
    EV_TASK_COMPLETED,
    EV_TASK_EXPIRED,
    EV_TASK_FAILED,
    EV_TASK_PROGRESS,
    EV_TASK_STARTED,
    TASK_ENDS,
    TASK_EVENTS,
)

RUNNING = TaskMetadata("t", "owner", TaskSpec("x"), created_at=iso(0), expires_at=iso(10))


def said(event: str, data: dict[str, Any], sender: str = "owner", at: float = 1.0) -> Envelope:
    return Envelope("s", sender, None, event, {"task_id": "t", **data}, created_at=iso(at))


def test_the_table_has_a_row_for_every_event_and_ends_are_for_good() -> None:
    assert {event for _, event in TASK_TRANSITIONS} == TASK_EVENTS == set(PAYLOADS)
    for (state, event), after in TASK_TRANSITIONS.items():
        assert state in (None, TaskState.RUNNING)
        assert (after is not TaskState.RUNNING) == (event in TASK_ENDS)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(sorted(TASK_ENDS), sorted(TASK_EVENTS))))
def test_the_first_end_wins(first: str, second: str) -> None:
    ended = fold_task(RUNNING, said(first, {"reason": "first"}))
    assert ended is not None
    assert ended.is_terminal()
    assert fold_task(ended, said(second, {"reason": "second", "progress": {"a": 1}}, at=2.0)) is ended


def test_progress_is_merged_and_the_request_remembered() -> None:
    task = fold_task(RUNNING, said(EV_TASK_PROGRESS, {"progress": {"a": 1, "b": 1}}))
    task = fold_task(task, said(EV_TASK_PROGRESS, {"progress": {"b": 2}}, at=2.0))
    task = fold_task(task, said(EV_TASK_CANCEL_REQUEST, {"reason": "enough"}, sender="peer"))
    assert task is not None
    assert task.progress == {"a": 1, "b": 2}
    assert task.last_progress_at == iso(2.0)
    assert (task.cancel_requested_by, task.cancel_reason) == ("peer", "enough")


def test_an_ended_task_leaves_the_fold_and_strangers_change_nothing() -> None:
    tasks = {"t": RUNNING}
    assert fold_tasks(tasks, said(EV_TASK_COMPLETED, {})) == {}
    assert fold_tasks(tasks, Envelope("s", "owner", None, EV_TASK_COMPLETED, {"task_id": "other"})) is tasks


@pytest.mark.parametrize(
    ("event", "data", "path"),
    [
        (EV_TASK_STARTED, {}, "title"),
        (EV_TASK_STARTED, {"title": ""}, "title"),
        (EV_TASK_STARTED, {"title": "x" * 513}, "title"),
        (EV_TASK_STARTED, {"title": 7}, "title"),
        (EV_TASK_STARTED, {"title": "x", "task_id": "mine"}, "task_id"),
        (EV_TASK_STARTED, {"title": "x", "expires_at": iso(0)}, "expires_at"),
        (EV_TASK_STARTED, {"title": "x", "payload": "text"}, "payload"),
        (EV_TASK_STARTED, {"title": "x", "ttl": -1}, "ttl"),
        (EV_TASK_STARTED, {"title": "x", "capability": "c" * 129}, "capability"),
        (EV_TASK_PROGRESS, {"task_id": "t"}, "progress"),
        (EV_TASK_PROGRESS, {"task_id": "t", "progress": [1]}, "progress"),
        (EV_TASK_PROGRESS, {"progress": {}}, "task_id"),
        (EV_TASK_FAILED, {"task_id": "t", "error": 7}, "error"),
        (EV_TASK_COMPLETED, {"task_id": "t", "error": "no"}, "error"),
        (EV_TASK_CANCEL_REQUEST, {"task_id": "t", "reason": "r" * 501}, "reason"),
        (EV_TASK_CANCEL_REQUEST, {"task_id": "t" * 129}, "task_id"),
    ],
)
def test_a_bad_payload_is_refused_with_its_path(event: str, data: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        judge_task_event({"t": RUNNING}, Envelope("s", "owner", None, event, data), 0.0, lambda: "id", None)
    assert path in caught.value.details.get("path", "") + str(caught.value)


def test_only_the_owner_speaks_of_its_task() -> None:
    with pytest.raises(TaskError, match="only its owner"):
        check_move({"t": RUNNING}, said(EV_TASK_COMPLETED, {}, sender="peer"), 0.0)
    assert check_move({"t": RUNNING}, said(EV_TASK_CANCEL_REQUEST, {}, sender="peer"), 0.0)


def test_a_second_request_to_cancel_is_no_news() -> None:
    asked = attrs.evolve(RUNNING, cancel_requested_by="peer")
    assert not check_move({"t": asked}, said(EV_TASK_CANCEL_REQUEST, {}), 0.0)


def test_after_the_ttl_a_task_can_only_expire() -> None:
    with pytest.raises(TaskError, match="passed its TTL"):
        check_move({"t": RUNNING}, said(EV_TASK_COMPLETED, {}), 10.0)
    assert check_move({"t": RUNNING}, said(EV_TASK_EXPIRED, {}), 10.0)


def test_progress_is_bounded() -> None:
    many = {str(number): 0 for number in range(MAX_PROGRESS + 1)}
    with pytest.raises(InvalidInput, match="more than 256 fields"):
        check_move({"t": RUNNING}, said(EV_TASK_PROGRESS, {"progress": many}), 0.0)


def test_a_start_gets_the_hubs_id_and_its_own_or_the_rules_ttl() -> None:
    start = Envelope("s", "owner", None, EV_TASK_STARTED, {"title": "x", "ttl": "5s"})
    judged = judge_task_event({}, start, 100.0, lambda: "id", "15m")
    assert judged is not None
    assert judged.task_id == "id"
    assert judged.event_data == {"task_id": "id", "title": "x", "expires_at": iso(105)}
    judged = judge_task_event({}, attrs.evolve(start, event_data={"title": "x"}), 100.0, lambda: "id", "15m")
    assert judged is not None
    assert judged.event_data["expires_at"] == iso(1000)
    judged = judge_task_event({}, attrs.evolve(start, event_data={"title": "x"}), 100.0, lambda: "id", None)
    assert judged is not None
    assert judged.event_data["expires_at"] is None


def test_a_request_survives_its_payload() -> None:
    request = TaskRequest(TaskSpec("x", "long", {"a": [1]}, "c"), "5s", "old")
    assert read_request(request.to_data()) == request
    check_payload(EV_TASK_STARTED, TaskRequest(TaskSpec("x")).to_data())


def test_long_texts_are_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


@given(st.lists(st.tuples(st.sampled_from(sorted(TASK_ENDS)), st.integers(0, 10**6)), max_size=400))
def test_the_track_record_adds_up_and_its_median_is_true(ends: list[tuple[str, int]]) -> None:
    stat, latencies = ObservedStat(), []
    for event, micros in ends:
        ended = fold_task(RUNNING, said(event, {}, at=micros / 1e6))
        assert ended is not None
        stat = observe(stat, ended)
        if event == EV_TASK_COMPLETED:
            latencies.append(ended.latency_ms)
    assert stat.n == len(ends) == stat.completed + stat.failed + stat.expired + stat.cancelled
    assert len(stat.window) <= WINDOW
    newest = [one for one in latencies if one is not None][-WINDOW:]
    assert stat.p50_latency_ms == (statistics.median(newest) if newest else None)
