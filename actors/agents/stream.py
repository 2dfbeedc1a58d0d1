"""What an agent is shown of a session: messages in the order in which they were said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias

import attrs

from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload

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


TaskKind: TypeAlias = Literal["started", "progress", "completed", "failed", "expired", "cancelled"]


@attrs.frozen
class TaskEvent:
    """What an agent with tasks of its own says about one of them on the stream of its turn."""

    key: str
    """The agent's own name for the task, unique in the turn."""
    kind: TaskKind
    """What has happened."""
    data: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The payload of the `ag2.task.*` event of that kind, such as `{"title": "translate"}` or `{"progress": {}}`."""
    cancel: Callable[[str], None] | None = None
    """With `started`: called with the reason when the hub wants the task to end."""


class MemoryStream:
    """A turn's history, filled through a view before the agent is asked. The agent may add to it."""

    __slots__ = ("_listeners", "_messages")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages = list(messages)
        self._listeners: list[Callable[[TaskEvent], None]] = []

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

    def emit(self, event: TaskEvent) -> None:
        """Tell what becomes of one of the agent's own tasks; whoever listens hears it."""
        for listener in list(self._listeners):
            listener(event)

    def subscribe(self, listener: Callable[[TaskEvent], None]) -> Callable[[], None]:
        """Have a synchronous, quick `listener` hear every event from now on; returns how to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None
