"""The mailbox under arbitrary use: many putters, cancelled anywhere, one consumer, changing limits.

What must hold: the cap is never exceeded by unforced mail, every accepted item is queued, leased, taken or reported as
dropped, items of one key and one sender stay in order, and nobody sleeps who could go on.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from agorio.mailbox.box import OVERFLOWS, Mailbox
from agorio.mailbox.errors import ActorStopped, InboxFull
from agorio.mailbox.priority import Priority
from tests.support.trio_machine import TrioStateMachine, initialize, invariant, rule

capacities = st.sampled_from([1, 2, 3, 5, math.inf])
priorities = st.sampled_from([Priority.NORMAL, Priority.NORMAL, *Priority])
keys = st.sampled_from([None, None, "x", "y"])
counts = st.integers(1, 4)


class MailboxMachine(TrioStateMachine):
    """One mailbox per example. Items are `(number, key)`, numbered in the order of their acceptance per key."""

    async def setup(self) -> None:
        self.number = 0
        self.accepted: Counter[Any] = Counter()
        self.taken: Counter[Any] = Counter()
        self.dropped: Counter[Any] = Counter()
        self.order: list[tuple[int, str | None]] = []
        self.leased: list[Any] = []
        self.putters: dict[int, trio.CancelScope] = {}
        self.let_in: list[int] = []
        self.forced = self.returned = 0
        self.rises = 0

    @initialize(capacity=capacities, overflow=st.sampled_from(OVERFLOWS))
    def open(self, capacity: float, overflow: Any) -> None:
        self.box: Mailbox[Any] = Mailbox(
            capacity, overflow, on_dead_letter=self.note_loss, on_high_water=lambda _: None
        )
        self.capacity, self.overflow = capacity, overflow

    def note_loss(self, item: Any, reason: str) -> None:
        self.dropped[item] += 1

    def item(self, key: str | None) -> tuple[int, str | None]:
        self.number += 1
        return self.number, key

    @rule(priority=priorities, key=keys, force=st.sampled_from([False, False, False, True]))
    def put_nowait(self, priority: Priority, key: str | None, force: bool) -> None:
        item = self.item(None if force and self.putters else key)  # force may overtake those who wait at the door
        had_room = self.box.used < self.capacity
        try:
            self.box.put_nowait(item, priority=priority, key=item[1], force=force)
        except InboxFull:
            assert not force
            assert not had_room
            assert self.overflow in ("reject", "block")
        except ActorStopped:
            assert self.box.is_closed
        else:
            self.accepted[item] += 1
            self.forced += force

    @rule(priority=priorities, key=keys)
    async def put(self, priority: Priority, key: str | None) -> None:
        item, scope = self.item(key), trio.CancelScope()
        self.putters[item[0]] = scope
        self.nursery.start_soon(self.put_in_background, item, priority, scope)

    async def put_in_background(self, item: Any, priority: Priority, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self.box.put(item, priority=priority, key=item[1])
                self.accepted[item] += 1
            except ActorStopped:
                assert self.box.is_closed
        del self.putters[item[0]]

    @rule(which=st.integers(0, 5))
    async def cancel_a_putter(self, which: int) -> None:
        if self.putters:
            list(self.putters.values())[which % len(self.putters)].cancel()

    @rule(count=counts, which=st.integers(0, 5))
    async def take_and_cancel_in_one_step(self, count: int, which: int) -> None:
        self.drain(count=count, lease=False)
        await self.cancel_a_putter(which)

    @rule(lease=st.booleans())
    def take(self, lease: bool) -> None:
        try:
            self.note_taken([self.box.take_nowait(lease=lease)], lease)
        except trio.WouldBlock:
            assert len(self.box) == 0

    @rule(count=counts, lease=st.booleans())
    def drain(self, count: int, lease: bool) -> None:
        ready = len(self.box)
        items = self.box.drain_nowait(count, lease=lease)
        assert len(items) == min(count, ready)
        self.note_taken(items, lease)

    def note_taken(self, items: list[Any], lease: bool) -> None:
        self.order += items
        if lease:
            self.leased += items
        else:
            self.taken.update(items)

    @rule(patience=st.sampled_from([0.0, 1.0]))
    async def get(self, patience: float) -> None:
        with trio.move_on_after(patience):
            try:
                self.note_taken([await self.box.get()], lease=False)
            except ActorStopped:
                assert self.box.is_closed
                assert len(self.box) == 0

    @rule(count=counts)
    def release(self, count: int) -> None:
        count = min(count, len(self.leased))
        self.box.release(count)
        self.taken.update(self.leased[:count])
        del self.leased[:count]

    @rule()
    def put_back_a_lease(self) -> None:
        if self.leased and self.leased[-1] == self.order[-1]:
            self.box.put_back(self.leased.pop(), leased=True)
            self.order.pop()

    @rule(capacity=capacities, overflow=st.sampled_from(OVERFLOWS))
    def set_limits(self, capacity: float, overflow: Any) -> None:
        self.forced += max(0, self.box.used - int(min(capacity, 10**6)))  # what is in stays in
        self.box.set_limits(capacity, overflow)
        self.capacity, self.overflow = capacity, overflow

    @rule(odds=st.integers(0, 9))
    def close(self, odds: int) -> None:
        if odds == 0:
            self.box.close()

    @rule(odds=st.integers(0, 9))
    def drain_dead(self, odds: int) -> None:
        if odds == 0:
            self.box.drain_dead("cleared")

    @invariant()
    async def the_cap_holds(self) -> None:
        assert self.box.used <= self.capacity + self.forced
        assert self.box.statistics().current_leased == len(self.leased)

    @invariant()
    async def nobody_sleeps_who_could_go_on(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        waiting = self.box.statistics().tasks_waiting_put
        assert waiting == len(self.putters)
        if waiting:
            assert self.box.free == 0
            assert not self.box.is_closed
            assert self.overflow in ("reject", "block")

    @invariant()
    async def all_is_accounted_for(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        gone = self.taken + self.dropped + Counter(self.leased)
        assert all(count == 1 for count in gone.values())
        assert sum(self.accepted.values()) == sum(gone.values()) + self.box.statistics().current_queued
        statistics = self.box.statistics()
        assert statistics.total_taken == len(self.order)
        assert statistics.total_dropped == sum(self.dropped.values())

    @invariant()
    async def a_key_keeps_its_order(self) -> None:
        for key in ("x", "y"):
            numbers = [number for number, of in self.order if of == key]
            assert numbers == sorted(numbers)

    async def shutdown(self) -> None:
        if hasattr(self, "box"):
            self.box.close()
            await trio.testing.wait_all_tasks_blocked()
            assert not self.putters
            self.box.drain_dead("end")
            assert self.accepted == self.taken + self.dropped + Counter(self.leased)


def test_the_mailbox_holds_its_promises() -> None:
    profile = settings(max_examples=100, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(MailboxMachine, settings=profile)
