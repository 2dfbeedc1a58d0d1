"""Tools: async functions with a signature that an LLM tool layer can publish as JSON Schema; the six of the network.

`Tool` wraps any async function; agents may wrap their own too, and a `Handoff` or `Finish` that one of them returns is
then part of the turn's reply. The network's tools act in the name of one agent and show only what it may see: the hub
judges everything they ask for, and nothing here knows more than the agent's own client does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from ...mailbox.errors import AgorioError, InvalidInput
from ..sessions.handoff import ToolResult
from .tools_look import Look
from .tools_talk import Talk
from .tools_work import Work
from .turn_context import TURN, Turn, turn_of

if TYPE_CHECKING:
    from .agent_client import AgentClient

_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Tool:
    """An async function with a name, a description and the JSON Schema of its parameters.

    Name, description and schema are taken from the function: its name, the docstring without its note on cancellation,
    and the annotated signature (`Annotated[str, msgspec.Meta(description=...)]` describes a parameter). Arguments are
    checked against the signature; what does not fit raises `InvalidInput` with the parameter's name.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        *,
        name: str | None = None,
        description: str | None = None,
        turn: Turn | None = None,
        errors_as_text: bool = False,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise InvalidInput(f"{function!r} is no async function; write a tool with `async def`", field="function")
        self._function = function
        self._turn = turn
        self._errors_as_text = errors_as_text
        self._spec = _spec_of(getattr(function, "__func__", function))
        self.name = name or function.__name__
        self.description = self._spec.description if description is None else description
        self.__name__ = self.name
        self.__doc__ = self.description
        self.__signature__ = self._spec.signature

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of its arguments, a fresh copy."""
        schema: dict[str, Any] = msgspec.json.decode(self._spec.schema)
        return schema

    def with_errors_as_text(self) -> Tool:
        """The same tool for a layer that shows results to a model: refusals and timeouts return as `Error: ...`."""
        return Tool(self._function, name=self.name, description=self.description, turn=self._turn, errors_as_text=True)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it. If cancelled: what the function promises."""
        try:
            return await self._call(args, kwargs)
        except (AgorioError, TimeoutError) as exc:
            if not self._errors_as_text:
                raise
            return f"Error: {exc}"

    async def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = self._checked(args, kwargs)
        turn = self._turn if self._turn is not None and not self._turn.is_over else TURN.get()
        token = TURN.set(turn)  # a tool layer may call it from a task of its own
        try:
            if turn is None or turn.is_over:
                return await self._function(**arguments)
            return await self._record(turn, arguments)
        finally:
            TURN.reset(token)

    async def _record(self, turn: Turn, arguments: dict[str, Any]) -> Any:
        """The first call that routes wins, in the order in which they were made, not in which they ended."""
        place = len(turn.calls)
        turn.calls.append(None)
        result = await self._function(**arguments)
        reason = arguments.get("reason")
        turn.calls[place] = ToolResult(self.name, result, {"reason": reason} if isinstance(reason, str) else {})
        return result

    def _checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            given = self.__signature__.bind(*args, **kwargs).arguments
        except TypeError as exc:
            known = ", ".join(self._spec.types) or "none"
            raise InvalidInput(f"{self.name}: {exc}; its parameters are {known}") from exc
        flat = {**given, **given.pop(self._spec.rest, {})} if self._spec.rest else given
        return {key: self._convert(key, value) for key, value in flat.items()}

    def _convert(self, key: str, value: Any) -> Any:
        wanted = self._spec.types.get(key, Any)
        if wanted is Any:
            return value
        try:
            return msgspec.convert(value, wanted, strict=False)
        except msgspec.ValidationError as exc:
            raise InvalidInput(f"{self.name}: {key} {exc}", field=key) from exc


class _Spec:
    """What is read from a function once, whatever number of tools is made of it."""

    __slots__ = ("description", "rest", "schema", "signature", "types")

    def __init__(self, function: Callable[..., Any]) -> None:
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name != "self"]
        self.signature = signature.replace(parameters=parameters)
        hints = get_type_hints(function, include_extras=True)
        named = [p for p in parameters if p.kind not in _ANY_NUMBER]
        self.rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), "")
        self.types = {p.name: hints.get(p.name, Any) for p in named}
        self.description = _description(function)
        self.schema = msgspec.json.encode(_schema(named, self.types))


@functools.lru_cache(maxsize=1024)
def _spec_of(function: Callable[..., Any]) -> _Spec:
    return _Spec(function)


def _description(function: Callable[..., Any]) -> str:
    """The docstring without what only programmers are told."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    kept = [text.split("If cancelled:")[0].strip() for text in paragraphs]
    return "\n\n".join(text for text in kept if text)


def _schema(parameters: list[inspect.Parameter], types: dict[str, Any]) -> dict[str, Any]:
    try:
        schemas, definitions = msgspec.json.schema_components(list(types.values()), ref_template="#/$defs/{name}")
    except TypeError as exc:
        raise InvalidInput(f"a parameter's type has no JSON Schema: {exc}", field="function") from exc
    properties = dict(zip(types, schemas, strict=True))
    for parameter in parameters:
        if parameter.default is not inspect.Parameter.empty:
            properties[parameter.name] = {**properties[parameter.name], "default": parameter.default}
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {**schema, "$defs": definitions} if definitions else schema


class Toolbox(tuple[Tool, ...]):
    """An agent's tools: iterate over them to publish them, or take one by its name."""

    __slots__ = ()

    def get(self, name: str) -> Tool:
        """The tool of that name. Raises `InvalidInput` with the names that there are."""
        for tool in self:
            if tool.name == name:
                return tool
        known = ", ".join(tool.name for tool in self) or "none"
        raise InvalidInput(f"no tool {name!r}; there are: {known}", field="name")

    def with_errors_as_text(self) -> Toolbox:
        """The same tools for a layer that shows results to a model: refusals and timeouts return as `Error: ...`."""
        return Toolbox(tool.with_errors_as_text() for tool in self)


def network_tools(client: AgentClient, *, turn: Turn | None = None) -> Toolbox:
    """The six tools of the network in the name of `client`: `say`, `delegate`, `peers`, `sessions`, `tasks`, `context`.

    With a turn, by default the one in hand, they act in its session where they are not told another.
    """
    turn = turn if turn is not None else turn_of(client)
    talk, look, work = Talk(client, turn), Look(client, turn), Work(client, turn)
    functions = (talk.say, talk.delegate, look.peers, look.sessions, work.tasks, look.context)
    return Toolbox(Tool(function, turn=turn) for function in functions)
