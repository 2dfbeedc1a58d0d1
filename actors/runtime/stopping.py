"""Stopping children: ask, wait for the grace, cancel, wait again, say who is stuck, and join all the same."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from .events import Stuck
from .node import Node


async def stop_together(nodes: Iterable[Node], *, final: bool, at_once: bool) -> None:
    """End the incarnations of `nodes`, all at the same time, each within its own grace.

    Waiting for one after the other in the order of their deadlines is waiting for all of them, without a task or a
    timer per child: ten thousand idle children stop in the time that their own tasks take.

    If cancelled: those asked to stop go on stopping.
    """
    now = trio.current_time()
    graceful = final and not at_once
    waiting: list[tuple[float, Node]] = []
    for node in nodes:
        node.request_stop(final)
        if node.is_running:
            if not graceful:
                node.cancel()
            waiting.append((now + node.spec.grace, node))
    waiting.sort(key=lambda pair: pair[0])
    if graceful:
        waiting = await _past_grace(waiting)
    for deadline, node in waiting:
        await _wait_until(deadline, node)
        if node.is_running:
            node.kernel.emit(Stuck(node.path, node.incarnation, await_stack(node.task)))
    for _, node in waiting:
        await node.wait_down()


async def _past_grace(waiting: list[tuple[float, Node]]) -> list[tuple[float, Node]]:
    late = []
    for deadline, node in waiting:
        await _wait_until(deadline, node)
        if node.is_running:
            node.cancel()
            late.append((trio.current_time() + node.spec.grace, node))
    return late


async def _wait_until(deadline: float, node: Node) -> None:
    if node.is_running:
        with trio.CancelScope(deadline=deadline):
            await node.wait_down()


def await_stack(task: trio.lowlevel.Task | None) -> tuple[str, ...]:
    """Where `task` is, one line per frame from the outermost, then the same for the tasks below it, indented."""
    return () if task is None else tuple(_lines(task, ""))


def _lines(task: trio.lowlevel.Task, indent: str) -> list[str]:
    lines = [f"{indent}task {task.name}"]
    for frame, line in task.iter_await_frames():
        code = frame.f_code
        lines.append(f"{indent}  {code.co_qualname} ({code.co_filename.rsplit('/', 1)[-1]}:{line})")
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            lines += _lines(child, indent + "  ")
    return lines
