"""What a store knows to be unreadable, and what a check of everything found."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import attrs


@attrs.frozen
class Damage:
    """One thing that cannot be read any more. The rest of the store works."""

    kind: str
    """`stream`, `document`, or `file` where it is not known whose bytes were lost."""
    name: str
    """The stream or the document's key; for a file, which rows."""
    detail: str
    """What is wrong."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.detail}"


@attrs.frozen
class Verification:
    """The result of reading everything back."""

    records: int
    """Records whose checksum is right."""
    documents: int
    """Documents whose checksum is right."""
    damaged: tuple[Damage, ...]
    """Everything that is unreadable, known before or found now."""


@runtime_checkable
class CheckedStore(Protocol):
    """A store that can tell damaged bytes from good ones offers these as well."""

    async def damaged(self) -> list[Damage]:
        """What is known to be unreadable. If cancelled: nothing has changed."""

    def damaged_nowait(self) -> list[Damage]:
        """The same, at once."""

    async def verify(self) -> Verification:
        """Read everything back and check it. If cancelled: what was found is remembered."""
