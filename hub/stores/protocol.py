"""What a store is: ordered logs and versioned documents, changed together in one atomic commit.

A log is a stream of byte records numbered 1, 2, 3 …; an append names the number that it expects to follow, which fences
off a second writer. A document is a key with bytes and a version; a put may name the version that it expects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import attrs


class Record(NamedTuple):
    """One record of a stream."""

    sequence: int
    """1 for the first, no gaps."""
    body: bytes
    """What was appended."""


class Document(NamedTuple):
    """One stored document."""

    key: str
    """Its key."""
    version: int
    """Raised by one with each put."""
    body: bytes
    """What was put."""


@attrs.frozen
class Append:
    """Append records to a stream."""

    stream: str
    """Which stream; it comes into being with its first record."""
    bodies: tuple[bytes, ...]
    """The records in order."""
    expected: int | None = None
    """The sequence of the newest record as the writer knows it; None appends wherever the end is."""


@attrs.frozen
class Put:
    """Write or remove a document."""

    key: str
    """Which document."""
    body: bytes | None
    """Its new bytes; None removes it."""
    expected: int | None = None
    """The version that it must have (0: it must not exist); None writes whatever there is."""


@attrs.frozen
class Trim:
    """Let the oldest records of a stream go, for good: they are kept elsewhere. The numbering goes on as before.

    A stream that is not there comes into being, empty, with `through` as the number of its newest record.
    """

    stream: str
    """Which stream."""
    through: int
    """The newest record to let go; beyond the end, all that are durable go."""


Change = Append | Put | Trim


@runtime_checkable
class KnowledgeStore(Protocol):
    """What a hub keeps its memory in. `check_store` of the test kit holds an implementation to this."""

    durable: bool
    """Whether an acknowledged commit survives the loss of power."""

    async def open(self) -> None:
        """Make ready; opening an open store does nothing. Raises `StoreError`. If cancelled: not open."""

    async def close(self) -> None:
        """Flush and let go; closing again does nothing. If cancelled: closed all the same."""

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes, or none, durable.

        Raises `ConflictError` when an expectation does not hold, `StoreError` when the medium refuses. If cancelled:
        the commit may or may not have happened, as a whole.
        """

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a sequence, oldest first; an unknown stream is empty. If cancelled: nothing has changed."""

    async def last(self, stream: str) -> int:
        """The newest record's sequence, 0 for an unknown stream. If cancelled: nothing has changed."""

    async def get(self, key: str) -> Document | None:
        """One document. If cancelled: nothing has changed."""

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        """Documents whose keys start with `prefix` and sort after `after`, in key order. If cancelled: no change."""


@runtime_checkable
class NowaitStore(Protocol):
    """A store that needs no I/O offers these as well; the hub then spares a trip through its log writer."""

    def commit_nowait(self, changes: Sequence[Change]) -> None:
        """As `commit`."""

    def read_nowait(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """As `read`."""


@runtime_checkable
class BeginningStore(Protocol):
    """A store with a thread of its own offers this as well; the hub's log writer then spares a turn of trio's loop."""

    def begin_commit(self, changes: Sequence[Change], done: Callable[[Exception | None], None]) -> bool:
        """Begin a commit, or return False where `commit` is needed for it.

        Raises as `commit` does for an expectation that does not hold. Once begun it is finished, whoever is cancelled;
        `done`, which must not raise, is called with its outcome in a later turn of trio's loop.
        """
