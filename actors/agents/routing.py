"""What an agent's reply amounts to: a text, or in a workflow a packet that also says who is next. Pure.

The reply may be a text, an object with a `body`, a `Handoff`, a `Finish` or a whole `Packet`; the tools called on the
way may have returned a `Handoff` or `Finish` of their own. The first that was emitted routes, so a tool's comes before
the reply's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import attrs

from ...mailbox.events import EV_PACKET, EV_TEXT
from ..sessions.graph_conditions import ToolCalled
from ..sessions.handoff import (
    ContextUpdates,
    Finish,
    Handoff,
    Packet,
    Routing,
    ToolResult,
    build_packet,
    route_round,
)
from .calling import reply_text


@attrs.frozen
class Utterance:
    """What is to be sent."""

    event_type: str
    """`EV_TEXT` or `EV_PACKET`."""
    event_data: dict[str, Any]
    """The payload."""
    target: str | None = None
    """Whom it hands over to, by name or id."""


def read_reply(reply: Any, calls: Iterable[ToolResult] = (), routing_tools: Collection[str] = ()) -> Packet:
    """The packet that a reply and the tool calls before it amount to. Raises `InvalidInput` for what is no reply.

    `routing_tools` are those that a transition waits for with `ToolCalled`: a call of one of them routes as well.
    """
    if isinstance(reply, Packet):
        said = reply
    elif isinstance(reply, Handoff | Finish):
        said = Packet(_routing(reply))
    else:
        said = _read_object(reply)
    routing = route_round([*calls, *_results(reply)], routing_tools)
    return said if routing.kind == "text" else attrs.evolve(said, routing=routing)


def _read_object(reply: Any) -> Packet:
    body = reply if reply is None or isinstance(reply, str) else getattr(reply, "body", reply)
    if isinstance(body, Handoff | Finish):
        return Packet(_routing(body))
    return Packet(body=reply_text(reply))


def _routing(reply: Handoff | Finish) -> Routing:
    if isinstance(reply, Handoff):
        return Routing("handoff", None, reply.reason, reply.target)
    return Routing("finish", None, reply.reason, None, reply.summary)


def _results(reply: Any) -> Iterator[ToolResult]:
    """The tool calls that a reply object brings along, for agents whose tools the network does not see."""
    for call in getattr(reply, "tool_results", None) or ():
        yield call if isinstance(call, ToolResult) else ToolResult(type(call).__name__.lower(), call)


def is_silent(packet: Packet) -> bool:
    """Whether it says nothing, sends nobody anywhere and changes nothing."""
    return not packet.body and packet.routing.kind == "text" and packet.updates == ContextUpdates()


def utter(packet: Packet, *, is_workflow: bool) -> Utterance | None:
    """The envelope's type and payload, or None for silence. Outside of a workflow routing becomes text."""
    routing, body = packet.routing, packet.body
    if is_silent(packet):
        return None
    if not is_workflow:
        text = "\n".join(part for part in (_line(routing), body) if part)
        return Utterance(EV_TEXT, {"text": text}) if text else None
    if routing.kind == "text" and packet.updates == ContextUpdates():
        return Utterance(EV_TEXT, {"text": body})
    updates = packet.updates
    data = build_packet(body, routing, context_set=updates.set, context_delete=updates.delete)
    return Utterance(EV_PACKET, data, routing.target)


def _line(routing: Routing) -> str:
    if routing.kind == "text":
        return ""
    if routing.kind == "finish":
        return routing.summary or f"[Finished: {routing.reason}]"
    return f"[Handed off to {routing.target or routing.tool}] {routing.reason}".rstrip()


def routing_tools(graph: Any) -> frozenset[str]:
    """The tools that a graph, as plain data, waits for with `ToolCalled`, however deep."""
    found: set[str] = set()
    todo = [graph]
    while todo:
        node = todo.pop()
        if isinstance(node, Mapping):
            arguments = node.get("args")
            if node.get("name") == ToolCalled.wire_name and isinstance(arguments, Mapping):
                found.add(str(arguments.get("tool_name")))
            todo.extend(node.values())
        elif isinstance(node, list | tuple):
            todo.extend(node)
    return frozenset(found)
