"""Transcripts and audit trails as lines of text, and assertions whose failures show a readable difference."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from ..hub.audit import AuditRecord
from ..mailbox.envelope import Envelope

ANYTHING = "..."


def transcript_lines(log: Iterable[Envelope], names: Mapping[str, str], *, events: bool = False) -> list[str]:
    """A log as lines `name: text`; with `events` its bookkeeping too, as `* session.opened`."""
    lines = []
    for envelope in log:
        if envelope.text:
            lines.append(f"{names.get(envelope.sender_id, envelope.sender_id)}: {envelope.text}")
        elif events:
            lines.append(f"* {envelope.event_type.removeprefix('ag2.')}")
    return lines


def audit_lines(records: Iterable[AuditRecord]) -> list[str]:
    """The kinds of audit records, one a line."""
    return [str(record["kind"]) for record in records]


def assert_lines(found: Sequence[str], expected: Sequence[str], what: str) -> None:
    """Raise `AssertionError` with a line-by-line difference. A line `...` stands for any number of lines."""
    if not _fits(list(found), list(expected)):
        difference = "\n".join(difflib.ndiff(list(expected), list(found)))
        raise AssertionError(f"{what} is not as expected (- expected, + found):\n{difference}")


def _fits(found: list[str], expected: list[str]) -> bool:
    if not expected:
        return not found
    if expected[0] == ANYTHING:
        return any(_fits(found[skipped:], expected[1:]) for skipped in range(len(found) + 1))
    return bool(found) and found[0] == expected[0] and _fits(found[1:], expected[1:])
