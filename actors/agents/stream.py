"""What an agent is shown of a session: messages in the order in which they were said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import attrs

Role: TypeAlias = Literal["user", "assistant", "system"]


@attrs.frozen
class Message:
    """One message as a language model would see it."""

    role: Role
    """`assistant` for what the reader said itself, `user` for others, `system` for notes about the session."""
    text: str
    """What was said."""
    name: str = ""
    """Who said it, where the view shows names."""
    envelope_id: str = ""
    """The envelope that it was; empty for notes."""


class MemoryStream:
    """A turn's history, filled through a view before the agent is asked. The agent may add to it."""

    __slots__ = ("_messages",)

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages = list(messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        return f"<MemoryStream of {len(self._messages)} messages>"

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything so far."""
        return tuple(self._messages)

    def append(self, message: Message) -> None:
        """Add a message."""
        self._messages.append(message)
