"""Which answer belongs to which question: the open calls of one connection.

A call is parked on trio's own task, not on an event: one slot, no allocation beyond it, since every envelope takes one.
Deadlines need no scope per call either: one housekeeper asks for the next deadline and expires what is late.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import trio

from ...mailbox.errors import AgorioError, error_from_wire
from ...transports.frames import AcceptFrame, ErrorFrame, ResponseFrame

Answer: TypeAlias = AcceptFrame | ResponseFrame | ErrorFrame


class Call:
    """A question that waits for its answer. `then`, if given, is called with the answer before anybody is woken."""

    __slots__ = ("_outcome", "_task", "deadline", "request_id", "then", "what")

    def __init__(
        self, request_id: int, what: str, deadline: float, then: Callable[[Answer | Exception], None] | None
    ) -> None:
        self.request_id = request_id
        self.what = what
        self.deadline = deadline
        self.then = then
        self._task: trio.lowlevel.Task | None = None
        self._outcome: Answer | Exception | None = None

    def settle(self, outcome: Answer | Exception) -> None:
        """Hand over the answer, or the error that comes instead of one."""
        self._outcome = outcome
        if self.then is not None:
            self.then(outcome)
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> AcceptFrame | ResponseFrame:
        """The answer; raises the refusal that came instead. If cancelled: the question stays asked."""
        if self._outcome is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        else:
            await trio.lowlevel.checkpoint()
        outcome = self._outcome
        if isinstance(outcome, AcceptFrame | ResponseFrame):
            return outcome
        raise as_error(outcome)

    def _abandon(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


def as_error(outcome: Answer | Exception | None) -> Exception:
    """The exception that a refusal stands for."""
    if isinstance(outcome, ErrorFrame):
        return error_from_wire(outcome.code, outcome.message, dict(outcome.details))
    assert isinstance(outcome, Exception), f"an answer is no error: {outcome!r}"
    return outcome


def again(error: AgorioError) -> AgorioError:
    """A fresh copy: one exception object raised in many tasks would collect all their tracebacks."""
    return type(error)(error.message, **error.details)


class Calls:
    """The open calls of one connection, by request id."""

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._open: dict[int, Call] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self,
        what: str,
        deadline: float = math.inf,
        then: Callable[[Answer | Exception], None] | None = None,
    ) -> Call:
        """A new call under a number of its own."""
        self._last = number = self._last + 1
        call = self._open[number] = Call(number, what, deadline, then)
        return call

    def forget(self, call: Call) -> None:
        """Nobody waits any more; a late answer is ignored."""
        self._open.pop(call.request_id, None)

    def answer(self, frame: Answer) -> None:
        """Hand an answer to its call; one that nobody waits for is ignored."""
        call = self._open.pop(frame.request_id, None)  # type: ignore[arg-type]
        if call is not None:
            call.settle(frame)

    def expire(self, now: float) -> None:
        """Fail the calls whose deadline has come."""
        for call in [call for call in self._open.values() if call.deadline <= now]:
            del self._open[call.request_id]
            call.settle(TimeoutError(f"the hub has not answered {call.what!r} in time; ask again or check the link"))

    def next_deadline(self) -> float:
        """When the first open call is late."""
        return min((call.deadline for call in self._open.values()), default=math.inf)

    def fail_all(self, error: AgorioError) -> None:
        """Fail every open call."""
        calls = list(self._open.values())
        self._open.clear()
        for call in calls:
            call.settle(again(error))
