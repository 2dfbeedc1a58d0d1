"""Finding and reading the files: everything about the disk, nothing about their meaning.

Files are read as a stream of lines, so that a huge file is never in memory as a whole. Text is UTF-8 (or UTF-16 with
its mark); a line that is not is read as Windows-1252 and counted, so no byte can stop a run.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import attrs

from .messages import Source

SUFFIXES = (".md", ".txt", ".rst")
"""What is taken from a folder; a file that is named is taken whatever it is called."""
MAX_SIZE = 256 << 20
"""Bytes of the largest file that is read: it might be a single line, and a line is held as a whole."""
_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_TEXT_CONTROLS = b"\t\n\r\f\b\x1b"
_IS_CONTROL = bytes(b for b in range(32) if b not in _TEXT_CONTROLS)

Tick = Callable[[int], None]
"""Called with the bytes read so far; may raise to stop."""


class PathProblem(Exception):
    """A path given by the user cannot be worked on; the message says which and why."""


@attrs.frozen
class Skipped:
    """A file that is not worked on, and why."""

    name: str
    """The file as the user knows it."""
    reason: str
    """Why not."""


def find_files(paths: Iterable[str], *, leave_out: Iterable[Path] = ()) -> list[Path]:
    """The files that the given paths mean, each once, in the order given; a folder's own in the order of their names.

    Raises `PathProblem` for a path that does not exist and for a folder without any text file.
    """
    out = {_identity(path) for path in leave_out}
    found: dict[str, Path] = {}
    for given in paths:
        for path in _expand(Path(given)):
            if _identity(path) not in out:
                found.setdefault(_identity(path), path)
    return list(found.values())


def _identity(path: Path) -> str:
    return os.path.realpath(path)


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise PathProblem(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    found = sorted(_walk(path))
    if not found:
        raise PathProblem(f"{path}: no {', '.join('*' + s for s in SUFFIXES)} file in this folder")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise PathProblem(f"{error.filename}: {error.strerror}") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if name.lower().endswith(SUFFIXES) and name[0] != ".")


def inspect(path: Path, name: str, tick: Tick = lambda done: None) -> Source | Skipped:
    """A file's checksum and size, or why it is not worked on: empty, binary, unreadable, not a file."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return Skipped(name, "not a regular file")
        if found.st_size > MAX_SIZE:
            return Skipped(name, f"larger than {MAX_SIZE >> 20} MB")
        with path.open("rb") as file:
            return _inspect(name, path, file, tick)
    except OSError as exc:
        return Skipped(name, f"cannot be read: {exc.strerror or exc}")


def _inspect(name: str, path: Path, file: BinaryIO, tick: Tick) -> Source | Skipped:
    head = file.read(1 << 13)
    if looks_binary(head):
        return Skipped(name, "binary, not text")
    digest, size, blank = hashlib.sha256(head), len(head), not head.strip()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
        blank = blank and not chunk.strip()
        tick(size)
    if blank:
        return Skipped(name, "empty")
    return Source(str(path.resolve()), name, digest.hexdigest(), size)


def looks_binary(head: bytes) -> bool:
    """Whether a file that begins with these bytes is no text: a NUL, or many control characters."""
    if head[:2] in _MARKS:
        return False
    controls = len(head) - len(head.translate(None, _IS_CONTROL))
    return b"\0" in head or controls * 20 > len(head)


@attrs.define
class Lines:
    """The lines of a file, decoded; to be iterated once.

    Afterwards `count` says how many there were, `odd` how many were not UTF-8, and `sha256` what was read.
    """

    path: str
    tick: Tick = lambda done: None
    count: int = 0
    odd: int = 0
    sha256: str = ""
    """Of the bytes read; empty for UTF-16, whose lines are not cut as bytes."""

    def __iter__(self) -> Iterator[str]:
        """The lines without their line breaks."""
        digest = hashlib.sha256()
        done = 0
        with open(self.path, "rb") as file:
            encoding = _MARKS.get(file.read(2), "utf-8")
            file.seek(0)
            for raw in self._raw(file, encoding):
                digest.update(raw)
                done += len(raw)
                if self.count & 1023 == 0:
                    self.tick(done)
                self.count += 1
                yield self._decode(raw, encoding)
        self.sha256 = digest.hexdigest() if encoding == "utf-8" else ""
        self.tick(done)

    def _raw(self, file: BinaryIO, encoding: str) -> Iterator[bytes]:
        if encoding == "utf-8":
            yield from file
            return
        # In UTF-16 a line break is two bytes, and those of another character may look like one.
        for line in codecs.getreader(encoding)(file, "replace"):
            yield line.encode(encoding)

    def _decode(self, raw: bytes, encoding: str) -> str:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            self.odd += 1
            text = raw.decode("cp1252", errors="replace")
        return text.rstrip("\r\n").removeprefix("\ufeff") if self.count == 1 else text.rstrip("\r\n")
