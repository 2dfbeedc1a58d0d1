"""Tables for people, JSON lines for machines, a bar on standard error for long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ..demo.screen import PipeConsole, plain

PIPED_WIDTH = 160
GAP = 2
NARROWEST = 6
Tick = Callable[[int], None]


def print_json(record: Any) -> None:
    """One JSON object on one line."""
    print_raw(msgspec.json.encode(record))


def print_raw(line: bytes) -> None:
    """One line that is JSON already."""
    sys.stdout.write(line.decode() + "\n")


def say(text: str) -> None:
    """One line that cannot steer a terminal."""
    sys.stdout.write(plain(text) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()) -> None:
    """A table as wide as the terminal.

    Columns named in `whole` are never cut; the others give way, the widest first.
    """
    console = _console()
    lines = [[plain(cell) for cell in row] for row in (columns, *rows)]
    natural = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    fitted = widths(natural, [name in whole for name in columns], console.width - GAP * (len(columns) - 1))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for name, width in zip(columns, fitted, strict=True):
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=width)
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console.print(table)


def widths(natural: Sequence[int], is_whole: Sequence[bool], available: int) -> list[int]:
    """The width of each column: its own where there is room, else those that may be cut are cut to one width."""
    left = available - sum(width for width, keep in zip(natural, is_whole, strict=True) if keep)
    shared = sorted(width for width, keep in zip(natural, is_whole, strict=True) if not keep)
    most = NARROWEST
    while shared:
        most = max(NARROWEST, left // len(shared))
        if shared[0] > most:
            break
        left -= shared.pop(0)
    else:
        return list(natural)
    return [width if keep else min(width, most) for width, keep in zip(natural, is_whole, strict=True)]


def _console() -> Console:
    return PipeConsole(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Tick]:
    """A bar on standard error while the block runs; nothing where that is no terminal. Call it with what was done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # No refreshing thread: the bar moves when something was done.
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(title, total=total)

        def tick(count: int = 1) -> None:
            bar.advance(task, count)
            bar.refresh()

        yield tick
