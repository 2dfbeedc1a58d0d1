"""The handle by which the world talks to an actor. It stays valid over restarts."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import trio

from ...mailbox.box import Statistics
from ...mailbox.errors import AskCycle
from ...mailbox.priority import Priority
from .actor import Context, current_chain, waiting_incarnation
from .question import Question

if TYPE_CHECKING:
    from .cell import Cell

_NORMAL = Priority.NORMAL


class Ref(metaclass=ABCMeta):  # noqa: B024  # nothing is abstract: addresses of another make are registered
    """An actor's address: small, hashable, safe to send around. Made by a supervisor, one per actor.

    `tell`, `send`, `ask` and `stopped` are what every address has; one of an actor elsewhere is registered as a `Ref`.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __repr__(self) -> str:
        return f"<Ref {self.path} {self._cell.state}>"

    @property
    def name(self) -> str:
        """The actor's name among its siblings."""
        return self._cell.spec.name

    @property
    def path(self) -> str:
        """The names from the root supervisor down, joined by `/`."""
        return self._cell.path

    @property
    def is_running(self) -> bool:
        """True while an incarnation is up and takes mail in."""
        return self._cell.state == "up"

    @property
    def is_stopped(self) -> bool:
        """True once the actor has stopped for good."""
        return self._cell.state == "stopped"

    @property
    def incarnation(self) -> int:
        """The number of the current incarnation, or of the last one."""
        return self._cell.incarnation

    def statistics(self) -> Statistics:
        """The statistics of the actor's mailbox."""
        return self._cell.mailbox.statistics()

    def tell(self, message: Any, *, priority: Priority | None = None, key: Hashable = None) -> None:
        """Put `message` into the mailbox, following its overflow policy; never waits, expects no reply.

        Raises `InboxFull` where the policy is `reject` or `block` and there is no free slot, and `ActorStopped`.
        """
        cell = self._cell
        if priority is None and key is None and not cell.sorts:
            cell.mailbox.put_nowait(message)
        else:
            cell.put_sorted(message, priority, key)

    async def send(self, message: Any, *, priority: Priority | None = None, key: Hashable = None) -> None:
        """Like `tell`, but waits for a free slot where the mailbox is full and its policy does not drop.

        Raises `AskCycle` if a handler would wait here for an actor that waits for it.

        If cancelled: the message has not been put.
        """
        await self._put_waiting(message, message, priority, key)

    async def ask(self, message: Any, *, priority: Priority | None = None, key: Hashable = None) -> Any:
        """Put `message` as a question, wait for a slot where needed, and return the handler's reply.

        The deadline in force here bounds the handler too. Raises what the handler refused with (`Refuse` or a
        `NetworkError`), `ActorCrashed` from the cause if it crashes, `ActorStopped` if the actor has stopped or stops
        before the question is reached, and `AskCycle` at once if waiting for the reply would close a circle of actors
        that wait for each other.

        If cancelled: a queued question is skipped, a running handler is cancelled; the actor is not restarted.
        """
        question = Question(message, current_chain(), trio.current_effective_deadline())
        waiter = waiting_incarnation()
        if waiter is None:
            return await self._ask(question, priority, key)
        with _Edge(waiter, self._cell):
            return await self._ask(question, priority, key)

    async def stopped(self) -> str:
        """Wait until the actor has stopped for good, over all its restarts; why it did.

        If cancelled: nothing has changed.
        """
        return await self._cell.wait_stopped()

    async def _ask(self, question: Question, priority: Priority | None, key: Hashable) -> Any:
        cell = self._cell
        if priority is None and key is None and not cell.sorts and cell.mailbox.free:
            cell.mailbox.put_nowait(question)
        else:
            await self._put_waiting(question, question.message, priority, key, edged=True)
        return await question.wait()

    async def _put_waiting(
        self, item: Any, message: Any, priority: Priority | None, key: Hashable, *, edged: bool = False
    ) -> None:
        cell = self._cell
        rank, line = cell.sort(message, priority, key)
        waiter = None if edged or cell.mailbox.free else waiting_incarnation()
        if waiter is None:
            await cell.mailbox.put(item, priority=rank, key=line)
        else:
            with _Edge(waiter, cell):
                await cell.mailbox.put(item, priority=rank, key=line)


class _Edge:
    """An edge of the wait-for graph while a handler waits."""

    __slots__ = ("_target", "_waiter")

    def __init__(self, waiter: Context, target: Cell) -> None:
        self._waiter = waiter.ref._cell
        self._target = target

    def __enter__(self) -> None:
        cycle = self._waiter.kernel.waits.add(self._waiter, self._target)
        if cycle is not None:
            names = [cell.path for cell in cycle]
            raise AskCycle(f"these actors would wait for each other for ever: {' -> '.join(names)}", cycle=names)

    def __exit__(self, *_: object) -> None:
        self._waiter.kernel.waits.remove(self._waiter, self._target)
