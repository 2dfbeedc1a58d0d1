"""How an agent is called, whatever it is: anything with an `ask`, or a plain async function.

What its signature takes is found out once, at registration; an agent that takes no `stream` is not handed one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, runtime_checkable

import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput
from ..sessions.identity import NAME_GRAMMAR

_OPTIONAL: Final = ("stream", "dependencies", "tools")


@runtime_checkable
class Agent(Protocol):
    """Anything with a name and an `ask`. Keyword arguments that its signature does not take are not passed."""

    name: str
    """Its name, unless a passport gives another."""

    async def ask(self, *messages: Any, stream: Any = None, dependencies: Any = None, tools: Any = ()) -> Any:
        """Answer the messages: a string, an object with a `body`, a `Handoff` or `Finish`, or nothing.

        If cancelled: no answer is wanted.
        """


class Asker:
    """One agent's callable with what it takes."""

    __slots__ = ("_call", "_takes")

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._takes = _keywords(call)

    def takes(self, keyword: str) -> bool:
        """Whether the agent is handed this keyword argument."""
        return keyword in self._takes

    async def call(self, *messages: Any, **optional: Any) -> Any:
        """The agent's reply as it gave it. If cancelled: the agent is."""
        keywords = {key: value for key, value in optional.items() if key in self._takes}
        return await self._call(*messages, **keywords)

    async def ask(self, *messages: Any, **optional: Any) -> str:
        """The agent's reply as text, `""` for silence. If cancelled: the agent is."""
        return reply_text(await self.call(*messages, **optional))


def _keywords(call: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(call).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return _OPTIONAL
    return tuple(key for key in _OPTIONAL if key in parameters)


def make_asker(agent: Any) -> Asker:
    """How to call the agent; `InvalidInput` says what an agent is."""
    call = getattr(agent, "ask", None) if not inspect.isfunction(agent) else agent
    if call is None and callable(agent):
        call = agent
    if call is None:
        raise InvalidInput(
            f"{agent!r} is no agent: pass an object with `async def ask(*messages)`, or an async function of a text"
        )
    if not _is_async(call):
        raise InvalidInput(
            f"{_label(call)} is not async; write `async def`, and put blocking work into "
            "`await trio.to_thread.run_sync(...)`"
        )
    return Asker(call)


def agent_name(agent: Any) -> str:
    """The name that the agent brings along."""
    name = getattr(agent, "name", None) or getattr(agent, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise InvalidInput(f"{agent!r} brings no name; pass Passport(name=...), a name in the grammar {NAME_GRAMMAR}")
    return name


def as_handler(callback: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """The handler as an async function. A plain one, such as a list's `append`, is called as it is."""
    if not callable(callback):
        raise InvalidInput(f"the handler {callback!r} cannot be called; write `async def handler(envelope): ...`")
    if _is_async(callback):
        return callback

    async def handler(envelope: Envelope) -> None:
        await trio.lowlevel.checkpoint()
        result = callback(envelope)
        if inspect.isawaitable(result):
            await result

    return handler


def reply_text(reply: Any) -> str:
    """The text of a reply: a string, an object's `body`, or nothing."""
    body = reply if reply is None or isinstance(reply, str) else getattr(reply, "body", reply)
    if body is None:
        return ""
    if not isinstance(body, str):
        raise InvalidInput(
            f"the agent replied with a {type(reply).__name__}; a reply is a string, an object with a string `body`, "
            "a Handoff, a Finish, or None"
        )
    return body


def _is_async(call: Callable[..., Any]) -> bool:
    bare = inspect.unwrap(call)
    return inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(getattr(bare, "__call__", None))  # noqa: B004


def _label(call: Any) -> str:
    return getattr(call, "__qualname__", None) or repr(call)
