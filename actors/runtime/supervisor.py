"""The supervisor as its users see it: children are started, found, stopped, and drawn as a tree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, overload

import trio

from ...mailbox.errors import ActorStopped, NameTaken, NotFoundError
from .cell import Cell
from .child import Child, Group
from .coordinator import Coordinator
from .node import Kernel, Node

if TYPE_CHECKING:
    from .ref import Ref
    from .tree import TreeNode


class Supervisor(Coordinator):
    """Children, started, watched, restarted and stopped together. Made by `open_supervisor` or from a `Group`."""

    __slots__ = ()

    kind: Literal["supervisor"] = "supervisor"

    def __init__(self, spec: Group, parent: Coordinator | None, kernel: Kernel, drain: float | None = math.inf) -> None:
        super().__init__(spec, parent, kernel, drain)
        for child in spec.children:
            self._add(child).declared = True

    def __repr__(self) -> str:
        return f"<Supervisor {self.path} {self.state}, {len(self._nodes)} children>"

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

    def _add(self, child: Child | Group) -> Node:
        if self.leaving or self.state == "stopped":
            raise ActorStopped(f"{self.path} is stopping and starts no more children", agent=self.path)
        if child.name in self._nodes:
            raise NameTaken(f"{self.path} has a child named {child.name!r}; stop it first or choose another name")
        node = _make_node(child, self)
        self._nodes[child.name] = node
        return node

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
