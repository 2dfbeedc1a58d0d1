"""The supervisor: it starts its children in order, hears of every end, restarts by its rules, and stops in reverse.

All decisions are taken by one coordinator, the supervisor's own task, which reads exit reports one by one. What to do
is decided in `restarts.py`; how to stop is in `stopping.py`. Under `one_for_one` a restart is one `start_soon`, so the
cost of a start or a crash does not depend on how many siblings there are.

A report counts only while it is about the current incarnation and nobody asked for the exit: without that rule the
siblings which a group restart stops would be taken for crashes and restarted over and over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, overload

import trio

from ...mailbox.errors import ActorStopped, NameTaken, NotFoundError, RestartLimitExceeded
from .cell import Cell
from .child import Child, Group
from .events import ActorRestart, Draining, Escalated
from .faults import unwrapped
from .node import Kernel, Node
from .restarts import Budget, affected, next_streak, wants_restart
from .stopping import stop_together

if TYPE_CHECKING:
    from .ref import Ref
    from .tree import TreeNode


class Supervisor(Node):
    """Children, started, watched, restarted and stopped together. Made by `open_supervisor` or from a `Group`."""

    __slots__ = ("_exits", "_hurried", "_kids", "_nodes", "_pulse", "_stop_wanted", "_task_status", "drain")

    kind: Literal["supervisor"] = "supervisor"
    spec: Group

    def __init__(self, spec: Group, parent: Supervisor | None, kernel: Kernel, drain: float | None = math.inf) -> None:
        super().__init__(spec, parent, kernel)
        self.budget = Budget(spec.max_restarts, spec.within)
        self.drain = drain
        self._nodes: dict[str, Node] = {}
        self._kids: trio.Nursery | None = None
        self._exits: deque[tuple[Node, int, BaseException | None]] = deque()
        self._pulse: trio.Event | None = None
        self._stop_wanted = False
        self._hurried = False
        self._task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED
        for child in spec.children:
            self._add(child).declared = True

    def __repr__(self) -> str:
        return f"<Supervisor {self.path} {self.state}, {len(self._nodes)} children>"

    # What users call.

    @overload
    async def start(self, child: Child) -> Ref: ...

    @overload
    async def start(self, child: Group) -> Supervisor: ...

    async def start(self, child: Child | Group) -> Ref | Supervisor:
        """Start `child` and return once it is up. If its start fails, its error is raised and the child forgotten.

        If cancelled: the child is stopped again.
        """
        node = self._add(child)
        node.probation = True
        self._launch(node)
        try:
            await node.wait_started()
        except trio.Cancelled:
            self._retire_soon(node)
            raise
        finally:
            node.probation = False
        return _handle(node)

    @overload
    def start_soon(self, child: Child) -> Ref: ...

    @overload
    def start_soon(self, child: Group) -> Supervisor: ...

    def start_soon(self, child: Child | Group) -> Ref | Supervisor:
        """Start `child` in the background. Its mailbox takes mail at once; a failing start counts as a crash."""
        node = self._add(child)
        self._launch(node)
        return _handle(node)

    async def stop(self, name: str) -> str:
        """Stop the child `name` for good: its intake closes, it drains within its grace; why it stopped.

        If cancelled: the child goes on stopping.
        """
        node = self._node(name)
        self._retire_soon(node)
        return await node.wait_stopped()

    def stop_soon(self, name: str) -> None:
        """Like `stop`, without waiting for it."""
        self._retire_soon(self._node(name))

    def ref(self, name: str) -> Ref:
        """The ref of the actor `name`; `NotFoundError` if there is none."""
        node = self._node(name)
        if not isinstance(node, Cell):
            raise NotFoundError(f"{node.path} is a supervisor: use group({name!r})")
        return node.ref

    def group(self, name: str) -> Supervisor:
        """The supervisor `name` among the children; `NotFoundError` if there is none."""
        node = self._node(name)
        if not isinstance(node, Supervisor):
            raise NotFoundError(f"{node.path} is an actor: use ref({name!r})")
        return node

    def names(self) -> tuple[str, ...]:
        """The names of the children in start order."""
        return tuple(self._nodes)

    def children(self) -> tuple[Node, ...]:
        """The children in start order."""
        return tuple(self._nodes.values())

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def tree(self) -> TreeNode:
        """The tree from here down as it is now, as frozen records."""
        from .tree import snapshot  # it walks supervisors, so it must know them

        return snapshot(self)

    def close_soon(self) -> None:
        """Ask the whole supervisor to drain and stop; `open_supervisor` does this when its block ends."""
        self.request_stop(final=True)

    # What children tell their supervisor.

    def nudge(self) -> None:
        """Something has changed: the coordinator looks."""
        if self._pulse is not None:
            self._pulse.set()

    def report(self, node: Node) -> None:
        """`node`'s incarnation has ended."""
        if node.probation and node.up_since < 0:
            self._finish(node, node.exit_reason())
        elif not node.stopping:
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
        self.budget.clear()
        self._exits.clear()
        super().launch(nursery)

    def _close_out(self, reason: str) -> None:
        for node in reversed(list(self._nodes.values())):
            self._finish(node, reason)

    # One incarnation: the coordinator.

    async def serve(self, task_status: trio.TaskStatus[Supervisor]) -> Exception | None:
        """The only incarnation of a root: what made it give up, or None if it was asked to stop.

        If cancelled: the children are cancelled without draining; `open_supervisor` shields it from that.
        """
        self.incarnation, self.state, self._task_status = 1, "starting", task_status
        try:
            failure = await self._supervise()
            self.cause = failure
            return failure
        finally:
            self.finish(self.exit_reason())

    async def _incarnate(self) -> None:
        failure = await self._supervise()
        if failure is not None:
            raise failure

    async def _supervise(self) -> Exception | None:
        """Start, coordinate, stop. What made it give up is returned and not raised, so that no nursery wraps it."""
        self.task = trio.lowlevel.current_task()
        self.stopping = self.stopping or self._stop_wanted
        try:
            with unwrapped():
                async with trio.open_nursery() as self._kids:
                    failure = await self._start_all()
                    if failure is None and not self._stop_wanted:
                        self.went_up()
                        self._task_status.started(self)
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
        own = node.spec.max_restarts if isinstance(node.spec, Child) else None
        if own is None:
            return self._own_budget
        if node.budget is None:
            within = node.spec.within
            node.budget = Budget(own, self.spec.within if within is None else within)
        return node.budget  # type: ignore[no-any-return]

    @property
    def _own_budget(self) -> Budget:
        return self.budget  # type: ignore[no-any-return]

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
            if self._stop_wanted or (not node.leaving and not await self._start_one(node)):
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

    # The book of children.

    def _add(self, child: Child | Group) -> Node:
        if self.leaving or self.state == "stopped":
            raise ActorStopped(f"{self.path} is stopping and starts no more children", agent=self.path)
        if child.name in self._nodes:
            raise NameTaken(f"{self.path} has a child named {child.name!r}; stop it first or choose another name")
        node = _make_node(child, self)
        self._nodes[child.name] = node
        return node

    def _launch(self, node: Node) -> None:
        """Start the next incarnation, unless the supervisor is down itself: then it starts with the supervisor."""
        if self._kids is not None and not node.leaving:
            node.launch(self._kids)

    def _node(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            raise NotFoundError(f"{self.path} has no child named {name!r}")
        return node


def _make_node(child: Child | Group, parent: Supervisor) -> Node:
    if isinstance(child, Child):
        return Cell(child, parent, parent.kernel)
    return Supervisor(child, parent, parent.kernel)


def _handle(node: Node) -> Ref | Supervisor:
    if isinstance(node, Cell):
        return node.ref
    assert isinstance(node, Supervisor)
    return node
