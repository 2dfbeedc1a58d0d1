"""The supervision tree as records: what runs, in which state, with how much mail. It is the truth, not a drawing."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ...mailbox.box import Statistics
from .cell import Cell
from .node import Node, State
from .supervisor import Supervisor


@attrs.frozen
class TreeNode:
    """An actor or a supervisor at the moment of `tree()`."""

    name: str
    """Its name among its siblings."""
    kind: str
    """`actor` or `supervisor`."""
    state: State
    """`waiting` (not started yet), `starting`, `up`, `stopping`, `down` (between incarnations) or `stopped`."""
    incarnation: int
    """How often it was started."""
    mailbox: Statistics | None = None
    """An actor's mailbox."""
    handled: int = 0
    """Messages and questions that an actor has handled over all incarnations."""
    skipped: int = 0
    """Questions that were not answered because the asker had gone."""
    strategy: str = ""
    """A supervisor's strategy."""
    children: tuple[TreeNode, ...] = ()
    """A supervisor's children in start order."""

    def walk(self) -> Iterator[TreeNode]:
        """This node and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


def snapshot(node: Node) -> TreeNode:
    """The record of `node` and all below it."""
    if isinstance(node, Supervisor):
        children = tuple(snapshot(child) for child in node.children())
        strategy = node.spec.strategy
        return TreeNode(node.name, node.kind, node.state, node.incarnation, strategy=strategy, children=children)
    assert isinstance(node, Cell)
    return TreeNode(
        node.name, node.kind, node.state, node.incarnation, node.mailbox.statistics(), node.handled, node.skipped
    )


def render_tree(node: TreeNode) -> str:
    """The tree as text, one line per node."""
    return "\n".join(_render(node, "", ""))


def _render(node: TreeNode, first: str, rest: str) -> Iterator[str]:
    yield first + _line(node)
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        yield from _render(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _line(node: TreeNode) -> str:
    if node.mailbox is None:
        return f"{node.name} ({node.strategy}) {node.state} #{node.incarnation}"
    waiting = f", {node.mailbox.current_queued} waiting" if node.mailbox.current_queued else ""
    return f"{node.name} {node.state} #{node.incarnation}, {node.handled} handled{waiting}"
