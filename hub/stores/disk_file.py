"""The files as the operating system sees them: private, no symbolic link, and one holder at a time."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from ...mailbox.errors import StoreError

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_HOLDER_AT = 1  # the first byte is what Windows locks; the holder's number stands behind it, so that others may read it
_USED = b"used\n"
_RELAXED = b"relaxed\n"


class FileLock:
    """The exclusive hold on a store. The lock goes with the process, so a crash leaves none behind."""

    def __init__(self, store: Path, *, is_relaxed: bool = False) -> None:
        self._store = store
        self._fd = -1
        self._is_relaxed = is_relaxed
        self.is_used = False
        self.was_relaxed = False

    def acquire(self) -> None:
        """Take it. Raises `StoreError` naming the process that has it."""
        fd = _open_private(beside(self._store, "-lock"))
        try:
            _lock(fd)
        except OSError as exc:
            holder = _holder(fd)
            os.close(fd)
            raise StoreError(
                f"the store {str(self._store)!r} is in use by process {holder}; close that hub first", holder=holder
            ) from exc
        self._fd = fd
        known = os.read(fd, 64)
        self.is_used, self.was_relaxed = _USED in known, _RELAXED in known
        self._write(is_relaxed=self._is_relaxed or self.was_relaxed)
        if self._is_relaxed and not self.was_relaxed:
            os.fsync(fd)  # before anything is written that a power cut may tear

    def mark_used(self) -> None:
        """Note that it holds something, so that an emptied file is not taken for a new one, and how it is kept."""
        if not self.is_used or self._is_relaxed != self.was_relaxed:
            self.is_used = True
            self._write(is_relaxed=self._is_relaxed)
            os.fsync(self._fd)

    def _write(self, *, is_relaxed: bool) -> None:
        notes = (_USED if self.is_used else b"") + (_RELAXED if is_relaxed else b"")
        text = b" %d\n%s" % (os.getpid(), notes)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text)
        os.ftruncate(self._fd, len(text))

    def release(self) -> None:
        """Let go; letting go twice does nothing. The file stays: removing it would let two hold it."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _holder(fd: int) -> str:
    os.lseek(fd, _HOLDER_AT, os.SEEK_SET)
    first, _, _ = os.read(fd, 64).decode("ascii", "replace").partition("\n")
    return first.strip() or "unknown"


def make_private(path: Path) -> None:
    """See to it that the file exists, is ours, no link, and readable by nobody else. Raises `StoreError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(_open_private(path))


def create_private(path: Path) -> None:
    """Make a new empty file that nobody else may read. Raises `OSError` where there is one."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC, 0o600))


def _open_private(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW | _CLOEXEC, 0o600)
    except OSError as exc:
        why = "it is a symbolic link" if path.is_symlink() else exc.strerror
        raise StoreError(f"cannot open {str(path)!r}: {why}") from exc
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise StoreError(f"{str(path)!r} is no regular file")
    if hasattr(os, "fchmod") and status.st_mode & 0o077:
        _take_private(fd, path)
    return fd


def _take_private(fd: int, path: Path) -> None:
    try:
        os.fchmod(fd, 0o600)
    except OSError as exc:
        os.close(fd)
        raise StoreError(f"{str(path)!r} is readable by others and belongs to somebody else") from exc


def sync_folder(path: Path) -> None:
    """Make names in a folder durable."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def beside(path: Path, suffix: str) -> Path:
    """The neighbour of a store's file with that suffix."""
    return path.with_name(path.name + suffix)
