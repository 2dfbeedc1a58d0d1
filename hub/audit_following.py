"""Following the audit log live: an iterator over its records, or a function that an actor calls with each.

The log is the buffer of both, so a slow one misses nothing and costs the hub nothing. A function's failure is logged
and goes no further: a restart would be a record of its own, on which the function would fail again.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.child import Child
from ..actors.runtime.supervisor import Supervisor
from ..mailbox.errors import InvalidInput

if TYPE_CHECKING:
    from .audit import AuditLog, AuditRecord, Filter

Note: TypeAlias = Callable[[Any], Awaitable[Any] | None]

_log = logging.getLogger("agorio.hub")


class AuditTail:
    """Records as they become durable: an async iterator, and a block that ends it."""

    def __init__(self, log: AuditLog, after: int, wanted: Filter) -> None:
        self._log = log
        self._wanted = wanted
        self._after = after
        self._page: list[tuple[int, AuditRecord]] = []
        self._is_over = False
        self.sequence = after

    def __aiter__(self) -> AuditTail:
        return self

    async def __anext__(self) -> AuditRecord:
        """The next record. If cancelled: it comes with the next call."""
        if not self._page and not self._is_over:
            page, self._after = await self._log.next_page(self._after, self._wanted)
            self._page = page[::-1]
        if not self._page or self._is_over:
            self._is_over = True
            raise StopAsyncIteration
        self.sequence, record = self._page.pop()
        return record

    async def __aenter__(self) -> AuditTail:
        """Begin. If cancelled: not begun."""
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End. If cancelled: ended."""
        self._is_over = True
        self._page.clear()
        await trio.lowlevel.cancel_shielded_checkpoint()


@attrs.define(eq=False)
class AuditSubscription:
    """A function's place at the audit log. Calling it is `cancel`."""

    name: str
    """Its name in the supervision tree."""
    total_failed: int = 0
    """How many calls have raised."""
    _group: Supervisor | None = None

    def cancel(self) -> None:
        """Call it no more; a call under way is cancelled. Doing it again does nothing."""
        group, self._group = self._group, None
        if group is not None and self.name in group:
            group.stop_soon(self.name)

    unsubscribe = cancel
    __call__ = cancel


class _Caller(Actor):
    """Calls one function, record by record."""

    def __init__(self, tail: AuditTail, note: Note, place: AuditSubscription) -> None:
        self._tail = tail
        self._note = note
        self._place = place

    async def on_start(self, ctx: Context) -> None:
        """Start reading. If cancelled: it is not read."""
        ctx.nursery.start_soon(self._read)

    async def _read(self) -> None:
        async for record in self._tail:
            try:
                result = self._note(record)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                self._place.total_failed += 1
                _log.exception("audit: the callback %s failed on record %d", self._place.name, self._tail.sequence)


def start_calling(group: Supervisor, tail: AuditTail, note: Note, number: int) -> AuditSubscription:
    """Have `note` called with every record of the tail. Raises `InvalidInput` for what cannot be called."""
    if not callable(note):
        raise InvalidInput(f"{note!r} is no function; pass `callback(record)`, async or not", field="callback")
    place = AuditSubscription(f"audit-{number}", group=group)
    group.start_soon(Child(place.name, lambda: _Caller(tail, note, place)))
    return place
