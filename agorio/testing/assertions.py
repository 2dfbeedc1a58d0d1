"""Transcripts and audit trails as lines of text, and assertions whose failures show a readable difference.

In what is expected, `...` (the text or Python's `Ellipsis`) stands for any number of lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any

from ..hub.audit import AuditRecord
from ..hub.hub import Hub
from ..mailbox.envelope import Envelope

ANYTHING = "..."
SHOWN = 100
MISSING, EXTRA = 3, 2
_NOT_SHOWN = ("at", "kind", "chain", "audit_sequence")
Line = str | EllipsisType
AuditLine = str | EllipsisType | Mapping[str, Any]
Edit = tuple[str, Any]


def transcript_lines(log: Iterable[Envelope], names: Mapping[str, str], *, events: bool = False) -> list[str]:
    """A log as lines `name: text`; with `events` its bookkeeping too, as `* session.opened`."""
    lines = []
    for envelope in log:
        if envelope.text:
            lines.append(f"{names.get(envelope.sender_id, envelope.sender_id)}: {envelope.text}")
        elif events:
            lines.append(f"* {envelope.event_type.removeprefix('ag2.')}")
    return lines


def audit_line(record: Mapping[str, Any], *, fields: bool = True) -> str:
    """An audit record as `kind field=value ...`."""
    shown = [f"{key}={_short(record[key])}" for key in record if key not in _NOT_SHOWN] if fields else []
    return " ".join([str(record.get("kind", "")), *shown])


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


async def read_transcript(hub: Hub, session_id: str, *, events: bool = False) -> list[str]:
    """A session as lines. Raises `NotFoundError`. If cancelled: nothing has changed."""
    names = {info.agent_id: info.name for info in hub.agents()}
    return transcript_lines(await hub.read_wal(session_id), names, events=events)


async def assert_transcript(hub: Hub, session_id: str, expected: Sequence[Line], *, events: bool = False) -> None:
    """Raise `AssertionError` with the difference unless the session reads like this, line by line `name: text`.

    With `events` its bookkeeping counts as well, as `* session.opened`. If cancelled: nothing has changed.
    """
    found = await read_transcript(hub, session_id, events=events)
    assert_lines(found, expected, f"the transcript of session {session_id}")


async def assert_audit(hub: Hub, expected: Sequence[AuditLine]) -> None:
    """Raise `AssertionError` with the difference unless the audit log is this.

    Each line is a kind, or a mapping of a record's fields, `kind` among them. If cancelled: nothing has changed.
    """
    records = await hub.audit_log.read_all()
    edits = align(expected, records, lambda line, record: _fits(line, record))
    _raise_unless_clean(edits, "the audit log", _expected_audit, audit_line)


async def find_audit(hub: Hub, kind: str, **fields: Any) -> AuditRecord:
    """The newest audit record of a kind whose fields are these. Raises `AssertionError` where there is none.

    If cancelled: nothing has changed.
    """
    everything = await hub.audit_log.read_all()
    records = [record for record in everything if record["kind"] == kind]
    for record in reversed(records):
        if _fits(fields, record):
            return record
    wanted = audit_line({"kind": kind, **fields})
    if not records:
        kinds = ", ".join(sorted({str(record["kind"]) for record in everything})) or "nothing"
        raise AssertionError(f"the audit log has no record {wanted}, nor any of that kind; it holds {kinds}")
    found = "\n".join(f"  {audit_line(record)}" for record in records)
    raise AssertionError(f"the audit log has no record {wanted}; of that kind there are:\n{found}")


def _fits(wanted: Any, record: Mapping[str, Any]) -> bool:
    if isinstance(wanted, Mapping):
        return all(record.get(key) == value for key, value in wanted.items())
    return bool(record.get("kind") == wanted)


def _expected_audit(line: Any) -> str:
    return audit_line(line) if isinstance(line, Mapping) else str(line)


def assert_lines(found: Sequence[str], expected: Sequence[Line], what: str) -> None:
    """Raise `AssertionError` with a line-by-line difference unless the lines are as expected."""
    edits = align(expected, found, lambda line, other: bool(line == other))
    _raise_unless_clean(edits, what, str, str)


# The difference.


def align(expected: Sequence[Any], found: Sequence[Any], same: Callable[[Any, Any], bool]) -> list[Edit]:
    """The fewest edits from one to the other: `("=", found)`, `("-", expected)`, `("+", found)`, `("*", found)`.

    `*` is what a `...` stands for. A line that is missing weighs more than one too many, so that a `...` does not
    swallow what was expected after it.
    """
    costs = _costs(expected, found, same)
    edits: list[Edit] = []
    row = column = 0
    while row < len(expected) or column < len(found):
        here = costs[row][column]
        wild = row < len(expected) and _is_wild(expected[row])
        if wild and column < len(found) and costs[row][column + 1] == here:
            edits.append(("*", found[column]))
            column += 1
        elif wild:
            row += 1
        elif _matches(expected, found, row, column, same) and costs[row + 1][column + 1] == here:
            edits.append(("=", found[column]))
            row, column = row + 1, column + 1
        elif row < len(expected) and costs[row + 1][column] + MISSING == here:
            edits.append(("-", expected[row]))
            row += 1
        else:
            edits.append(("+", found[column]))
            column += 1
    return edits


def _costs(expected: Sequence[Any], found: Sequence[Any], same: Callable[[Any, Any], bool]) -> list[list[int]]:
    """How many edits it takes from each place on."""
    rows, columns = len(expected), len(found)
    costs = [[0] * (columns + 1) for _ in range(rows + 1)]
    costs[rows] = [left * EXTRA for left in range(columns, -1, -1)]
    for row in range(rows - 1, -1, -1):
        for column in range(columns, -1, -1):
            wild = _is_wild(expected[row])
            ways = [costs[row + 1][column] + (0 if wild else MISSING)]
            if column < columns:
                ways.append(costs[row][column + 1] + (0 if wild else EXTRA))
            if _matches(expected, found, row, column, same):
                ways.append(costs[row + 1][column + 1])
            costs[row][column] = min(ways)
    return costs


def _is_wild(line: Any) -> bool:
    return line is ... or (isinstance(line, str) and line == ANYTHING)


def _matches(
    expected: Sequence[Any], found: Sequence[Any], row: int, column: int, same: Callable[[Any, Any], bool]
) -> bool:
    if row >= len(expected) or column >= len(found) or _is_wild(expected[row]):
        return False
    return same(expected[row], found[column])


def _raise_unless_clean(
    edits: Sequence[Edit], what: str, show_expected: Callable[[Any], str], show_found: Callable[[Any], str]
) -> None:
    if any(kind in "-+" for kind, _ in edits):
        shown = [(kind, show_expected(item) if kind == "-" else show_found(item)) for kind, item in edits]
        difference = "\n".join(_difference(shown))
        raise AssertionError(f"{what} is not as expected (- expected, + found):\n{difference}")


def _difference(edits: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The edits as lines; neighbours that differ a little are marked where they do."""
    changed: list[tuple[str, str]] = []
    skipped = 0
    for kind, line in [*edits, ("end", "")]:
        if skipped and kind != "*":
            yield f"  ... ({skipped} line{'s' * (skipped > 1)})"
            skipped = 0
        if kind in "-+":
            changed.append((kind, line))
            continue
        if changed:
            yield from _changes(changed)
            changed = []
        if kind == "*":
            skipped += 1
        elif kind == "=":
            yield _indented("  ", line)


def _changes(changed: Sequence[tuple[str, str]]) -> Iterator[str]:
    gone = [line for kind, line in changed if kind == "-"]
    new = [line for kind, line in changed if kind == "+"]
    for line in difflib.ndiff(gone, new):
        yield _indented(line[:2], line[2:].rstrip("\n"))


def _indented(mark: str, line: str) -> str:
    return mark + line.replace("\n", "\n    ")
