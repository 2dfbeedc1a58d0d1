"""Actors and helpers that the kernel's tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from agorio.actors.runtime import Actor, Context, Event, Ref
from agorio.mailbox.errors import ActorCrashed, ActorStopped, Refuse


class Script(Actor):
    """Does what its messages say, and writes down what it has done.

    `"boom"` crashes, `"no"` refuses, `("sleep", s)` sleeps, `("deaf", s)` sleeps shielded, anything else is handled at
    once. The reply is `(incarnation, message)`.
    """

    def __init__(self, log: list[Any] | None = None, *, starts: Callable[[Context], None] | None = None) -> None:
        self.log = [] if log is None else log
        self.starts = starts

    async def on_start(self, ctx: Context) -> None:
        if self.starts is not None:
            self.starts(ctx)

    async def receive(self, message: Any, ctx: Context) -> Any:
        match message:
            case "boom":
                raise ValueError("boom")
            case "no":
                raise Refuse("no")
            case ("sleep", seconds):
                await trio.sleep(seconds)
            case ("deaf", seconds):
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
        self.log.append((ctx.name, message))
        return ctx.incarnation, message


async def crash(ref: Ref) -> BaseException:
    """Crash `ref` by a question; the error the asker got."""
    try:
        await ref.ask("boom")
    except (ActorCrashed, ActorStopped) as exc:
        return exc
    raise AssertionError("it did not crash")


def of_type(events: list[Event], kind: type[Any]) -> list[Any]:
    """The events of one type."""
    return [event for event in events if isinstance(event, kind)]


def living_tasks() -> int:
    """How many tasks there are in this run."""
    return trio.lowlevel.current_statistics().tasks_living
