"""The write-ahead log, read without SQLite: is it cut short, as power cuts leave it, or damaged where it was safe?

SQLite reads the log up to the first frame whose checksum is wrong and forgets the rest, since it cannot know better.
With a sync for each commit one can: only the last commit may be unsynced, so a frame that continues a commit, behind a
wrong one, says that bytes which were safe have changed. Frames are chained by their checksums, so whether one follows
the one before it can be seen wherever one looks. See https://www.sqlite.org/fileformat2.html#walformat. Pure.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator

import attrs

from .disk_schema import PAGE_SIZE

_HEADER, _FRAME = 32, 24
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_Sum = tuple[int, int]


@attrs.frozen
class Frame:
    """One frame."""

    page: int
    """Which page it holds."""
    data: bytes
    """The page."""
    is_commit: bool
    """Whether a commit ends with it."""
    is_ours: bool
    """Whether it was written since the log was last begun from the front."""
    is_good: bool
    """Whether it continues the frame before it and holds what was written then."""


def frames(log: bytes) -> Iterator[Frame]:
    """The frames of a log, good and bad."""
    if len(log) < _HEADER:
        return
    order = {_LITTLE: "<", _BIG: ">"}.get(struct.unpack_from(">I", log)[0], "<" if sys.byteorder == "little" else ">")
    before: _Sum | None = _pair(log, 24)
    salts = log[16:24]
    if _sum(order, log[:24], (0, 0)) != before:
        before, salts = None, log[40:48]  # its header is damaged; the first frame repeats what is needed of it
    for at in range(_HEADER, len(log) - _FRAME - PAGE_SIZE + 1, _FRAME + PAGE_SIZE):
        page, size = _pair(log, at)
        data, claimed = log[at + _FRAME : at + _FRAME + PAGE_SIZE], _pair(log, at + 16)
        is_ours = log[at + 8 : at + 16] == salts
        is_good = is_ours and before is not None and _sum(order, data, _sum(order, log[at : at + 8], before)) == claimed
        yield Frame(page, data, bool(size), is_ours, is_good)
        before = claimed


def _pair(log: bytes, at: int) -> _Sum:
    first, second = struct.unpack_from(">II", log, at)
    return first, second


def _sum(order: str, data: bytes, start: _Sum) -> _Sum:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def is_damaged(found: Iterable[Frame]) -> bool:
    """Whether a commit that was safe is wrong. Right for a log that was synced at each commit."""
    is_broken = has_commit = False  # whether a bad frame was met, and whether a commit ended in the chain since
    for frame in found:
        if is_broken and has_commit and frame.is_good:
            return True
        is_broken = is_broken or not frame.is_good
        has_commit = is_broken and (frame.is_commit or (has_commit and frame.is_good))
    return False


def committed(found: Iterable[Frame]) -> tuple[dict[int, bytes], list[bytes]]:
    """The newest page of each number that was committed, and pages among them that are damaged."""
    known = list(found)
    end = max((number for number, frame in enumerate(known, 1) if frame.is_good), default=0)
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    doubtful: list[bytes] = []
    for frame in known[:end]:
        if frame.is_good:
            pending[frame.page] = frame.data
        elif frame.is_ours:
            doubtful.append(frame.data)
        if frame.is_commit:
            pages |= pending
            pending = {}
    return pages, doubtful
