"""Agents for tests: they say what they were told to, and remember what they were asked."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

import attrs
import trio

Then = Literal["fail", "silence", "repeat"]
SHOWN = 80


class ScriptExhausted(AssertionError):
    """A scripted agent was asked more often than its script has lines: add lines, or say what comes `then=`."""


@attrs.frozen
class Heard:
    """One call of a scripted agent."""

    messages: tuple[Any, ...]
    """What it was asked."""
    at: float
    """When, on trio's clock."""

    @property
    def text(self) -> str:
        """The last message as text: the question itself."""
        return str(self.messages[-1]) if self.messages else ""


class ScriptedAgent:
    """Says its lines one after the other, one for each question.

    `ScriptedAgent("bob", "hello", "bye")` and `ScriptedAgent("hello", "bye", name="bob")` are the same; a list among
    the lines stands for its items. A line is a text, any other reply of an agent (`Handoff`, `Finish`, `Packet`), an
    exception to raise, or a function of the question, async or not, that returns one of these.

    `then` says what comes after the last line: `"fail"` (the default) raises `ScriptExhausted`, and `open_test_hub`
    raises it again at the end of its block; `"silence"` replies with nothing; `"repeat"` says the last line again.
    `delay` seconds pass before each line. `heard` keeps the calls.
    """

    @overload
    def __init__(self, name: str, /, *lines: Any, then: Then = "fail", delay: float = 0.0) -> None: ...
    @overload
    def __init__(self, *lines: Any, name: str, then: Then = "fail", delay: float = 0.0) -> None: ...
    def __init__(self, *words: Any, name: str | None = None, then: Then = "fail", delay: float = 0.0) -> None:
        if then not in ("fail", "silence", "repeat"):
            raise ValueError(f"then={then!r} must be 'fail', 'silence' or 'repeat'")
        if name is None:
            if not words or not isinstance(words[0], str):
                raise TypeError("a scripted agent needs a name: ScriptedAgent('bob', 'hello') or name='bob'")
            name, *words = words  # type: ignore[assignment]
        self.name = name
        self.delay = delay
        self.heard: list[Heard] = []
        self.exhausted: ScriptExhausted | None = None
        self._lines = list(_flat(words))
        self._then = then
        self._next = 0

    async def ask(self, *messages: Any, stream: Any = None, dependencies: Any = None, tools: Any = ()) -> Any:
        """Say the next line. If cancelled: the line counts as said."""
        self.heard.append(Heard(messages, trio.current_time()))
        line = self._take()
        await trio.sleep(self.delay)
        return await self._say(line)

    async def _say(self, line: Any) -> Any:
        if callable(line) and not isinstance(line, type):
            line = line(self.heard[-1].text)
            if inspect.isawaitable(line):
                line = await line
        if isinstance(line, BaseException) or (isinstance(line, type) and issubclass(line, BaseException)):
            raise line
        return line

    def _take(self) -> Any:
        if self._next < len(self._lines):
            self._next += 1
            return self._lines[self._next - 1]
        if self._then == "fail":
            self.exhausted = ScriptExhausted(
                f"{self.name!r} was asked {_times(len(self.heard))} and has {_count(len(self._lines))} to say. "
                f"It has no answer to {_short(self.heard[-1].text)}: give it one more, or then='silence' or 'repeat'"
            )
            raise self.exhausted
        return self._lines[-1] if self._then == "repeat" and self._lines else ""

    @property
    def said(self) -> int:
        """How many lines it has said."""
        return self._next

    @property
    def left(self) -> list[Any]:
        """The lines that it has not said."""
        return self._lines[self._next :]

    @property
    def questions(self) -> list[str]:
        """The last message of every call, as text."""
        return [call.text for call in self.heard]

    def assert_finished(self) -> None:
        """Raise `AssertionError` unless it has said every line and was not asked for more."""
        if self.exhausted is not None:
            raise self.exhausted
        if self.left:
            raise AssertionError(
                f"{self.name!r} was asked {_times(len(self.heard))} and has not said {_short(self.left[0])} "
                f"({self.said} of {len(self._lines)} lines were said)"
            )


def _flat(words: Iterable[Any]) -> Iterator[Any]:
    for word in words:
        if isinstance(word, list | tuple):
            yield from _flat(word)
        else:
            yield word


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"


def _short(line: Any) -> str:
    text = repr(line)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


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
