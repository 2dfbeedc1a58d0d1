"""How a command ends: its exit code, one line about what went wrong, never a traceback for what is no fault of ours."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterator

import trio

from ..demo.screen import plain
from ..mailbox.errors import AgorioError

DONE = 0
WRONG = 1
NOT_DONE = 2
INTERRUPTED = 130


class CommandError(Exception):
    """The command cannot do what was asked; the message says why."""


def run_async(name: str, command: Callable[[argparse.Namespace], Awaitable[int]], args: argparse.Namespace) -> int:
    """Run a command in trio and return its exit code."""
    return run_sync(name, lambda args: trio.run(command, args), args)


def run_sync(name: str, command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command and return its exit code."""
    try:
        code = command(args)
        sys.stdout.flush()
        return code
    except BaseException as exc:
        end = exit_code(name, exc)
        if end is None:
            raise
        return end


def exit_code(name: str, exc: BaseException) -> int | None:
    """The exit code that an exception stands for, after saying why; None for a fault of the program."""
    leaves = tuple(leaves_of(exc))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        complain(name, "interrupted")
        return INTERRUPTED
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        _silence()
        return DONE
    if all(isinstance(leaf, AgorioError | CommandError | OSError) for leaf in leaves):
        complain(name, "; ".join(str(leaf) for leaf in leaves))
        return NOT_DONE
    return None


def leaves_of(exc: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group, or the exception itself."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves_of(inner)
    else:
        yield exc


def complain(name: str, what: str) -> None:
    """One line on standard error."""
    print(f"agorio {name}: {plain(what)}", file=sys.stderr, flush=True)


def _silence() -> None:
    """Nobody reads on, as behind `| head`; what is still buffered must not fail when the interpreter flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
