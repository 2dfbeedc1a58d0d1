"""Handoffs, finishes and packets: how a speaker of a workflow says who is next, and how those payloads are judged.

A tool returns `Handoff` or `Finish`; the round's results become one packet, whose text, routing and context updates are
logged and folded as one. Reading a packet refuses what folding could not use, so nothing malformed reaches the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

import attrs

from ...mailbox.envelope import Envelope
from ...mailbox.errors import GraphError, InvalidInput
from ...mailbox.events import EV_HANDOFF, EV_PACKET
from ...mailbox.frozen import EMPTY, FrozenDict, freeze, freeze_payload
from .identity import texts

Kind = Literal["text", "handoff", "finish"]
KINDS: tuple[Kind, ...] = ("text", "handoff", "finish")
DEFAULT_FINISH = "finished"


@attrs.frozen
class Handoff:
    """What a tool returns to pass the word to somebody."""

    target: str
    """Who is next: a participant's name or id."""
    reason: str = ""
    """Why, for the readers."""


@attrs.frozen
class Finish:
    """What a tool returns to end the workflow."""

    summary: str = ""
    """The outcome; kept in the session's state."""
    reason: str = DEFAULT_FINISH
    """The close reason."""


@attrs.frozen
class Routing:
    """Where a packet sends the workflow."""

    kind: Kind = "text"
    """`text`, `handoff` or `finish`."""
    tool: str | None = None
    """The tool that decided."""
    reason: str = ""
    """Why."""
    target: str | None = None
    """Who is next; None leaves it to the graph."""
    summary: str = ""
    """The outcome, with `finish`."""


@attrs.frozen
class ContextUpdates:
    """Changes of context variables; deletions come first."""

    set: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Variables and their new values."""
    delete: tuple[str, ...] = attrs.field(default=(), converter=texts)
    """Variables to remove."""

    def apply(self, context: FrozenDict) -> FrozenDict:
        """The variables after the changes."""
        if not self.set and not self.delete:
            return context
        kept = {key: value for key, value in context.items() if key not in self.delete}
        return FrozenDict({**kept, **self.set})


@attrs.frozen
class Packet:
    """A turn of a workflow, read from its envelope."""

    routing: Routing = Routing()
    """Where it sends the workflow."""
    updates: ContextUpdates = ContextUpdates()
    """What it changes first."""
    body: str = ""
    """What it says."""


@attrs.frozen
class ToolResult:
    """One tool call of an agent's round."""

    tool: str
    """The tool's name."""
    result: Any = None
    """What it returned."""
    arguments: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The call's arguments."""


def route_round(results: Iterable[ToolResult], routing_tools: Collection[str] = ()) -> Routing:
    """The routing that a round's tool calls amount to: the first, in their order, that routes.

    A call routes where its result is a `Finish` or a `Handoff`, or where its tool is one of `routing_tools`, those that
    a transition waits for with `ToolCalled`; the reason is then taken from its arguments.
    """
    for call in results:
        if isinstance(call.result, Finish):
            return Routing("finish", call.tool, call.result.reason, None, call.result.summary)
        if isinstance(call.result, Handoff):
            return Routing("handoff", call.tool, call.result.reason, call.result.target)
        if call.tool in routing_tools:
            reason = call.arguments.get("reason", "")
            return Routing("handoff", call.tool, reason if isinstance(reason, str) else "")
    return Routing()


def build_packet(
    body: str = "",
    routing: Routing | Handoff | Finish | None = None,
    *,
    tool: str | None = None,
    context_set: Mapping[str, Any] | None = None,
    context_delete: Iterable[str] = (),
    resolve: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """The `event_data` of an `EV_PACKET`. `resolve` turns the target's name into its id."""
    route = _as_routing(routing, tool)
    if resolve is not None and route.target is not None:
        route = attrs.evolve(route, target=resolve(route.target))
    data = {
        "routing": {key: value for key, value in attrs.asdict(route).items() if value not in (None, "")},
        "context_updates": {"set": dict(context_set or {}), "delete": list(context_delete)},
        "body": body,
    }
    read_packet(freeze_payload(data))
    return data


def _as_routing(routing: Routing | Handoff | Finish | None, tool: str | None) -> Routing:
    if isinstance(routing, Handoff):
        return Routing("handoff", tool, routing.reason, routing.target)
    if isinstance(routing, Finish):
        return Routing("finish", tool, routing.reason, None, routing.summary)
    return routing or Routing(tool=tool)


def read_packet(data: Mapping[str, Any]) -> Packet:
    """The packet in an `EV_PACKET`'s payload; `InvalidInput` with a path where it is malformed."""
    updates = data.get("context_updates", EMPTY)
    for key in ("context", "context_set", "context_delete"):
        if key in data:
            raise _invalid(key, "is not read; put the changes under context_updates {set, delete}")
    body = _text(data, "body", "event_data")
    return Packet(_read_routing(data.get("routing", EMPTY)), _read_updates(updates, "event_data.context_updates"), body)


def _read_routing(data: Any) -> Routing:
    where = "event_data.routing"
    if not isinstance(data, Mapping):
        raise _invalid("routing", "must be an object {kind, tool, reason, target, summary}")
    kind = data.get("kind", "text")
    if kind not in KINDS:
        raise _invalid("routing.kind", f"is {kind!r}; it must be one of {', '.join(KINDS)}")
    tool, target = (_text(data, key, where, None) for key in ("tool", "target"))
    if kind == "handoff" and not (tool or target):
        raise _invalid("routing", "is a handoff without a target and without a tool")
    if kind != "handoff" and target is not None:
        raise _invalid("routing.target", f"belongs to a handoff, not to {kind}")
    return Routing(kind, tool, _text(data, "reason", where), target, _text(data, "summary", where))


def _read_updates(data: Any, where: str) -> ContextUpdates:
    if not isinstance(data, Mapping) or not data.keys() <= {"set", "delete"}:
        raise InvalidInput(f"{where} must be an object with nothing but 'set' and 'delete'", path=where)
    changes, gone = data.get("set", EMPTY), data.get("delete", ())
    if not isinstance(changes, Mapping):
        raise InvalidInput(f"{where}.set must be an object of variables", path=f"{where}.set")
    if not isinstance(gone, list | tuple) or not all(isinstance(key, str) for key in gone):
        raise InvalidInput(f"{where}.delete must be a list of variable names", path=f"{where}.delete")
    return ContextUpdates(freeze(changes, f"{where}.set"), gone)


def read_context_set(data: Mapping[str, Any]) -> ContextUpdates:
    """The changes in an `EV_CONTEXT_SET`'s payload: `{key, value}`, or `{set, delete}`."""
    if "key" not in data:
        if not data:
            raise _invalid("", "is empty; it must be {key, value} or {set, delete}")
        return _read_updates(data, "event_data")
    if data.keys() != {"key", "value"} or not isinstance(data["key"], str):
        raise _invalid("key", "must be a text, with a 'value' and nothing else beside it")
    return ContextUpdates(FrozenDict({data["key"]: freeze(data["value"], "event_data.value")}))


def read_handoff(data: Mapping[str, Any]) -> Packet:
    """The packet that an `EV_HANDOFF` (`{target, reason?, text?}`) stands for."""
    where = "event_data"
    target = _text(data, "target", where, None)
    if not target:
        raise _invalid("target", "is missing; a handoff names who is next")
    return Packet(Routing("handoff", None, _text(data, "reason", where), target), body=_text(data, "text", where))


def _text(data: Mapping[str, Any], key: str, where: str, default: Any = "") -> Any:
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InvalidInput(f"{where}.{key} must be a text, not {value!r}", path=f"{where}.{key}")
    return value


def _invalid(key: str, problem: str) -> InvalidInput:
    path = f"event_data.{key}" if key else "event_data"
    return InvalidInput(f"{path} {problem}", path=path)


def target_path(event_type: str) -> str:
    """Where an envelope of the type names who is next."""
    return "event_data.target" if event_type == EV_HANDOFF else "event_data.routing.target"


def resolve_target(event_type: str, data: Mapping[str, Any], resolve: Callable[[str], str]) -> dict[str, Any]:
    """The payload with the handoff's target, a name or an id, replaced by its id.

    `resolve` raises `LookupError` for a stranger, which becomes a `GraphError`; other events come back as they are.
    """
    if event_type == EV_HANDOFF:
        return _resolved(data, event_type, resolve)
    routing = data.get("routing")
    if event_type != EV_PACKET or not isinstance(routing, Mapping):
        return dict(data)
    return {**data, "routing": _resolved(routing, event_type, resolve)}


def _resolved(data: Mapping[str, Any], event_type: str, resolve: Callable[[str], str]) -> dict[str, Any]:
    target = data.get("target")
    if not isinstance(target, str):
        return dict(data)
    try:
        return {**data, "target": resolve(target)}
    except LookupError as exc:
        path = target_path(event_type)
        raise GraphError(f"{path}: nobody is known as {target!r}", path=path, agent=target) from exc


def render_routed(envelope: Envelope) -> str:
    """A handoff or a packet as text for a reader: a line about the routing, then what was said."""
    read = read_handoff if envelope.event_type == EV_HANDOFF else read_packet
    packet = read(envelope.event_data)
    return "\n".join(part for part in (_routing_line(packet.routing), packet.body) if part)


def _routing_line(routing: Routing) -> str:
    if routing.kind == "text":
        return ""
    verb = "Handed off" if routing.kind == "handoff" else "Finished"
    head = f"[{verb} via {routing.tool}]" if routing.tool else f"[{verb}]"
    said = routing.summary or routing.reason if routing.kind == "finish" else routing.reason
    return f"{head} {said}".rstrip()
