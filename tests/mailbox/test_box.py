"""The mailbox by example: policies, leases, lanes, limits, closing, waiting and being cancelled while waiting."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from agorio.mailbox.box import Mailbox, Overflow, Statistics
from agorio.mailbox.errors import ActorStopped, InboxFull, InvalidInput
from agorio.mailbox.priority import Priority

Losses = list[tuple[Any, str]]


def make(capacity: float = 3, overflow: Overflow = "reject", **options: Any) -> tuple[Mailbox[Any], Losses]:
    losses: Losses = []
    return Mailbox(
        capacity, overflow, on_dead_letter=lambda item, reason: losses.append((item, reason)), **options
    ), losses


def fill(box: Mailbox[Any], *items: Any) -> None:
    for item in items:
        box.put_nowait(item)


def test_first_in_first_out_and_would_block_when_empty() -> None:
    box: Mailbox[int] = Mailbox()
    with pytest.raises(trio.WouldBlock):
        box.take_nowait()
    assert box.drain_nowait() == []
    fill(box, *range(100))
    assert [box.take_nowait() for _ in range(50)] == list(range(50))
    assert box.drain_nowait(30) == list(range(50, 80))
    assert box.drain_nowait(64) == list(range(80, 100))
    with pytest.raises(trio.WouldBlock):
        box.take_nowait()


@pytest.mark.parametrize("overflow", ["reject", "block"])
def test_a_full_box_refuses_and_says_what_to_do(overflow: Overflow) -> None:
    box, losses = make(2, overflow, name="ann")
    fill(box, 1, 2)
    with pytest.raises(InboxFull) as caught:
        box.put_nowait(3)
    assert caught.value.details == {"agent": "ann", "depth": 2, "cap": 2}
    for word in ("'ann'", "2 of 2", "Rule.inbox.max_pending"):
        assert word in str(caught.value)
    assert box.drain_nowait() == [1, 2]
    assert losses == []


def test_drop_oldest() -> None:
    box, losses = make(2, "drop_oldest")
    fill(box, 1, 2, 3, 4)
    assert losses == [(1, "drop_oldest"), (2, "drop_oldest")]
    assert box.drain_nowait() == [3, 4]


def test_drop_newest() -> None:
    box, losses = make(2, "drop_newest")
    fill(box, 1, 2, 3, 4)
    assert losses == [(3, "drop_newest"), (4, "drop_newest")]
    assert box.drain_nowait() == [1, 2]


def test_drop_oldest_spares_lifecycle_mail_and_higher_priorities() -> None:
    box, losses = make(2, "drop_oldest")
    box.put_nowait("closed", force=True)
    box.put_nowait("urgent", priority=Priority.URGENT)
    box.put_nowait("normal")
    assert losses == [("normal", "drop_oldest")]
    box.put_nowait("urgent too", priority=Priority.URGENT)
    assert losses[1:] == [("urgent", "drop_oldest")]
    assert box.drain_nowait() == ["urgent too", "closed"]


def test_a_background_newcomer_gives_way_to_what_is_there() -> None:
    box, losses = make(2, "drop_oldest")
    fill(box, 1, 2)
    box.put_nowait(3, priority=Priority.BACKGROUND)
    assert losses == [(3, "drop_oldest")]
    assert [box.take_nowait(), box.take_nowait()] == [1, 2]


def test_drop_oldest_drops_no_leased_item() -> None:
    box, losses = make(2, "drop_oldest")
    fill(box, 1, 2)
    assert box.drain_nowait(2, lease=True) == [1, 2]
    box.put_nowait(3)
    assert losses == [(3, "drop_oldest")]
    box.release(2)
    box.put_nowait(4)
    assert box.take_nowait() == 4


def test_force_passes_the_cap_and_is_counted() -> None:
    box, _ = make(2)
    fill(box, 1, 2)
    box.put_nowait("closed", force=True)
    assert box.used == 3
    assert box.free == 0
    assert box.drain_nowait() == [1, 2, "closed"]
    assert box.statistics().peak_used == 3


def test_control_goes_first_uses_no_slot_and_passes_a_closed_door() -> None:
    box, losses = make(1)
    fill(box, "mail")
    box.put_control("c1")
    box.close()
    box.put_control("c2")
    assert len(box) == 3
    assert (box.used, box.statistics().current_control) == (1, 2)
    assert box.take_nowait() == "c1"
    assert box.drain_nowait() == ["c2", "mail"]
    box.put_control("left")
    assert box.drain_dead("gone") == 1
    assert losses == [("left", "gone")]


def test_priorities_and_keys() -> None:
    box: Mailbox[str] = Mailbox()
    box.put_nowait("x1", key="x")
    box.put_nowait("y1", key="y")
    box.put_nowait("n1")
    box.put_nowait("y2", key="y", priority=Priority.URGENT)
    box.put_nowait("b1", priority=Priority.BACKGROUND)
    box.put_nowait("n2")
    assert box.drain_nowait() == ["y1", "y2", "x1", "n1", "n2", "b1"]
    fill(box, *"abc")
    assert box.drain_nowait() == ["a", "b", "c"]


def test_leases_hold_their_slots() -> None:
    box, _ = make(3)
    fill(box, 1, 2, 3)
    assert box.take_nowait(lease=True) == 1
    assert box.drain_nowait(1, lease=True) == [2]
    statistics = box.statistics()
    assert (statistics.current_used, statistics.current_leased, statistics.current_queued) == (3, 2, 1)
    with pytest.raises(InboxFull):
        box.put_nowait(4)
    box.release()
    box.put_nowait(4)
    assert box.drain_nowait() == [3, 4]
    with pytest.raises(ValueError, match="1 items on lease"):
        box.release(2)


def test_put_back_returns_to_the_front() -> None:
    box, _ = make(3)
    fill(box, 1, 2, 3)
    first, second = box.take_nowait(lease=True), box.take_nowait()
    box.put_back(second)
    box.put_back(first, leased=True)
    assert box.statistics().current_leased == 0
    assert box.statistics().total_taken == 0
    assert box.drain_nowait() == [1, 2, 3]


def test_limits_change_at_run_time() -> None:
    box, losses = make(2)
    box.put_nowait(1, key="k")
    fill(box, 2)
    box.set_limits(4)
    fill(box, 3, 4)
    with pytest.raises(InboxFull, match="4 of 4"):
        box.put_nowait(5)
    box.set_limits(2, "drop_newest")
    fill(box, 6)
    assert losses == [(6, "drop_newest")]
    assert box.drain_nowait() == [1, 2, 3, 4]
    box.set_limits(math.inf)
    fill(box, *range(1000))
    assert len(box) == 1000


@pytest.mark.parametrize(
    "limits", [{"capacity": 0}, {"capacity": 1.5}, {"overflow": "explode"}, {"high_water": 0}, {"capacity": math.nan}]
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(limits))):
        Mailbox(**limits)


def test_high_water_is_called_once_per_rise() -> None:
    marks: list[int] = []

    def mark(statistics: Statistics) -> None:
        marks.append(statistics.current_used)

    box: Mailbox[int] = Mailbox(10, on_high_water=mark)
    fill(box, *range(10))
    assert marks == [8]
    box.drain_nowait(2)
    fill(box, 1)
    assert marks == [8]
    box.drain_nowait(2)
    fill(box, 1, 2)
    assert marks == [8, 8]
    box.set_limits(10, high_water=10)
    fill(box, 3)
    assert marks == [8, 8, 10]
    unbounded: Mailbox[int] = Mailbox(high_water=2, on_high_water=mark)
    fill(unbounded, 1, 2)
    assert marks[3:] == [2]


def test_a_failing_listener_is_logged_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken listener")

    box: Mailbox[int] = Mailbox(2, "drop_oldest", on_dead_letter=fail, on_high_water=fail)
    fill(box, 1, 2, 3)
    assert box.drain_nowait() == [2, 3]
    assert caplog.text.count("RuntimeError: broken listener") == 2


def test_close_ends_the_intake_and_drain_dead_accounts_for_the_rest() -> None:
    box, losses = make(5)
    fill(box, 1, 2)
    box.close()
    with pytest.raises(ActorStopped):
        box.put_nowait(3)
    with pytest.raises(ActorStopped):
        box.put_nowait(3, force=True)
    assert box.take_nowait() == 1
    assert box.drain_dead("stopped") == 1
    assert losses == [(2, "stopped")]
    statistics = box.statistics()
    assert (statistics.total_put, statistics.total_taken, statistics.total_dropped) == (2, 1, 1)
    assert statistics.is_closed


def test_a_box_is_small_and_opens_its_channel_late() -> None:
    box: Mailbox[int] = Mailbox(10)
    assert not hasattr(box, "__dict__")
    assert box._buffer is None
    assert box


# Waiting.


async def test_get_and_wait() -> None:
    box: Mailbox[int] = Mailbox()
    got: list[int] = []

    async def consume() -> None:
        while True:
            got.append(await box.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()
        assert box.statistics().tasks_waiting_get == 1
        fill(box, 1, 2)
        box.put_control(0)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await box.get()
        nursery.cancel_scope.cancel()
    assert got == [0, 1, 2]
    fill(box, 3)
    box.close()
    assert await box.get() == 3
    with pytest.raises(ActorStopped):
        await box.get()
    await box.wait()


async def test_close_wakes_everybody() -> None:
    box, _ = make(1)
    ends: list[str] = []

    async def put() -> None:
        with pytest.raises(ActorStopped):
            await box.put(2)
        ends.append("put")

    async def get() -> None:
        await empty.wait()
        ends.append("get")

    empty: Mailbox[int] = Mailbox()
    fill(box, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        nursery.start_soon(get)
        await trio.testing.wait_all_tasks_blocked()
        box.close()
        empty.close()
    assert sorted(ends) == ["get", "put"]
    assert box.take_nowait() == 1


@pytest.mark.parametrize("overflow", ["reject", "block"])
async def test_putters_wait_their_turn(overflow: Overflow) -> None:
    box, _ = make(2, overflow)
    fill(box, "a", "b")
    async with trio.open_nursery() as nursery:
        for item in range(5):
            nursery.start_soon(box.put, item)
            await trio.testing.wait_all_tasks_blocked()
        assert box.statistics().tasks_waiting_put == 5
        assert box.take_nowait() == "a"
        with pytest.raises(InboxFull):
            box.put_nowait("pushes in")
        assert box.drain_nowait() == ["b", 0]
        assert box.drain_nowait() == [1, 2]
        assert box.take_nowait(lease=True) == 3
        assert box.take_nowait(lease=True) == 4
        await box.wait() if len(box) else None
    box.release(2)


async def test_a_release_lets_putters_in_and_a_lease_does_not() -> None:
    box, _ = make(1)
    fill(box, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.put, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert box.take_nowait(lease=True) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert box.statistics().tasks_waiting_put == 1
        box.release()
        assert box.take_nowait() == 2


@pytest.mark.parametrize("change", [lambda box: box.set_limits(9), lambda box: box.set_limits(1, "drop_newest")])
async def test_new_limits_wake_putters(change: Callable[[Mailbox[Any]], None]) -> None:
    box, losses = make(1)
    fill(box, 1)
    async with trio.open_nursery() as nursery:
        for item in (2, 3):
            nursery.start_soon(box.put, item)
            await trio.testing.wait_all_tasks_blocked()
        change(box)
    assert [item for item, _ in losses] + box.drain_nowait() in ([1, 2, 3], [2, 3, 1])


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_put_never_waits_under_a_policy_that_drops(overflow: Overflow) -> None:
    box, losses = make(1, overflow)
    for item in range(3):
        with trio.fail_after(1):
            await box.put(item)
    assert len(losses) == 2


async def test_async_calls_are_checkpoints() -> None:
    box: Mailbox[int] = Mailbox()
    with trio.testing.assert_checkpoints():
        await box.put(1)
    with trio.testing.assert_checkpoints():
        await box.wait()
    with trio.testing.assert_checkpoints():
        await box.get()


async def test_a_cancelled_putter_leaves_no_trace() -> None:
    box, _ = make(1)
    fill(box, 1)
    with trio.CancelScope() as first:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.put, "never")
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
    assert box.statistics().tasks_waiting_put == 0
    assert box.drain_nowait() == [1]
    assert len(box) == 0


async def test_a_putter_cancelled_in_the_step_in_which_it_was_let_in_has_put() -> None:
    box, _ = make(1)
    fill(box, 1)
    returned: list[str] = []

    async def put() -> None:
        await box.put(2)
        returned.append("put")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await trio.testing.wait_all_tasks_blocked()
        assert box.take_nowait() == 1
        nursery.cancel_scope.cancel()
    assert returned == ["put"]
    assert box.take_nowait() == 2


async def test_a_consumer_cancelled_in_the_step_in_which_it_was_woken_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.wait)
        await trio.testing.wait_all_tasks_blocked()
        box.put_nowait(1)
        nursery.cancel_scope.cancel()
    assert await box.get() == 1
