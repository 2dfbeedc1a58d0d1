"""The mailbox: where what is said waits, bounded, ordered, and accounted for to the last item.

A bounded trio memory channel is the buffer; it is opened with the first item, since it costs 1.9 KB and most of ten
thousand mailboxes are empty. Around it stands what a channel alone does not have:

* a control lane that goes ahead of all user mail;
* priorities, engaged only while something waits that is not of `Priority.NORMAL`;
* leases: an item may be taken and still hold its slot until it is released, so that a cap can count what is pending
  and not merely what is queued;
* overflow policies, with every dropped item handed to `on_dead_letter`.

All of that is synchronous and in `slots.py`. Here is the other half: who sleeps, and who wakes whom. A waiting putter's
item is put into the box by whoever frees the slot, and the consumer takes nothing before it is awake, so cancelling
either at any checkpoint can lose neither an item nor a slot nor a wake-up.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import trio
from trio.lowlevel import Abort, checkpoint, current_task, enable_ki_protection, reschedule, wait_task_rescheduled

from .limits import DROPS, OVERFLOWS, Overflow, Statistics
from .priority import Priority
from .slots import NORMAL, Slots

__all__ = ["OVERFLOWS", "Mailbox", "Overflow", "Statistics"]

T = TypeVar("T")


class _Putter:
    __slots__ = ("accepted", "item", "key", "priority")

    def __init__(self, item: Any, priority: Priority, key: Hashable) -> None:
        self.item = item
        self.priority = priority
        self.key = key
        self.accepted = False


class Mailbox(Slots[T]):
    """A bounded queue for many putters and one consumer.

    `capacity` is the number of slots. `overflow` says what `put_nowait` does without a free one: `reject` and `block`
    raise `InboxFull` (`block` says that the owner wants senders to `await put` instead), `drop_oldest` and
    `drop_newest` make room or give up, and report the loss to `on_dead_letter(item, reason)`. `on_high_water` is called
    once whenever the used slots rise to `high_water` (default: 80 % of a finite cap). Both are called inside the
    operation that caused them and should be quick; an exception of theirs is logged, since it must not lose mail.
    """

    __slots__ = ("_consumer", "_putters")

    def __init__(
        self,
        capacity: float = math.inf,
        overflow: Overflow = "reject",
        *,
        high_water: int | None = None,
        name: str = "",
        on_dead_letter: Callable[[T, str], None] | None = None,
        on_high_water: Callable[[Statistics], None] | None = None,
    ) -> None:
        super().__init__(capacity, overflow, high_water, name, on_dead_letter, on_high_water)
        self._consumer: trio.lowlevel.Task | None = None
        self._putters: OrderedDict[trio.lowlevel.Task, _Putter] | None = None

    async def put(self, item: T, *, priority: Priority = NORMAL, key: Hashable = None) -> None:
        """Put `item`, waiting for a free slot under `reject` and `block`; a drop policy drops and never waits.

        Putters are let in first come, first served. Raises `ActorStopped` if the mailbox is or gets closed.

        If cancelled: the item has not been put.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._used < self._capacity or self._closed or self._overflow in DROPS:
            self.put_nowait(item, priority=priority, key=key)
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._park(_Putter(item, priority, key))

    async def wait(self) -> None:
        """Wait until an item can be taken or the mailbox is closed. For the one consumer only.

        If cancelled: nothing was taken.
        """
        if self._used > self._leased or self._control or self._closed:
            await checkpoint()
            return
        if self._consumer is not None:
            raise trio.BusyResourceError(f"mailbox {self.name!r} has a consumer that waits already")
        self._consumer = current_task()
        self._sleeps = True
        self._fast_below = -1
        await wait_task_rescheduled(self._consumer_cancelled)

    @property
    def is_awaited(self) -> bool:
        """Whether the consumer sleeps in `wait`: nothing is queued then, and nothing is in its hands."""
        return self._sleeps

    async def get(self) -> T:
        """The next item, control lane first. Raises `ActorStopped` when the mailbox is closed and empty.

        If cancelled: nothing was taken.
        """
        while True:
            await self.wait()
            if len(self):
                return self.take_nowait()
            if self._closed:
                raise self._stopped()

    def close(self) -> None:
        super().close()
        while self._putters:
            self._next_putter(accepted=False)

    async def _park(self, putter: _Putter) -> None:
        await self._sleep(putter)
        if not putter.accepted:
            raise self._stopped()

    @enable_ki_protection
    async def _sleep(self, putter: _Putter) -> None:
        putters = self._putters = OrderedDict() if self._putters is None else self._putters
        task = current_task()
        putters[task] = putter
        self._waiting_puts += 1

        def abort(_: Any) -> Abort:
            del putters[task]
            self._waiting_puts -= 1
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def _admit(self, count: int) -> None:
        for _ in range(count):
            putter = self._next_putter(accepted=True)
            self._put(putter.item, putter.priority, putter.key, False)

    def _next_putter(self, *, accepted: bool) -> _Putter:
        assert self._putters is not None
        task, putter = self._putters.popitem(last=False)
        self._waiting_puts -= 1
        putter.accepted = accepted
        reschedule(task)
        return putter

    def _wake_consumer(self) -> None:
        if self._consumer is not None:
            task, self._consumer = self._consumer, None
            self._sleeps = False
            self._fast_below = self._plain_below
            reschedule(task)

    def _consumer_cancelled(self, _: Any) -> Abort:
        self._consumer = None
        self._sleeps = False
        self._fast_below = self._plain_below
        return Abort.SUCCEEDED
