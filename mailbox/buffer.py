"""What lies in a mailbox: a bounded trio memory channel while all is of one priority, lanes while it is not.

Keys matter only to lanes. An item put with a key lies in the channel in a wrapper, so that the lanes know it when they
are engaged; mailboxes that use neither keys nor priorities never see one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

import trio

from .lanes import Lanes
from .priority import Priority

T = TypeVar("T")

_NORMAL: Final = Priority.NORMAL


class _Keyed:
    __slots__ = ("item", "key")

    def __init__(self, item: Any, key: Hashable) -> None:
        self.item = item
        self.key = key


class Buffer(Generic[T]):
    """The items that wait, in the order in which they will be taken. Its owner counts them and asks for no more."""

    __slots__ = ("_bound", "_lanes", "_wrapped", "receive", "send")

    def __init__(self, capacity: float) -> None:
        self._lanes: Lanes[T] | None = None
        self._wrapped = False
        self._open(capacity)

    @property
    def is_plain(self) -> bool:
        """True while `send` and `receive` may be used directly: everything lies in the channel, unwrapped."""
        return self._lanes is None and not self._wrapped

    def push(self, item: T, priority: int, key: Hashable, keep: bool) -> None:
        """Add `item`; anything out of the ordinary engages the lanes, and all goes there until they are empty."""
        if self._lanes is not None or keep or priority != _NORMAL:
            self._engage().push(item, priority, key, keep=keep)
        elif key is None:
            self.send(item)
        else:
            self._wrapped = True
            self.send(_Keyed(item, key))

    def push_front(self, item: T) -> None:
        """Return an item to the very front."""
        self._engage().push_front(item)

    def pop(self) -> T:
        """Take the next item."""
        if self._lanes is None:
            raw = self.receive()
            return raw.item if raw.__class__ is _Keyed else raw  # type: ignore[no-any-return]
        item = self._lanes.pop()
        self._disengage()
        return item

    def evict(self, priority: int) -> tuple[T] | None:
        """Take out the oldest item that may be dropped for a newcomer of `priority`, in a 1-tuple."""
        if self._lanes is None and priority >= _NORMAL:
            return (self.pop(),)
        victim = self._engage().evict(priority)
        self._disengage()
        return victim

    def was_emptied(self) -> None:
        """The owner took the last item."""
        self._wrapped = False

    def widen(self, capacity: float) -> None:
        """Make room for `capacity` items; a channel cannot be resized, so a larger one replaces it."""
        if capacity > self._bound:
            waiting = self._rest()
            self._open(capacity)
            for raw in waiting:
                self.send(raw)

    def _open(self, capacity: float) -> None:
        send, receive = trio.open_memory_channel[Any](capacity)
        self._bound = capacity
        self.send: Callable[[Any], None] = send.send_nowait
        self.receive: Callable[[], Any] = receive.receive_nowait

    def _rest(self) -> list[Any]:
        raws = []
        while True:
            try:
                raws.append(self.receive())
            except trio.WouldBlock:
                return raws

    def _engage(self) -> Lanes[T]:
        if self._lanes is None:
            self._lanes = lanes = Lanes[T]()
            for raw in self._rest():
                lanes.push(*((raw.item, _NORMAL, raw.key) if raw.__class__ is _Keyed else (raw,)))
            self._wrapped = False
        return self._lanes

    def _disengage(self) -> None:
        if not self._lanes:
            self._lanes = None
