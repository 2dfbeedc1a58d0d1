"""The three ways to open a hub, over one.

`async with Hub.open(store)` is the block form; `await Hub.open(store)` with `await hub.close()` enters and leaves the
same nursery by hand, which structured concurrency allows only in one task and strictly nested, so that is checked; and
`await nursery.start(Hub.serve, store)` is for programs that own a nursery.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, TypeVar

import trio

H = TypeVar("H")


class Opening(Generic[H]):
    """What `Hub.open` returns: await it, or enter it with `async with`. It does nothing before that."""

    __slots__ = ("_attach", "_block", "_manager", "_used")

    def __init__(
        self,
        manager: Callable[[], AbstractAsyncContextManager[H]],
        attach: Callable[[H, ManualExit], None],
    ) -> None:
        self._manager = manager
        self._attach = attach
        self._used = False
        self._block: AbstractAsyncContextManager[H] | None = None

    def _start(self) -> AbstractAsyncContextManager[H]:
        if self._used:
            raise RuntimeError("this Hub.open(...) was used already; call Hub.open again")
        self._used = True
        return self._manager()

    async def __aenter__(self) -> H:
        self._block = self._start()
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(kind, exc, trace)

    def __await__(self) -> Generator[object, None, H]:
        return self._by_hand().__await__()

    async def _by_hand(self) -> H:
        block = self._start()
        hub = await block.__aenter__()
        self._attach(hub, ManualExit(block))
        return hub


def is_below(task: trio.lowlevel.Task, owner: trio.lowlevel.Task) -> bool:
    """Whether `owner` cannot end before `task` does: it is that task, or one of its nurseries holds it."""
    above: trio.lowlevel.Task | None = task
    while above is not None and above is not owner:
        nursery = above.parent_nursery
        above = nursery.parent_task if nursery is not None else None
    return above is not None


def _innermost_scope(task: trio.lowlevel.Task) -> object:
    """What stands for the cancel scope that a task is in; trio tells it nowhere publicly, so it may be missing."""
    return getattr(task, "_cancel_status", None)


class ManualExit:
    """Leaves a block that was entered by hand, from the same task only."""

    __slots__ = ("_block", "_nursery_depth", "_scope", "_task")

    def __init__(self, block: AbstractAsyncContextManager[object]) -> None:
        self._block = block
        self._task = trio.lowlevel.current_task()
        self._nursery_depth = len(self._task.child_nurseries)
        self._scope = _innermost_scope(self._task)

    def check(self) -> None:
        """Raise unless this is the task that opened the hub, with every later nursery and cancel scope left."""
        task = trio.lowlevel.current_task()
        if task is not self._task:
            raise RuntimeError(
                "hub.close() must be called by the task that awaited Hub.open(); "
                "use 'async with Hub.open(...)' or nursery.start(Hub.serve, ...)"
            )
        if len(task.child_nurseries) != self._nursery_depth:
            raise RuntimeError(
                "hub.close() must be called outside of nurseries that were opened after Hub.open(); close those first"
            )
        if _innermost_scope(task) is not self._scope:
            raise RuntimeError(
                "hub.close() must be called in the cancel scope in which Hub.open() was awaited, not within a "
                "'with trio.fail_after(...)' or the like that was entered or left since; it keeps to its grace by "
                "itself, also in a cancelled task, so it needs neither a shield nor a timeout"
            )

    async def leave(self) -> None:
        """Leave the block. If cancelled: the hub drains within its grace all the same."""
        await self._block.__aexit__(None, None, None)
