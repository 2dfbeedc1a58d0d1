"""The chain over the audit log. Pure.

The value at record n is a hash over the value at n - 1 and the record's bytes. A record does not carry the value right
before it, which is not known while earlier records are still being committed and may yet fail, but that of the newest
record which was durable when it was written. Whoever keeps an anchor (a sequence and the value there) somewhere else
can prove everything up to it: without that, a forger could compute the whole chain anew.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import attrs
import msgspec

MAX_PROBLEMS = 100
START = "0" * 64


@attrs.frozen
class AuditAnchor:
    """A point of the chain."""

    sequence: int = 0
    """The record it stands behind."""
    head: str = START
    """The chain's value there, in hexadecimal."""


@attrs.frozen
class AuditVerdict:
    """What a check of the whole log found."""

    anchor: AuditAnchor
    """Where the log ends now."""
    problems: tuple[str, ...]
    """What is wrong, in words; at most 100 entries."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Chain:
    """Follows the log record by record, keeping the value at each point that a later record may name."""

    __slots__ = ("_expected", "_heads", "_oldest", "_start", "anchor", "problems")

    def __init__(self, anchor: AuditAnchor | None = None, expected: AuditAnchor | None = None) -> None:
        self.anchor = anchor or AuditAnchor()
        self._expected = expected
        self._start = self._oldest = self.anchor.sequence
        self._heads = {self._start: self.anchor.head}
        self.problems: list[str] = []

    def extend(self, body: bytes) -> None:
        """One more record of our own."""
        digest = sha256(bytes.fromhex(self.anchor.head) + body).hexdigest()
        self.anchor = AuditAnchor(self.anchor.sequence + 1, digest)

    def add(self, body: bytes, link: Any) -> None:
        """One more record from the store, with what it says of the chain before it."""
        number = self.anchor.sequence + 1
        self._check(number, link)
        self.extend(body)
        self._heads[number] = self.anchor.head
        expected = self._expected
        if expected is not None and expected.sequence == number and expected.head != self.anchor.head:
            self._report(f"the log up to record {number} is not what the anchor was taken of")

    def _check(self, number: int, link: Any) -> None:
        if not isinstance(link, list) or len(link) != 2:
            self._report(f"record {number} is unreadable or has no link to the chain")
            return
        sequence, head = link
        if sequence in self._heads:
            if self._heads[sequence] != head:
                self._report(f"what precedes record {number} was changed: the chain differs at record {sequence}")
            self._forget_before(sequence)
        elif not isinstance(sequence, int) or sequence >= self._start:
            self._report(f"record {number} was moved: it follows record {sequence}")

    def _forget_before(self, sequence: int) -> None:
        """Links never point back behind an earlier one."""
        if sequence > self._oldest:
            self._oldest = sequence
            self._heads = {key: head for key, head in self._heads.items() if key >= sequence}

    def _report(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def verdict(self) -> AuditVerdict:
        """What was found, once everything was added."""
        expected = self._expected
        if expected is not None and expected.sequence > self.anchor.sequence:
            self._report(f"the log ends at record {self.anchor.sequence}, the anchor was taken at {expected.sequence}")
        return AuditVerdict(self.anchor, tuple(self.problems))


def anchor_to_bytes(anchor: AuditAnchor) -> bytes:
    """As JSON."""
    return msgspec.json.encode({"sequence": anchor.sequence, "head": anchor.head})


def anchor_from_bytes(body: bytes) -> AuditAnchor:
    """From JSON; an unreadable one is the chain's beginning, from which everything is read again."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        anchor = AuditAnchor(int(fields["sequence"]), str(fields["head"]))
        bytes.fromhex(anchor.head)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, ValueError, TypeError):
        return AuditAnchor()
    return anchor
