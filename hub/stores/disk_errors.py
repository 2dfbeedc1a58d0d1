"""What an error of the disk means: a refusal that passes, damage to be worked around, or a connection to be given up.

After a failed fsync nobody knows what the page cache still holds, so anything that is neither a passing refusal nor
damage ends the connection; asking the same connection again is what loses data.
"""

from __future__ import annotations

import errno
import sqlite3

from ...mailbox.errors import StoreError

DISK_ERRORS = (sqlite3.Error, OSError)
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_TOOBIG,
    }
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class BrokenConnection(Exception):
    """The connection must be given up; the cause is chained."""


def _code(exc: BaseException) -> int:
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF  # the low byte; the rest only says where it happened


def is_full(exc: BaseException) -> bool:
    """Whether there is no space left."""
    if isinstance(exc, OSError):
        return exc.errno in (errno.ENOSPC, errno.EDQUOT)
    return _code(exc) == sqlite3.SQLITE_FULL


def is_passing(exc: BaseException) -> bool:
    """Whether the same connection may be asked again later."""
    return is_full(exc) or _code(exc) in _PASSING or isinstance(exc, sqlite3.DataError)


def is_damage(exc: BaseException) -> bool:
    """Whether bytes of the file are not what they were."""
    if isinstance(exc, sqlite3.OperationalError) and "no such" in str(exc):
        return True  # a table or column that the schema's own text no longer names
    undecodable = isinstance(exc, sqlite3.OperationalError) and "Could not decode" in str(exc)
    return undecodable or _code(exc) in _DAMAGE


def as_store_error(exc: BaseException, doing: str) -> StoreError:
    """The error for the caller, the disk's own as its cause."""
    hint = ": the disk is full; it goes on when there is space again" if is_full(exc) else f": {exc}"
    error = StoreError(f"{doing} failed{hint}")
    error.__cause__ = exc
    return error
