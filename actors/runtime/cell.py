"""The cell of an actor: mailbox, ref and counters, which outlive its incarnations, and the loop that runs one."""

from __future__ import annotations

from collections.abc import Hashable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from ...mailbox.box import Mailbox, Statistics
from ...mailbox.errors import ActorCrashed, ActorStopped, InboxFull, Refuse
from ...mailbox.priority import Priority
from .actor import Actor, Context, enter
from .child import Child
from .events import DeadLetter, HighWater
from .faults import both, describe, refusal_in
from .node import Kernel, Node, Reporting
from .question import Question
from .ref import Ref

if TYPE_CHECKING:
    from .coordinator import Coordinator

_BATCH: Final = 64
_SLICE: Final = 0.001  # seconds of handling after which others get their turn; read only by the driver's loop
_NOTHING: Final = object()


class Redelivery:
    """A told message that comes back after a crash, with the number of crashes it has had a part in."""

    __slots__ = ("attempts", "message")

    def __init__(self, message: Any, attempts: int) -> None:
        self.message = message
        self.attempts = attempts


class Cell(Node):
    """An actor in the tree."""

    __slots__ = ("handled", "in_hand", "mailbox", "nursery", "ref", "skipped", "sorts")

    kind: Literal["actor"] = "actor"
    spec: Child

    def __init__(self, spec: Child, parent: Coordinator | None, kernel: Kernel) -> None:
        super().__init__(spec, parent, kernel)
        self.mailbox: Mailbox[Any] = Mailbox(
            spec.capacity,
            spec.overflow,
            name=spec.name,
            on_dead_letter=self._dropped,
            on_high_water=None if kernel.sink is None else self._high_water,
        )
        self.sorts = spec.key is not None or spec.priority is not None
        self.ref = Ref(self)
        self.nursery: trio.Nursery | None = None
        self.in_hand: Any = _NOTHING
        self.handled = 0
        self.skipped = 0

    @property
    def restarts_always(self) -> bool:
        return self.spec.restart == "permanent"

    # Mail.

    def sort(self, message: Any, priority: Priority | None, key: Hashable) -> tuple[Priority, Hashable]:
        """The priority and key of `message`: those given, else what the child's functions say."""
        spec = self.spec
        if priority is None:
            priority = spec.priority(message) if spec.priority is not None else Priority.NORMAL
        if key is None and spec.key is not None:
            key = spec.key(message)
        return priority, key

    def put_sorted(self, message: Any, priority: Priority | None, key: Hashable) -> None:
        """`put_nowait` for messages that have, or may have, a priority or a key."""
        rank, line = self.sort(message, priority, key)
        self.mailbox.put_nowait(message, priority=rank, key=line)

    def _dropped(self, item: Any, reason: str) -> None:
        if item.__class__ is Question:
            error = ActorStopped if self.mailbox.is_closed else InboxFull
            item.fail(error(f"{self.path} did not handle the question: {reason}", agent=self.path))
            item = item.message
        elif item.__class__ is Redelivery:
            item = item.message
        self.kernel.emit(DeadLetter(self.path, item, reason))

    def _high_water(self, statistics: Statistics) -> None:
        self.kernel.emit(HighWater(self.path, statistics.current_used, statistics.max_capacity))

    # One incarnation.

    async def _live(self) -> None:
        with Reporting(self):
            async with trio.open_nursery() as nursery:
                ctx = self._enter(nursery)
                actor = self.spec.make()
                await actor.on_start(ctx)
                self.went_up()
                try:
                    await self._drive(actor, ctx)
                except BaseException as exc:
                    await self._say_goodbye_after(exc, actor, ctx)
                    raise
                await self._say_goodbye(actor, ctx, "stopped")
                nursery.cancel_scope.cancel()

    def _enter(self, nursery: trio.Nursery) -> Context:
        self.nursery = nursery
        self.task = trio.lowlevel.current_task()
        if self.doomed:
            nursery.cancel_scope.cancel()
        ctx = Context(self, nursery)
        enter(ctx)
        return ctx

    async def _drive(self, actor: Actor, ctx: Context) -> None:
        """Handle mail until the mailbox is closed and empty. One checkpoint per batch, not one per message."""
        mailbox = self.mailbox
        while not ctx.is_leaving:
            await mailbox.wait()
            if mailbox.is_closed and not len(mailbox):
                return
            until = perf_counter() + _SLICE
            for _ in range(_BATCH):
                try:
                    self.in_hand = message = mailbox.take_nowait()
                except trio.WouldBlock:
                    break
                if message.__class__ is Question:
                    await self._answer(message, actor, ctx)
                else:
                    try:
                        await actor.receive(message.message if message.__class__ is Redelivery else message, ctx)
                    except Refuse as refusal:
                        self._dropped(message, f"refused: {refusal}")
                    self.handled += 1
                self.in_hand = _NOTHING
                if perf_counter() > until or ctx.is_leaving:
                    break

    async def _answer(self, question: Question, actor: Actor, ctx: Context) -> None:
        if question.is_gone:
            self.skipped += 1
            return
        ctx.chain = question.chain
        with trio.CancelScope(deadline=question.deadline) as question.scope:
            try:
                question.answer(await actor.receive(question.message, ctx))
            except Exception as exc:
                refusal = refusal_in(exc)
                question.fail(refusal or self._crashed(exc))
                if refusal is None:
                    raise
            self.handled += 1
        ctx.chain = ()
        if not question.is_settled:
            self.skipped += 1
            question.fail(trio.TooSlowError("the deadline that came with the question has passed"))

    def _crashed(self, cause: BaseException) -> ActorCrashed:
        error = ActorCrashed(
            f"{self.path}#{self.incarnation} crashed: {describe(cause)}", agent=self.path, incarnation=self.incarnation
        )
        error.__cause__ = cause
        return error

    async def _say_goodbye(self, actor: Actor, ctx: Context, why: str) -> None:
        if type(actor).on_stop is not Actor.on_stop:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self.spec.grace):
                await actor.on_stop(ctx, why)

    async def _say_goodbye_after(self, exc: BaseException, actor: Actor, ctx: Context) -> None:
        crashed = isinstance(exc, Exception) or not self.doomed
        try:
            await self._say_goodbye(actor, ctx, "crashed" if crashed else "cancelled")
        except Exception as second:
            raise both(exc, second, f"{self.path} failed, and then its on_stop did") from None

    def _settle(self) -> None:
        self.nursery = None
        item, self.in_hand = self.in_hand, _NOTHING
        if item is _NOTHING:
            return
        if item.__class__ is Question:
            item.fail(self._crashed(self.cause) if self.cause is not None else self._interrupted())
        elif self.spec.on_crash == "redeliver":
            self._redeliver(item)
        elif self.cause is not None:
            self._dropped(item, f"in hand at a crash: {describe(self.cause)}")
        else:
            self._dropped(item, "in hand when the actor was cancelled")

    def _redeliver(self, item: Any) -> None:
        """Put the message in hand back to the front; one that has had a part in too many crashes is set aside."""
        again = item if item.__class__ is Redelivery else Redelivery(item, 0)
        again.attempts += self.cause is not None
        if again.attempts < self.spec.max_attempts:
            self.mailbox.put_back(again)
        else:
            cause = "" if self.cause is None else describe(self.cause)
            self._dropped(again, f"{again.attempts} crashes over this message, the last: {cause}")

    def _interrupted(self) -> Exception:
        if self.leaving:
            return ActorStopped(f"{self.path} was stopped while it handled the question", agent=self.path)
        return ActorCrashed(f"{self.path} was restarted with its group while it handled the question", agent=self.path)

    # What a supervisor asks of it.

    def request_stop(self, final: bool) -> None:
        super().request_stop(final)
        if final:
            self.mailbox.close()

    def cancel(self) -> None:
        self.doomed = True
        if self.nursery is not None:
            self.nursery.cancel_scope.cancel()

    def _close_out(self, reason: str) -> None:
        self.mailbox.close()
        self.mailbox.drain_dead(reason)
