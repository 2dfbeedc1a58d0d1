"""Checksums. SQLite's main file has none: of flipped bits it returns most as if nothing had happened.

A record's checksum covers its stream, its sequence, its bytes and, chained, every record before it in its stream, so a
record that was altered, moved, repeated or left out is noticed. Pure.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from zlib import crc32

import attrs

_RECORD = struct.Struct("<qq").pack
_RUN = struct.Struct("<QQLL")
LSN = "Q"


def record_checksum(stream: int, sequence: int, body: bytes, before: int) -> int:
    """The checksum of a record that follows the one with checksum `before`; 0 for the first."""
    return crc32(body, crc32(_RECORD(stream, sequence), before))


def document_checksum(key: str, version: int, body: bytes | None) -> int:
    """The checksum of one version of a document; None is its removal."""
    head = f"{version}:{len(key)}:{key}:{'-' if body is None else '+'}".encode()
    return crc32(body or b"", crc32(head))


def name_checksum(stream: int, name: str) -> int:
    """The checksum of a stream's name."""
    return crc32(f"{stream}:{name}".encode())


@attrs.frozen
class Run:
    """The records of one stream within one block of the index."""

    stream: int
    """The stream's number."""
    first: int
    """The sequence of the first of them."""
    checksum: int
    """The checksum of the last of them."""
    lsns: Sequence[int]
    """Where they are, in order."""


def pack_runs(runs: Iterable[Run]) -> bytes:
    """A block of the index."""
    parts = []
    for run in runs:
        parts.append(_RUN.pack(run.stream, run.first, run.checksum, len(run.lsns)))
        parts.append(array(LSN, run.lsns).tobytes())
    return b"".join(parts)


def unpack_runs(block: bytes) -> Iterable[Run]:
    """The runs of a block whose checksum was right."""
    at, view = 0, memoryview(block)
    while at < len(block):
        stream, first, checksum, count = _RUN.unpack_from(block, at)
        at += _RUN.size
        lsns = array(LSN)
        lsns.frombytes(view[at : at + 8 * count])
        at += 8 * count
        yield Run(stream, first, checksum, lsns)


def block_checksum(first: int, last: int, block: bytes) -> int:
    """The checksum of a block of the index."""
    return crc32(block, crc32(_RECORD(first, last)))
