"""The synchronous half of a mailbox: slots, leases, policies, the control lane. It puts nobody to sleep.

The count of used slots is ours and not the channel's, because leased items hold slots and lifecycle mail may pass the
bound. So is the parking of tasks (`box.py`, behind the hooks `_wake_consumer` and `_admit`), because the channel would
let a waiting sender in at every receive, also where the received item is leased and no slot became free.

Two numbers carry the speed. Below `_plain_below` used slots a put is one append to the channel; it is -1 whenever
something is special (engaged lanes, a closed box, no channel yet). `_fast_below` is the same while the consumer is
awake, and -1 while it sleeps and must be woken.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from .buffer import Buffer
from .errors import ActorStopped, InboxFull
from .limits import DROPS, Overflow, Statistics, check_limits, high_water_mark
from .priority import Priority

T = TypeVar("T")

NORMAL: Final = Priority.NORMAL
_log = logging.getLogger("agorio.mailbox")


class Slots(Generic[T]):
    """What a `Mailbox` does without waiting. All of it is atomic, since trio switches tasks only at an await."""

    __slots__ = (
        "_armed",
        "_buffer",
        "_capacity",
        "_closed",
        "_control",
        "_evicted",
        "_fast_below",
        "_high",
        "_leased",
        "_on_dead_letter",
        "_on_high_water",
        "_overflow",
        "_peak",
        "_plain_below",
        "_receive",
        "_refused",
        "_send",
        "_sleeps",
        "_taken",
        "_used",
        "_waiting_puts",
        "name",
    )

    def __init__(
        self,
        capacity: float,
        overflow: Overflow,
        high_water: int | None,
        name: str,
        on_dead_letter: Callable[[T, str], None] | None,
        on_high_water: Callable[[Statistics], None] | None,
    ) -> None:
        self.name = name
        self._on_dead_letter = on_dead_letter
        self._on_high_water = on_high_water
        self._buffer: Buffer[T] | None = None
        self._send: Callable[[T], None] | None = None
        self._receive: Callable[[], T] | None = None  # set only while the buffer is plain
        self._control: deque[T] | None = None
        self._waiting_puts = 0
        self._sleeps = False  # the consumer does
        self._closed = False
        self._armed = True  # the next rise to the high-water mark is news
        self._used = self._leased = self._peak = self._taken = self._evicted = self._refused = 0
        self._fast_below: float = -1
        self._plain_below: float = -1
        self._limit(capacity, overflow, high_water)

    @enable_ki_protection
    def put_nowait(self, item: T, *, priority: Priority = NORMAL, key: Hashable = None, force: bool = False) -> None:
        """Put `item` at the end of its priority's line, by the overflow policy where there is no free slot.

        Items of one `key` keep their order whatever their priorities. `force` passes the cap (the item is counted all
        the same) and exempts the item from `drop_oldest`: it is for lifecycle mail. Raises `InboxFull` or
        `ActorStopped`, in which case nothing was changed.
        """
        if self._used < self._fast_below and priority is NORMAL and key is None and not force:
            self._used += 1
            self._send(item)  # type: ignore[misc]  # open whenever `_fast_below` is positive
        elif self._used < self._plain_below and priority is NORMAL and key is None and not force:
            self._used += 1
            self._send(item)  # type: ignore[misc]  # as above
            self._wake_consumer()
        else:
            self._put(item, priority, key, force)

    @enable_ki_protection
    def put_control(self, item: T) -> None:
        """Put `item` ahead of all user mail and wake the consumer, also after `close`.

        The control lane has no cap: only the owner of the mailbox writes to it, a word at a time.
        """
        if self._control is None:
            self._control = deque()
        self._control.append(item)
        self._wake_consumer()

    @enable_ki_protection
    def put_back(self, item: T, *, leased: bool = False) -> None:
        """Return a taken item to the very front, past the cap if its slot is taken by now; a lease on it ends."""
        self._opened().push_front(item)
        self._taken -= 1
        if leased:
            self._leased -= 1
        else:
            self._used += 1
        self._noticed()

    @enable_ki_protection
    def take_nowait(self, *, lease: bool = False) -> T:
        """The next item, control lane first; `trio.WouldBlock` when there is none.

        With `lease` its slot stays in use until `release`; items of the control lane are never leased.
        """
        if self._control:
            return self._control.popleft()
        item = self._pop() if self._receive is None else self._receive()
        if self._used > self._peak:
            self._peak = self._used
        self._taken += 1
        if lease:
            self._leased += 1
        else:
            self._used -= 1
            if self._waiting_puts or not self._armed:
                self._freed()
        return item

    @enable_ki_protection
    def drain_nowait(self, max_items: int = 64, *, lease: bool = False) -> list[T]:
        """Up to `max_items` items at once, control lane first; an empty list when there is none."""
        if not self._control:
            return self._take_many(max_items, lease)
        batch: list[T] = []
        while self._control and len(batch) < max_items:
            batch.append(self._control.popleft())
        return batch + self._take_many(max_items - len(batch), lease)

    @enable_ki_protection
    def lease_nowait(self, *, force: bool = False) -> None:
        """Take a slot, as a put and a leased take of the same item would, for what waits elsewhere; `release` frees it.

        `force` passes the cap. Raises `InboxFull`, whatever the policy, or `ActorStopped`; nothing was changed then.
        """
        if self._closed:
            raise self._stopped()
        if self._used >= self._capacity and not force:
            raise self._full()
        self._used += 1
        self._leased += 1
        self._taken += 1
        if self._used >= self._high and self._armed:
            self._note_rise()

    @enable_ki_protection
    def release(self, count: int = 1) -> None:
        """Free the slots of `count` leased items; putters who wait for a slot get them, in their order."""
        if not 0 <= count <= self._leased:
            raise ValueError(f"release({count}): mailbox {self.name!r} has {self._leased} items on lease")
        if self._used > self._peak:
            self._peak = self._used
        self._leased -= count
        self._used -= count
        if self._waiting_puts or not self._armed:
            self._freed()

    @enable_ki_protection
    def set_limits(self, capacity: float, overflow: Overflow | None = None, *, high_water: int | None = None) -> None:
        """Change the cap, the policy (None keeps it) and the high-water mark (None: 80 % of a finite cap).

        A lower cap throws nothing out: the mailbox takes no more until enough was handled.
        """
        self._limit(capacity, overflow or self._overflow, high_water)
        if self._buffer is not None:
            self._buffer.widen(self._capacity)
        self._retune()
        self._freed()
        if self._overflow in DROPS:
            self._admit(self._waiting_puts)  # nobody waits under a policy that drops

    @enable_ki_protection
    def close(self) -> None:
        """End the intake: every put raises `ActorStopped` from now on, waiting ones too. What is queued stays."""
        self._closed = True
        self._retune()
        self._wake_consumer()

    @enable_ki_protection
    def drain_dead(self, reason: str) -> int:
        """Hand everything that waits to `on_dead_letter` with `reason`; how many items these were."""
        control = list(self._control or ())
        self._control = None
        items = self._take_many(self._used, lease=False)
        self._taken -= len(items)
        self._evicted += len(items)
        self._refused += len(control)
        for item in control + items:
            self._report_loss(item, reason)
        return len(control) + len(items)

    @property
    def used(self) -> int:
        """Slots in use: queued plus leased."""
        return self._used

    @property
    def free(self) -> float:
        """Slots free for mail that is not forced."""
        left = self._capacity - self._used
        return left if left > 0 else 0

    @property
    def is_closed(self) -> bool:
        """True once intake has ended."""
        return self._closed

    def __len__(self) -> int:
        """How many items can be taken now, those of the control lane included."""
        return self._used - self._leased + len(self._control or ())

    def __bool__(self) -> bool:
        """A mailbox is always true, an empty one too; ask `len`."""
        return True

    def statistics(self) -> Statistics:
        """What the mailbox holds and has seen."""
        queued = self._used - self._leased
        return Statistics(
            current_used=self._used,
            current_queued=queued,
            current_leased=self._leased,
            current_control=len(self._control or ()),
            max_capacity=self._capacity,
            high_water=self._high,
            overflow=self._overflow,
            peak_used=max(self._peak, self._used),
            total_put=self._taken + self._evicted + queued,
            total_taken=self._taken,
            total_dropped=self._evicted + self._refused,
            tasks_waiting_put=self._waiting_puts,
            tasks_waiting_get=int(self._sleeps),
            is_closed=self._closed,
        )

    # What a put does when it has to think.

    def _put(self, item: T, priority: Priority, key: Hashable, force: bool) -> None:
        if self._closed:
            raise self._stopped()
        if force or self._used < self._capacity:
            self._accept(item, priority, key, force)
        elif self._overflow not in DROPS:
            raise self._full()
        elif (victim := self._evict(priority)) is None:
            self._refused += 1
            self._report_loss(item, self._overflow)
        else:
            self._accept(item, priority, key, force)
            self._report_loss(victim[0], self._overflow)

    def _accept(self, item: T, priority: Priority, key: Hashable, force: bool) -> None:
        self._opened().push(item, priority, key, force)
        self._used += 1
        self._noticed()

    def _opened(self) -> Buffer[T]:
        if self._buffer is None:
            self._buffer = Buffer(self._capacity)
        return self._buffer

    def _noticed(self) -> None:
        """Something was put the slow way: wake the consumer, see to the high-water mark, and find the fast way."""
        if self._sleeps:
            self._wake_consumer()
        if self._used >= self._high and self._armed:
            self._note_rise()
        else:
            self._retune()

    def _note_rise(self) -> None:
        """The used slots have risen to the high-water mark: that is news once."""
        rose = self._on_high_water is not None
        self._armed = not rose
        self._retune()
        if rose:
            self._call(self._on_high_water, self.statistics())

    def _evict(self, priority: Priority) -> tuple[T] | None:
        """Make room by `drop_oldest`: lifecycle mail and mail of higher priority than the newcomer stay."""
        if self._overflow == "drop_newest" or self._used == self._leased:
            return None
        victim = self._opened().evict(priority)
        self._retune()
        if victim is not None:
            self._used -= 1
            self._evicted += 1
        return victim

    # What a take does when it has to think.

    def _pop(self) -> T:
        if self._buffer is None or self._used == self._leased:
            raise trio.WouldBlock
        item = self._buffer.pop()
        if self._used - self._leased == 1:
            self._buffer.was_emptied()
        if self._buffer.is_plain:
            self._retune()
        return item

    def _take_many(self, at_most: int, lease: bool) -> list[T]:
        count = min(at_most, self._used - self._leased)
        if count <= 0:
            return []
        receive = self._receive
        if receive is not None:
            items = [receive()] if count == 1 else [receive() for _ in range(count)]
            self._book(count, lease)
            return items
        items = []
        for _ in range(count):
            items.append(self._pop())
            self._book(1, lease)
        return items

    def _book(self, count: int, lease: bool) -> None:
        if self._used > self._peak:
            self._peak = self._used
        self._taken += count
        if lease:
            self._leased += count
        else:
            self._used -= count
            if self._waiting_puts or not self._armed:
                self._freed()

    def _freed(self) -> None:
        if not self._armed and self._used < self._high:
            self._armed = True
            self._retune()
        if self._waiting_puts and self._used < self._capacity:
            self._admit(int(min(self._waiting_puts, self._capacity - self._used)))

    def _retune(self) -> None:
        """Find out anew whether puts and takes may go straight to the channel."""
        buffer = self._buffer
        if buffer is None or not buffer.is_plain:
            self._send = self._receive = None
            self._fast_below = self._plain_below = -1
            return
        self._send, self._receive = buffer.send, buffer.receive
        if self._closed:
            self._plain_below = -1
        elif self._armed and self._on_high_water is not None:
            self._plain_below = min(self._capacity, self._high - 1)
        else:
            self._plain_below = self._capacity
        self._fast_below = -1 if self._sleeps else self._plain_below

    def _limit(self, capacity: float, overflow: Overflow, high_water: int | None) -> None:
        check_limits(capacity, overflow, high_water)
        self._capacity = capacity if capacity == math.inf else int(capacity)
        self._overflow: Overflow = overflow
        self._high = high_water_mark(self._capacity, high_water)

    def _report_loss(self, item: T, reason: str) -> None:
        if self._on_dead_letter is not None:
            self._call(self._on_dead_letter, item, reason)

    def _call(self, listener: Callable[..., None] | None, *args: Any) -> None:
        try:
            if listener is not None:
                listener(*args)
        except Exception:
            _log.exception("a listener of mailbox %r failed", self.name)

    def _full(self) -> InboxFull:
        return InboxFull(
            f"the inbox of {self.name!r} is full: {self._used} of {self._capacity} slots are in use. Wait until it has "
            "handled some mail, or raise its cap: Rule.inbox.max_pending of an agent, Child.capacity of an actor",
            agent=self.name,
            depth=self._used,
            cap=self._capacity,
        )

    def _stopped(self) -> ActorStopped:
        return ActorStopped(f"{self.name!r} has stopped and takes no more mail", agent=self.name)

    # What the half that knows tasks does.

    def _wake_consumer(self) -> None:
        """Wake the consumer if it sleeps."""
        raise NotImplementedError

    def _admit(self, count: int) -> None:
        """Let the first `count` waiting putters in."""
        raise NotImplementedError
