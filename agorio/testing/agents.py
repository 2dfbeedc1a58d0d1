"""Agents for tests: they say what they were told to, and remember what they were asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

Line = str | BaseException | Callable[[str], str]


class ScriptExhausted(AssertionError):
    """A scripted agent was asked more often than its script has lines."""


@attrs.frozen
class Heard:
    """One call of a scripted agent."""

    messages: tuple[Any, ...]
    """What it was asked."""
    at: float
    """When, on trio's clock."""


class ScriptedAgent:
    """Says its lines one after the other: a text is said, an exception raised, a function called with the question.

    `then` says what comes after the last line: `"silence"` (the default), `"repeat"` the last line, or `"fail"` with
    `ScriptExhausted`. `delay` seconds pass before each line. `heard` keeps the calls.
    """

    def __init__(self, name: str, *lines: Line, then: str = "silence", delay: float = 0.0) -> None:
        if then not in ("silence", "repeat", "fail"):
            raise ValueError(f"then={then!r} must be 'silence', 'repeat' or 'fail'")
        self.name = name
        self.delay = delay
        self.heard: list[Heard] = []
        self._lines = list(lines)
        self._then = then
        self._next = 0

    async def ask(self, *messages: Any, stream: Any = None, dependencies: Any = None, tools: Any = ()) -> str:
        """Say the next line. If cancelled: the line counts as said."""
        self.heard.append(Heard(messages, trio.current_time()))
        line = self._take()
        await trio.sleep(self.delay)
        if isinstance(line, BaseException):
            raise line
        return line(str(messages[-1])) if callable(line) else line

    def _take(self) -> Line:
        if self._next < len(self._lines):
            self._next += 1
            return self._lines[self._next - 1]
        if self._then == "fail":
            raise ScriptExhausted(
                f"{self.name} was asked {len(self.heard)} times; its script has {len(self._lines)} lines"
            )
        return self._lines[-1] if self._then == "repeat" and self._lines else ""

    @property
    def said(self) -> int:
        """How many lines it has said."""
        return self._next

    @property
    def questions(self) -> list[str]:
        """The last message of every call, as text."""
        return [str(call.messages[-1]) for call in self.heard]


class EchoAgent:
    """Repeats what it is asked."""

    def __init__(self, name: str = "echo") -> None:
        self.name = name
        self.heard: list[str] = []

    async def ask(self, *messages: Any) -> str:
        """Repeat. If cancelled: it was heard."""
        self.heard.append(str(messages[-1]))
        await trio.lowlevel.checkpoint()
        return str(messages[-1])
