"""`check_mailbox`: whether a mailbox of your own keeps the promises of `agorio.Mailbox`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio
import trio.testing

from ..mailbox.errors import ActorStopped, InboxFull
from .promises import checking

MakeMailbox = Callable[..., Any]
PATIENCE = 10.0


async def check_mailbox(make: MakeMailbox) -> None:
    """Raise `AssertionError`, saying what is wrong, unless mailboxes of this kind are fit for actors and inboxes.

    `make(capacity, overflow, on_dead_letter=...)` makes one, as `Mailbox` does. If cancelled: nothing is left.
    """
    for check in CHECKS:
        with checking(check, PATIENCE):
            await check(make)


def _same(found: Any, expected: Any, what: str = "found") -> None:
    if found != expected:
        raise AssertionError(f"{what} {found!r} where {expected!r} was expected")


def _raises(kind: type[Exception], call: Callable[[], Any], what: str) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what} does not raise {kind.__name__}")


def _fill(make: MakeMailbox, overflow: str, lost: list[Any] | None = None) -> Any:
    losses: list[Any] = lost if lost is not None else []
    box = make(2, overflow, on_dead_letter=lambda item, reason: losses.append(item))
    for number in (1, 2):
        box.put_nowait(number)
    return box


async def _keeps_order(make: MakeMailbox) -> None:
    """What was put first is taken first, and the count of slots is exact."""
    box = _fill(make, "reject")
    _same((box.used, box.free, len(box)), (2, 0, 2), "used, free and length are")
    _same(await box.get(), 1)
    _same((box.used, box.free), (1, 1), "used and free are")
    _same(box.drain_nowait(10), [2])
    _same(box.drain_nowait(10), [])
    _raises(trio.WouldBlock, box.take_nowait, "taking from an empty mailbox")


async def _rejects(make: MakeMailbox) -> None:
    """A full mailbox refuses and changes nothing; forced items pass its cap."""
    for overflow in ("reject", "block"):
        box = _fill(make, overflow)
        _raises(InboxFull, partial(box.put_nowait, 3), f"a third item under {overflow}")
        _same(box.used, 2, "used is")
        box.put_nowait(4, force=True)
        _same(box.drain_nowait(10), [1, 2, 4])


async def _drops(make: MakeMailbox) -> None:
    """The dropping policies drop what they say, and report each loss once."""
    lost: list[Any] = []
    box = _fill(make, "drop_oldest", lost)
    box.put_nowait(3)
    _same((box.drain_nowait(10), lost), ([2, 3], [1]), "kept and lost are")
    lost = []
    box = _fill(make, "drop_newest", lost)
    box.put_nowait(3)
    _same((box.drain_nowait(10), lost), ([1, 2], [3]), "kept and lost are")


async def _leases(make: MakeMailbox) -> None:
    """A leased item holds its slot until it is released, and one that is put back comes first."""
    box = _fill(make, "reject")
    item = box.take_nowait(lease=True)
    _same((item, box.used, len(box)), (1, 2, 1), "item, used and length are")
    _raises(InboxFull, lambda: box.put_nowait(3), "a third item beside a lease")
    box.put_back(item, leased=True)
    _same(box.take_nowait(lease=True), 1)
    box.release()
    _same((box.used, box.drain_nowait(10)), (1, [2]), "used and what is left are")


async def _hurries_control(make: MakeMailbox) -> None:
    """Control goes ahead of everything, needs no slot, and passes a closed door."""
    box = _fill(make, "reject")
    box.put_control("stop")
    _same(box.take_nowait(), "stop")
    box.close()
    box.put_control("now")
    _same(box.drain_nowait(10), ["now", 1, 2])


async def _closes(make: MakeMailbox) -> None:
    """After closing nothing comes in, what is there can be taken, and who waits is told."""
    box = _fill(make, "reject")
    box.close()
    _raises(ActorStopped, lambda: box.put_nowait(3), "putting into a closed mailbox")
    _same([await box.get(), await box.get()], [1, 2])
    try:
        await box.get()
    except ActorStopped:
        return
    raise AssertionError("get() of a closed, empty mailbox does not raise ActorStopped")


async def _wakes(make: MakeMailbox) -> None:
    """Whoever waits for an item or for a slot goes on as soon as there is one, first come, first served."""
    got: list[int] = []
    box = make(1, "block")

    async def put(number: int) -> None:
        await box.put(number)

    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(put, number)
            await trio.testing.wait_all_tasks_blocked()
        while len(got) < 3:
            got.append(await box.get())
    _same(got, [1, 2, 3])


async def _survives_cancelling(make: MakeMailbox) -> None:
    """Cancelling who waits loses neither an item nor a slot."""
    box = make(1, "block")
    with trio.move_on_after(0.01):
        await box.get()
    await box.put(1)
    with trio.move_on_after(0.01):
        await box.put(2)
    _same((box.used, await box.get(), box.used, len(box)), (1, 1, 0, 0), "used, item, used and length are")


CHECKS = (
    _keeps_order,
    _rejects,
    _drops,
    _leases,
    _hurries_control,
    _closes,
    _wakes,
    _survives_cancelling,
)
