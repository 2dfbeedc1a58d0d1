"""Tables for people, JSON lines for machines, a bar on standard error for long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ..demo.screen import PipeConsole, plain

PIPED_WIDTH = 160
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
    """A table as wide as the terminal. Columns named in `whole` are never cut; the others give way."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for at, name in enumerate(columns):
        longest = max(len(plain(cell)) for cell in (name, *(row[at] for row in rows)))
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=longest if name in whole else None)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    _console().print(table)


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
