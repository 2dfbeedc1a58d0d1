"""What people see: the talk as it happens, a bar over long inputs, the audit trail and the supervision tree.

rich leaves colour and movement away by itself where the output is no terminal or NO_COLOR is set. Everything that
comes from files or agents is shown as plain text without control characters: a document must not steer a terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import attrs
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..actors.runtime.tree import TreeNode
from ..mailbox.envelope import Envelope
from ..mailbox.events import EV_TEXT
from .ledger import Ledger
from .messages import Source, spoken

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
LONG = 2 << 20
"""Bytes of input from which a bar is worth its lines, even when the talk is shown."""
MANY = 8
"""Files from which it is."""
MAX_CHILDREN = 12
"""Children of one supervisor that are drawn."""
MAX_AUDIT = 30
"""Audit records shown; the rest is counted by kind."""
STEPS = ("survey", "read", "check")
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)), "�")


def plain(text: object) -> str:
    """Text on one line that cannot steer a terminal."""
    return " ".join(str(text).split()).translate(_CONTROLS)


@attrs.define
class Screen:
    """Prints a run. `names` maps agent ids to names and may grow."""

    console: Console
    quiet: bool = False
    names: dict[str, str] = attrs.Factory(dict)
    colours: dict[str, str] = attrs.Factory(dict)

    def speaker(self, agent_id: str) -> Text:
        """An agent's name in its colour."""
        name = self.names.get(agent_id, agent_id[-8:])
        colour = self.colours.setdefault(name, COLOURS[len(self.colours) % len(COLOURS)])
        return Text(plain(name), style=f"bold {colour}", no_wrap=True)

    def show(self, what: RenderableType) -> None:
        """Print; once nobody reads on, as behind `| head`, the rest of the run goes on in silence."""
        try:
            self.console.print(what)
        except BrokenPipeError:
            self.console.quiet = True

    def title(self, text: str) -> None:
        """A rule with a title."""
        if not self.quiet:
            self.show(Rule(Text(plain(text), style="bold"), align="left"))

    def note(self, text: str, style: str = "") -> None:
        """A line of our own."""
        if not self.quiet:
            self.show(Text(plain(text), style=style))

    def warn(self, text: str) -> None:
        """A line that is shown even when quiet."""
        self.show(Text(plain(text), style="yellow"))

    def said(self, envelope: Envelope, hearers: Iterable[str]) -> None:
        """One text of a session, with its time, the end of its session's id, speaker and hearers."""
        if self.quiet or envelope.event_type != EV_TEXT:
            return
        who = Text.assemble(self.speaker(envelope.sender_id), Text(" → ", style="dim"))
        who.append_text(Text(", ").join(self.speaker(h) for h in hearers if h != envelope.sender_id))
        row = Table.grid(padding=(0, 1))
        for width in (8, 4, 20):
            row.add_column(width=width, no_wrap=True)
        row.add_column(ratio=1, overflow="fold")
        time, session = envelope.created_at[11:19], envelope.session_id[-4:]
        row.add_row(Text(time, style="dim"), Text(session, style="dim"), who, Text(plain(spoken(envelope.text))))
        row.expand = True
        self.show(row)

    def accident(self, what: str) -> None:
        """A crash or a restart, in between the talk."""
        if not self.quiet:
            self.show(Text(f"✖ {plain(what)}", style="bold red"))

    def recovery(self, what: str) -> None:
        """What repaired it."""
        if not self.quiet:
            self.show(Text(f"↻ {plain(what)}", style="bold green"))

    @contextmanager
    def reading(self, sources: Sequence[Source]) -> Iterator[Callable[[str, str, int], None]]:
        """A bar over the files while the block runs; yields the function that moves it."""
        size = sum(source.size for source in sources)
        long = size >= LONG or len(sources) >= MANY
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not (long and self.console.is_terminal),
        )
        with bar:
            yield Gauge(bar, bar.add_task("files", total=len(sources)), {s.name: s.size for s in sources})

    def audit(self, records: Sequence[Any]) -> None:
        """The audit trail: the newest records in full, all of them by kind."""
        if self.quiet:
            return
        table = Table("time", "event", "what", box=None, header_style="bold", pad_edge=False, expand=True)
        table.columns[2].ratio = 1
        table.columns[2].overflow = "fold"
        for record in records[-MAX_AUDIT:]:
            style = "red" if record["kind"] in ("turn_failed", "dead_letter", "denied") else ""
            time = Text(str(record["at"])[11:19], style="dim")
            table.add_row(time, Text(record["kind"], style=style), Text(self.details(record)))
        self.title(f"Audit trail: the last {min(len(records), MAX_AUDIT)} of {len(records)} records")
        self.show(table)
        kinds = Counter(str(record["kind"]) for record in records)
        self.show(Text(", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())), style="dim"))

    def details(self, record: Mapping[str, Any]) -> str:
        """A record's own fields: agents by name, ids by their end."""
        told = {"at", "kind", "version", *(["name"] if "agent_id" in record else [])}
        parts: list[str] = []
        for key, value in record.items():
            if key not in told and value not in (None, "", (), []):
                shown = ", ".join(map(self.short, value)) if isinstance(value, list | tuple) else self.short(value)
                parts.append(f"{key.removesuffix('_id').removeprefix('exc_')} {shown}")
        return "; ".join(parts)

    def short(self, value: object) -> str:
        """A value for a narrow column."""
        text = plain(value)
        text = self.names.get(text, text)
        if "/" in text:
            return text.rsplit("/", 1)[-1]
        if len(text) > 20 and " " not in text:
            return f"…{text[-4:]}"
        return text if len(text) <= 90 else f"{text[:89]}…"

    def tree(self, root: TreeNode) -> None:
        """The supervision tree."""
        if not self.quiet:
            self.title("Supervision tree")
            self.show(draw_tree(root))

    def result(self, path: str, ledger: Ledger, summary: str) -> None:
        """Where the digest lies and the final account; shown even when quiet."""
        style = "green" if ledger.balanced else "bold red"
        lines = [Text(plain(summary)), Text(plain(ledger.line()), style=style), Text(f"Digest: {plain(path)}", "bold")]
        if self.quiet:
            self.show(Group(*lines))
        else:
            self.show(Panel(Group(*lines), title="Result", title_align="left"))


@attrs.define
class Gauge:
    """Turns bytes read in each of the three steps into the progress of a bar that counts files."""

    bar: Progress
    task: TaskID
    sizes: Mapping[str, int]
    done: dict[tuple[str, str], float] = attrs.Factory(dict)
    total: float = 0.0

    def __call__(self, step: str, name: str, done: int) -> None:
        """Note that so many bytes of a file are done in a step."""
        size = self.sizes.get(name, 0)
        if step not in STEPS or not size:
            return
        before = self.done.get((step, name), 0.0)
        share = min(done / size, 1.0)
        if share > before:
            self.done[step, name] = share
            self.total += (share - before) / len(STEPS)
            self.bar.update(self.task, completed=round(self.total, 2), description=plain(name)[-24:])


def draw_tree(node: TreeNode) -> Tree:
    """The supervision tree for the console; of many children the first and those that were restarted are drawn."""
    tree = Tree(Text.assemble((plain(node.name), "bold"), *_state(node)), guide_style="dim")
    shown = [c for number, c in enumerate(node.children) if number < MAX_CHILDREN or c.incarnation > 1]
    for child in shown:
        tree.children.append(draw_tree(child))
    if len(shown) < len(node.children):
        tree.add(Text(f"… and {len(node.children) - len(shown)} more", style="dim"))
    return tree


def _state(node: TreeNode) -> Iterator[tuple[str, str]]:
    yield f"  {node.strategy or node.state}", "dim"
    if node.kind == "actor":
        yield f"  {node.handled} handled", "dim"
    if node.incarnation > 1:
        yield f"  incarnation {node.incarnation}", "bold yellow"


class PipeConsole(Console):
    """A console that tells of a broken pipe, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Leave it to the caller of `print`."""
        raise BrokenPipeError


def open_console(*, plain_output: bool = False, file: TextIO | None = None) -> Console:
    """The console: without colour and movement when asked for or when the output is no terminal."""
    if plain_output:
        return PipeConsole(file=file, force_terminal=False, no_color=True, highlight=False)
    return PipeConsole(file=file, highlight=False)
