"""A question under way: the asker sleeps on it, the handler answers it, and either may go first."""

from __future__ import annotations

from typing import Any

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled


class Question:
    """What lies in the mailbox for an `ask`. One task asks, one answers."""

    __slots__ = ("_asker", "_error", "_reply", "chain", "deadline", "is_gone", "is_settled", "message", "scope")

    def __init__(self, message: Any, chain: tuple[str, ...], deadline: float) -> None:
        self.message = message
        self.chain = chain
        self.deadline = deadline
        self.is_gone = False
        self.is_settled = False
        self.scope: trio.CancelScope | None = None
        self._asker: trio.lowlevel.Task | None = None
        self._reply: Any = None
        self._error: BaseException | None = None

    def answer(self, reply: Any) -> None:
        """Wake the asker with `reply`. Only the first answer counts."""
        if not self.is_settled:
            self._reply = reply
            self._settle()

    def fail(self, error: BaseException) -> None:
        """Wake the asker with `error`, unless there is an answer already."""
        if not self.is_settled:
            self._error = error
            self._settle()

    async def wait(self) -> Any:
        """The reply; raises the error the question failed with.

        If cancelled: the question is gone: skipped if it is still queued, its handler cancelled if it runs.
        """
        if not self.is_settled:
            self._asker = current_task()
            await wait_task_rescheduled(self._asker_gone)
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return self._reply

    def _settle(self) -> None:
        self.is_settled = True
        if self._asker is not None:
            task, self._asker = self._asker, None
            reschedule(task)

    def _asker_gone(self, _: Any) -> Abort:
        self._asker = None
        self.is_gone = True
        if self.scope is not None:
            self.scope.cancel()
        return Abort.SUCCEEDED
