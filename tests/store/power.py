"""Below SQLite: a file system that notes every write and sync, fails on purpose, and shows what a power cut may leave.

SQLite reaches files through a table of functions. `PowerDisk` puts its own in the place of those that write and sync,
so what is noted is what SQLite really did, in its order; the files themselves are real. What was written and not yet
synced may be on the disk after a power cut wholly, in part, as zeros, or not at all, each write for itself.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from agorio.hub.stores.disk_schema import Connection, connect

OK, FULL, WRITE_ERROR, SYNC_ERROR = 0, 13, 10 | 3 << 8, 10 | 4 << 8
SECTOR = 512
Kind = Literal["write", "truncate", "delete", "sync", "mark"]
_CHANGES = ("write", "truncate", "delete")
_LOGS = 0x800 | 0x80000  # the kinds of file whose first sync includes the folder
_FOLDER = ""
Fate = Literal["skip", "full", "front", "back", "zeros"]
Fault = Callable[[Kind, str, int], int]

_POINTER, _INT, _INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", _INT),
        ("file_size", _INT),
        ("longest_path", _INT),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _POINTER),
        ("delete", _POINTER),
        ("others", _POINTER * 14),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("version", _INT),
        ("close", _POINTER),
        ("read", _POINTER),
        ("write", _POINTER),
        ("truncate", _POINTER),
        ("sync", _POINTER),
        ("others", _POINTER * 13),
    )


_OPEN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)  # SQLite keeps the name: no copy of it
_DELETE = ctypes.CFUNCTYPE(_INT, _POINTER, ctypes.c_char_p, _INT)
_WRITE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _INT64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _POINTER, _INT64)
_SYNC = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)


def library() -> Any:
    """The SQLite that the interpreter itself uses, or None where it cannot be reached."""
    found = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    return found if hasattr(found, "sqlite3_vfs_find") else None


@attrs.define
class Op:
    """One thing that SQLite did, or a mark of the test's own."""

    kind: Kind
    """What."""
    file: str = ""
    """The file's name; empty for the folder."""
    at: int = 0
    """Where it was written, or the length that was left."""
    data: bytes = b""
    """What was written."""
    failed: bool = False
    """For a sync: whether it said so."""
    note: Any = None
    """For a mark: what happened."""


class PowerDisk:
    """`connect` is for the store; `ops` is what was done."""

    def __init__(self, folder: Path) -> None:
        self.base = contents(folder)
        self.ops: list[Op] = []
        self.fault: Fault = lambda kind, file, number: OK
        self._calls = 0
        self._names: dict[int, str] = {}
        self._new: set[str] = set()
        self._methods: dict[int, _Methods] = {}
        self._name = f"power-{id(self)}".encode()
        self._library = library()
        self._library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._real = self._library.sqlite3_vfs_find(None)
        self._open, self._delete = _OPEN(self._opened), _DELETE(self._deleted)
        self._write, self._truncate, self._sync = _WRITE(self._written), _TRUNCATE(self._truncated), _SYNC(self._synced)
        self._vfs = _Vfs.from_buffer_copy(self._real.contents)
        self._vfs.name, self._vfs.next = self._name, None
        self._vfs.open, self._vfs.delete = (ctypes.cast(one, _POINTER) for one in (self._open, self._delete))
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 0)

    def close(self) -> None:
        """Take it out of SQLite again; no connection may be left."""
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def connect(self, path: str) -> Connection:
        """A connection that goes through here."""
        return connect(f"file:{path}?vfs={self._name.decode()}", uri=True)

    def mark(self, note: Any) -> None:
        """Note where the test is."""
        self.ops.append(Op("mark", note=note))

    # What SQLite calls.

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        path = None if name is None else Path(ctypes.string_at(name).decode())
        is_new = path is not None and not path.exists()
        code = _OPEN(self._real.contents.open)(ctypes.addressof(self._real.contents), name, file, flags, out)
        pointer = ctypes.cast(file, ctypes.POINTER(_POINTER))
        if code == OK and path is not None:
            if pointer[0] not in self._methods:
                self._methods[pointer[0]] = self._our_methods(_Methods.from_address(pointer[0]))
            self._names[file] = path.name
            if is_new and flags & _LOGS:
                self._new.add(path.name)
            pointer[0] = ctypes.addressof(self._methods[pointer[0]])
        return int(code)

    def _our_methods(self, real: _Methods) -> _Methods:
        self._real_methods, ours = real, _Methods.from_buffer_copy(real)
        functions = self._write, self._truncate, self._sync
        ours.write, ours.truncate, ours.sync = (ctypes.cast(function, _POINTER) for function in functions)
        return ours

    def _deleted(self, vfs: int, name: bytes, flags: int) -> int:
        file = Path(name.decode()).name
        self.ops += [Op("delete", file), *([Op("sync", _FOLDER)] if flags else [])]
        return int(_DELETE(self._real.contents.delete)(ctypes.addressof(self._real.contents), name, flags))

    def _judge(self, kind: Kind, file: int) -> tuple[str, int]:
        self._calls += 1
        name = self._names[file]
        return name, self.fault(kind, name, self._calls)

    def _written(self, file: int, data: int, size: int, at: int) -> int:
        name, code = self._judge("write", file)
        size = size if code == OK else size // 2 if code == WRITE_ERROR else 0
        if size:
            self.ops.append(Op("write", name, at, ctypes.string_at(data, size)))
            code = _WRITE(self._real_methods.write)(file, data, size, at) or code
        return code

    def _truncated(self, file: int, size: int) -> int:
        name, code = self._judge("truncate", file)
        if code == OK:
            self.ops.append(Op("truncate", name, size))
            code = _TRUNCATE(self._real_methods.truncate)(file, size)
        return code

    def _synced(self, file: int, flags: int) -> int:
        name, code = self._judge("sync", file)
        self.ops.append(Op("sync", name, failed=code != OK))  # the test itself need not wait for a disk
        if name in self._new and code == OK:
            self._new.remove(name)
            self.ops.append(Op("sync", _FOLDER))
        return code

    # What a power cut leaves.

    def unsynced(self, cut: int) -> list[int]:
        """Which operations before the cut need not be on the disk; after a failed sync nobody can tell any more."""
        found: set[int] = set()
        pending: dict[str, list[int]] = {}
        for number, op in enumerate(self.ops[:cut]):
            if op.kind in _CHANGES:
                pending.setdefault(_FOLDER if op.kind == "delete" else op.file, []).append(number)
            elif op.kind == "sync":
                settled = pending.pop(op.file, [])
                found.update(settled if op.failed else ())
        return sorted(found.union(*pending.values()))

    def leftovers(self, cut: int, chance: random.Random, most: int = 40) -> Iterator[dict[str, bytes]]:
        """The contents of all files that a cut after so many operations may leave, none of them twice."""
        seen: set[int] = set()
        for fates in itertools.islice(_fates(self.ops, self.unsynced(cut), chance), most):
            files = self._replay(cut, fates)
            key = hash(tuple(sorted(files.items())))
            if key not in seen:
                seen.add(key)
                yield files

    def _replay(self, cut: int, fates: Mapping[int, Fate]) -> dict[str, bytes]:
        files = {name: bytearray(data) for name, data in self.base.items()}
        for number, op in enumerate(self.ops[:cut]):
            if op.kind in _CHANGES:
                _apply(files.setdefault(op.file, bytearray()), op, fates.get(number, "full"))
        return {name: bytes(data) for name, data in files.items()}


def _apply(file: bytearray, op: Op, fate: Fate) -> None:
    if fate == "skip":
        return
    if op.kind != "write":
        del file[op.at :]
        return
    data, half = op.data, len(op.data) // 2 // SECTOR * SECTOR
    if len(file) < op.at + len(data):
        file.extend(bytes(op.at + len(data) - len(file)))
    if fate == "zeros":
        return  # the file has grown, its new part was not written; what was there before stays
    start, end = (0, half) if fate == "front" else (half, len(data)) if fate == "back" else (0, len(data))
    file[op.at + start : op.at + end] = data[start:end]


def _fates(ops: Sequence[Op], optional: Sequence[int], chance: random.Random) -> Iterator[dict[int, Fate]]:
    """Nothing, everything, everything up to one with that one torn, all but one, one alone, and at random."""
    yield dict.fromkeys(optional, "skip")
    yield dict.fromkeys(optional, "full")
    yield dict.fromkeys(optional, "zeros")
    torn: tuple[Fate, ...] = ("skip", "front", "back", "zeros")
    for number, fate in itertools.product(reversed(optional), torn):
        yield {one: "full" if one < number else fate if one == number else "skip" for one in optional}
        yield {one: fate if one == number else "full" for one in optional}
    for number in optional:
        yield {one: "full" if one == number else "skip" for one in optional}
    for _ in optional:
        yield {one: chance.choice((*torn, "full", "full")) for one in optional}


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for what does not outlive a power cut."""
    files = folder.iterdir() if folder.exists() else ()
    return {file.name: file.read_bytes() for file in files if not file.name.endswith("-shm")}


def lay_out(files: Mapping[str, bytes], folder: Path) -> Path:
    """The files in a new folder; the store's path."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "hub.db"


__all__ = ["FULL", "OK", "SYNC_ERROR", "WRITE_ERROR", "Op", "PowerDisk", "contents", "lay_out", "library"]
