"""Waiting without sleeping: until nothing runs, until nothing is under way, until something is true."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import trio
import trio.testing

from ..hub.hub import Hub

SHORTEST = 0.01
SHARE = 100


async def wait_until(condition: Callable[[], Any], *, timeout: float = 60.0, what: str = "") -> Any:
    """Wait until `condition()`, async or not, is true; what it returned.

    It looks whenever every task waits for something, and then again and again, at the latest when a hundredth of the
    time it has waited has passed once more. Raises `TimeoutError` that shows the condition, or says `what` did not
    happen. If cancelled: nothing has changed.
    """
    value, started = None, trio.current_time()
    with trio.move_on_after(timeout):
        while True:
            await trio.testing.wait_all_tasks_blocked()
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await trio.sleep(max(SHORTEST, (trio.current_time() - started) / SHARE))
    raise TimeoutError(f"{what or _source(condition)} did not come true within {timeout:g} s; it was last {value!r}")


async def wait_all_idle(hub: Hub, *, timeout: float = 600.0) -> None:
    """Wait until the hub has nothing under way: no commit, no delivery that a connected agent has yet to handle.

    Turns that take their time and retries after failed ones are waited for, so time passes on trio's clock. People and
    agents without a handler are not waited for. Raises `TimeoutError` that says what is left.
    If cancelled: nothing has changed.
    """
    try:
        await wait_until(lambda: not any(under_way(hub)), timeout=timeout)
    except TimeoutError:
        left = "\n".join(f"  {line}" for line in under_way(hub))
        raise TimeoutError(f"the hub is still busy after {timeout:g} s:\n{left}") from None


async def wait_all_written(hub: Hub) -> None:
    """Wait until every task waits for something and no change waits to be committed. If cancelled: nothing changed."""
    await wait_until(lambda: not any("committed" in line for line in under_way(hub)), timeout=600.0)


def under_way(hub: Hub) -> Iterator[str]:
    """What the hub has in hand, in words."""
    services = hub._services  # the kit looks where no user may
    if services is None or hub.is_closed:
        return
    queued = services.writer.statistics()["queued"]
    if queued:
        yield f"{queued} changes wait to be committed"
    for entry in services.directory:
        desk, handles = entry.inbox.desk, entry.inbox.connection is not None and entry.passport.kind != "human"
        deliveries = len(desk) if handles and desk.window != 0 else 0
        if deliveries:
            yield f"{entry.name} has {deliveries} deliveries to handle"


def _source(condition: Callable[..., Any]) -> str:
    """The condition as its author wrote it, or its name."""
    try:
        lines = inspect.getsource(condition).split("\n")
    except (OSError, TypeError):
        return repr(getattr(condition, "__name__", condition))
    name = getattr(condition, "__name__", "<lambda>")
    return _lambda(" ".join(line.strip() for line in lines).strip()) if name == "<lambda>" else f"{name}()"


def _lambda(text: str) -> str:
    """The lambda in a statement, as far as its brackets go."""
    start, depth = text.find("lambda"), 0
    for at, letter in enumerate(text[start:], start):
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0 or (letter == "," and not depth and ":" in text[start:at]):
            return text[start:at]
    return text[start:]
