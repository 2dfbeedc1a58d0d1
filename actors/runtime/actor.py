"""The actor as its author writes it, and the context that each of its handlers gets."""

from __future__ import annotations

import contextvars
import inspect
import math
import types
import typing
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import trio

from ...mailbox.errors import ActorStopped, Refuse

if TYPE_CHECKING:
    from .cell import Cell
    from .ref import Ref

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class Actor:
    """Something with a state of its own that handles one message at a time.

    Override `receive`, or mark handlers with `@handles`; both get the `Context`. What they return is the reply to an
    `ask`. Raise `Refuse` (or any `NetworkError`) to answer a question with a refusal: the asker gets it and the actor
    lives. Any other exception crashes this incarnation, and the supervisor starts a fresh one; the mail waits for it.
    """

    _handlers: ClassVar[dict[type, str] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = None

    async def on_start(self, ctx: Context) -> None:
        """Called once per incarnation before its first message. Raising makes the start fail.

        If cancelled: the incarnation ends without having started.
        """

    async def receive(self, message: Any, ctx: Context) -> Any:
        """Handle `message`; the return value is the reply. By default the `@handles` method for its type.

        If cancelled: the asker is gone or the actor is being stopped; the reply is not wanted any more.
        """
        name = self._handler_for(type(message))
        if name is None:
            raise Refuse(f"{type(self).__name__} has no handler for {type(message).__name__}")
        return await getattr(self, name)(message, ctx)

    async def on_stop(self, ctx: Context, why: str) -> None:
        """Called at the end of an incarnation that had started: `why` is `stopped`, `cancelled` or `crashed`.

        It runs shielded from cancellation, for at most the child's `grace`.

        If cancelled: the grace is over.
        """

    @classmethod
    def _handler_for(cls, kind: type) -> str | None:
        if cls._handlers is None:
            cls._handlers = _collect(cls)
        handlers = cls._handlers
        return next((handlers[base] for base in kind.__mro__ if base in handlers), None)


def handles(method: F) -> F:
    """Mark `async def method(self, message: T, ctx)` as the handler for messages of type `T` (or of a union)."""
    method.__handles__ = True  # type: ignore[attr-defined]  # a mark on the function, read by `_collect`
    return method


def _collect(cls: type[Actor]) -> dict[type, str]:
    found: dict[type, str] = {}
    for base in reversed(cls.__mro__):
        for name, method in vars(base).items():
            if getattr(method, "__handles__", False):
                found.update(dict.fromkeys(_message_types(method), name))
    return found


def _message_types(method: Callable[..., Any]) -> tuple[type, ...]:
    parameter = list(inspect.signature(method).parameters)[1]
    hint = typing.get_type_hints(method).get(parameter)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if not all(isinstance(option, type) for option in options):
        raise TypeError(f"{method.__qualname__}: annotate {parameter!r} with a class or a union of classes")
    return options


class Context:
    """One incarnation as its handlers see it."""

    __slots__ = ("_cell", "chain", "incarnation", "is_leaving", "nursery", "task")

    def __init__(self, cell: Cell, nursery: trio.Nursery) -> None:
        self._cell = cell
        self.nursery = nursery
        self.incarnation = cell.incarnation
        self.task = trio.lowlevel.current_task()
        self.chain: tuple[str, ...] = ()
        self.is_leaving = False

    @property
    def ref(self) -> Ref:
        """The ref of this actor; it stays the same over restarts."""
        return self._cell.ref

    @property
    def name(self) -> str:
        """The name of this actor among its siblings."""
        return self._cell.name

    def watch(self, ref: Ref, message: Any) -> trio.CancelScope:
        """Have `message` put ahead of this actor's mail once `ref` has stopped for good.

        Like every timer the watch ends with the incarnation, or when the returned scope is cancelled.
        """
        return self._spawn(self._watch, ref, message)

    def after(self, seconds: float, message: Any) -> trio.CancelScope:
        """Tell this actor `message` once, in `seconds`."""
        return self._spawn(self._tick, seconds, math.inf, message)

    def every(self, seconds: float, message: Any) -> trio.CancelScope:
        """Tell this actor `message` every `seconds`, first in `seconds`. Where the mailbox is full the tick waits."""
        return self._spawn(self._tick, seconds, seconds, message)

    def stop(self) -> None:
        """End after the message in hand: a permanent actor starts afresh, any other handles its queue and is gone."""
        if self._cell.restarts_always:
            self.is_leaving = True
        else:
            self._cell.mailbox.close()

    def is_waited_for(self) -> bool:
        """Whether this incarnation cannot take its next message before the current task is done.

        True in its hooks and handlers and in the nurseries that they open, false in tasks of `nursery`, which run
        beside the handlers: what those wait for holds nobody up.
        """
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        while task is not self.task:
            above = task.parent_nursery if task is not None else None
            if above is None or above is self.nursery:
                return False
            task = above.parent_task
        return True

    def _spawn(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        scope = trio.CancelScope()
        self.nursery.start_soon(task, scope, *args)
        return scope

    async def _watch(self, scope: trio.CancelScope, ref: Ref, message: Any) -> None:
        with scope:
            await ref.stopped()
            self._cell.mailbox.put_control(message)

    async def _tick(self, scope: trio.CancelScope, first: float, period: float, message: Any) -> None:
        due = trio.current_time() + first
        with scope:
            while due < math.inf:
                await trio.sleep_until(due)
                try:
                    await self._cell.mailbox.put(message)
                except ActorStopped:
                    return  # the intake is closed: the actor is finishing its queue, and no more ticks are wanted
                due = max(due + period, trio.current_time())


_current: contextvars.ContextVar[Context | None] = contextvars.ContextVar("agorio_current_actor", default=None)


def enter(ctx: Context) -> None:
    """Make `ctx` the current incarnation of this task and of those it starts."""
    _current.set(ctx)


def waiting_incarnation() -> Context | None:
    """The incarnation that is held up while the current task waits, if there is one."""
    ctx = _current.get()
    return ctx if ctx is not None and ctx.is_waited_for() else None


def current_chain() -> tuple[str, ...]:
    """The paths of the actors whose questions led here, the current one last; empty outside of any handler."""
    ctx = waiting_incarnation()
    return () if ctx is None else (*ctx.chain, ctx.ref.path)
