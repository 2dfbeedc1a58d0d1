"""The half of a supervisor that decides and acts: start in order, hear of every end, restart by the rules, stop.

All decisions are taken by one task, the supervisor's own, which reads exit reports one by one. What to do is decided in
`restarts.py`; how to stop is in `stopping.py`. Under `one_for_one` a restart is one `start_soon`, so the cost of a
start or a crash does not depend on how many siblings there are.

A report counts only while it is about the current incarnation and nobody asked for the exit: without that rule the
siblings which a group restart stops would be taken for crashes and restarted over and over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import trio

from ...mailbox.errors import RestartLimitExceeded
from .child import Child, Group
from .events import ActorRestart, Draining, Escalated
from .faults import unwrapped
from .node import Kernel, Node, Reporting
from .restarts import Budget, affected, next_streak, wants_restart
from .stopping import stop_together


class Coordinator(Node):
    """A node whose incarnation looks after other nodes."""

    __slots__ = ("_budget", "_exits", "_hurried", "_kids", "_nodes", "_pulse", "_stop_wanted", "drain")

    spec: Group

    def __init__(self, spec: Group, parent: Coordinator | None, kernel: Kernel, drain: float | None) -> None:
        super().__init__(spec, parent, kernel)
        self.drain = drain
        self._budget = Budget(spec.max_restarts, spec.within)
        self._nodes: dict[str, Node] = {}
        self._kids: trio.Nursery | None = None
        self._exits: deque[tuple[Node, int, BaseException | None]] = deque()
        self._pulse: trio.Event | None = None
        self._stop_wanted = False
        self._hurried = False

    # What children tell their supervisor.

    def nudge(self) -> None:
        """Something has changed: the coordinator looks."""
        if self._pulse is not None:
            self._pulse.set()

    def report(self, node: Node) -> None:
        """`node`'s incarnation has ended."""
        if node.probation and node.up_since < 0:
            self._finish(node, node.exit_reason())
        else:
            self._exits.append((node, node.incarnation, node.cause))
        self.nudge()

    # What a parent asks of it.

    def request_stop(self, final: bool) -> None:
        super().request_stop(final)
        self._stop_wanted = True
        self.nudge()

    def cancel(self) -> None:
        self.doomed = self._hurried = self._stop_wanted = True
        for node in self._nodes.values():
            if node.is_running:
                node.cancel()
        self.nudge()

    def launch(self, nursery: trio.Nursery) -> None:
        self._stop_wanted = self._hurried = False
        self._budget.clear()
        self._exits.clear()
        super().launch(nursery)

    def _close_out(self, reason: str) -> None:
        for node in reversed(list(self._nodes.values())):
            self._finish(node, reason)

    # One incarnation: the coordinator.

    async def serve(self, on_up: Callable[[], None]) -> Exception | None:
        """The only incarnation of a root: what made it give up, or None if it was asked to stop.

        If cancelled: the children are cancelled without draining; `open_supervisor` shields it from that.
        """
        self.incarnation, self.state = 1, "starting"
        try:
            failure = await self._supervise(on_up)
            self.cause = failure
            return failure
        finally:
            self.finish(self.exit_reason())

    async def _live(self) -> None:
        with Reporting(self):
            failure = await self._supervise()
            if failure is not None:
                raise failure

    async def _supervise(self, on_up: Callable[[], None] = lambda: None) -> Exception | None:
        """Start, coordinate, stop. What made it give up is returned and not raised, so that no nursery wraps it."""
        self.task = trio.lowlevel.current_task()
        try:
            with unwrapped():
                async with trio.open_nursery() as self._kids:
                    failure = await self._start_all()
                    if failure is None and not self._stop_wanted:
                        self.went_up()
                        on_up()
                        failure = await self._coordinate()
                    await self._stop_all()
                    self._kids.cancel_scope.cancel()
            return failure
        finally:
            self._kids = None

    async def _start_all(self) -> Exception | None:
        """Start the declared children one after the other, then at once those that were added at run time."""
        for node in list(self._nodes.values()):
            if not node.declared:
                self._launch(node)
            elif not await self._start_one(node):
                return node.cause if isinstance(node.cause, Exception) else None
        return None

    async def _start_one(self, node: Node) -> bool:
        if not self._stop_wanted:
            self._launch(node)
        while node.state == "starting" and not self._stop_wanted:
            await self._nap()
        return node.state == "up"

    async def _coordinate(self) -> Exception | None:
        """Handle exits until asked to stop (None) or forced to give up (the error)."""
        while not self._stop_wanted:
            if not self._exits:
                await self._nap()
                continue
            node, incarnation, cause = self._exits.popleft()
            if node.incarnation == incarnation and node.state == "down" and not node.stopping:
                failure = await self._judge(node, cause)
                if failure is not None:
                    return failure
        return None

    async def _judge(self, node: Node, cause: BaseException | None) -> Exception | None:
        if node.leaving or not wants_restart(node.spec.restart, cause is not None):
            self._finish(node, node.exit_reason())
            return None
        now = trio.current_time()
        budget = self._budget_of(node)
        count = budget.count(now, cause)
        if budget.is_spent():
            return self._give_up(node, budget, count)
        uptime = now - node.up_since if node.up_since >= 0 else 0.0
        node.streak = next_streak(node.streak, uptime, max(budget.within, node.spec.backoff.max))
        delay = node.spec.backoff.delay(node.streak, self.kernel.rng)
        self.kernel.emit(ActorRestart(node.path, node.incarnation, delay, count))
        if self.spec.strategy != "one_for_one":
            await self._restart_group(node, delay)
        elif delay:
            assert self._kids is not None
            self._kids.start_soon(self._launch_later, node, delay)
        else:
            self._launch(node)
        return None

    def _budget_of(self, node: Node) -> Budget:
        """The supervisor's own, unless the child has one to itself."""
        child = node.spec
        if not isinstance(child, Child) or child.max_restarts is None:
            return self._budget
        if node.budget is None:
            node.budget = Budget(child.max_restarts, self.spec.within if child.within is None else child.within)
        return node.budget

    def _give_up(self, node: Node, budget: Budget, count: int) -> Exception:
        self.kernel.emit(Escalated(self.path, node.path, count))
        error = RestartLimitExceeded(
            f"{self.path} gives up: {node.path} is restart number {count} within {budget.within:g} s, "
            f"and max_restarts is {budget.max_restarts}",
            supervisor=self.path,
            child=node.path,
            restarts=count,
        )
        causes = budget.causes()
        if causes:
            error.__cause__ = ExceptionGroup("the crashes that used up the restarts", causes)
        return error

    async def _restart_group(self, crashed: Node, delay: float) -> None:
        """Stop those affected in reverse order, rest, start them in order. A start that fails is judged anew."""
        group = affected(self.spec.strategy, list(self._nodes.values()), crashed)
        for node in reversed(group):
            if node is not crashed:
                await stop_together([node], final=False, at_once=True)
        await self._rest(delay)
        for node in group:
            if not node.leaving and not await self._start_one(node):
                return

    async def _rest(self, delay: float) -> None:
        with trio.move_on_after(delay):
            while not self._stop_wanted:
                await self._nap()

    async def _launch_later(self, node: Node, delay: float) -> None:
        incarnation = node.incarnation
        await trio.sleep(delay)
        if node.incarnation == incarnation and node.state == "down":
            self._launch(node)

    async def _nap(self) -> None:
        self._pulse = trio.Event()
        await self._pulse.wait()
        self._pulse = None

    # Stopping.

    async def _stop_all(self) -> None:
        """Children added at run time under `one_for_one` stop together, all others one by one in reverse order."""
        final = self.leaving or self.parent is None
        drain = self.drain or 0.0
        at_once = self._hurried or drain <= 0
        nodes = list(self._nodes.values())
        self.kernel.emit(Draining(self.path, sum(node.is_running for node in nodes)))
        if final and not at_once and drain != math.inf and self._kids is not None:
            self._kids.start_soon(self._hurry_after, drain)
        for batch in self._stop_batches(nodes):
            await stop_together(batch, final=final, at_once=at_once or self._hurried)
            if final:
                for node in batch:
                    self._finish(node, node.exit_reason())

    def _stop_batches(self, nodes: list[Node]) -> Iterator[list[Node]]:
        if self.spec.strategy == "one_for_one":
            together = [node for node in nodes if not node.declared]
            together.reverse()
            yield together
            nodes = [node for node in nodes if node.declared]
        for node in reversed(nodes):
            yield [node]

    async def _hurry_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.cancel()

    def _retire_soon(self, node: Node) -> None:
        node.request_stop(final=True)
        if self._kids is None:
            if not node.is_running:
                self._finish(node, node.exit_reason())
        else:
            self._kids.start_soon(self._retire, node)

    async def _retire(self, node: Node) -> None:
        await stop_together([node], final=True, at_once=self._hurried)
        self._finish(node, node.exit_reason())

    def _finish(self, node: Node, reason: str) -> None:
        node.finish(reason)
        if self._nodes.get(node.name) is node:
            del self._nodes[node.name]

    def _launch(self, node: Node) -> None:
        """Start the next incarnation, unless the supervisor is down itself: then it starts with the supervisor."""
        if self._kids is not None and not node.leaving:
            node.launch(self._kids)
