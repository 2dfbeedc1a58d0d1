"""Writes `protocol.schema.json` and `asyncapi.json` from the records themselves: `python docs/make_protocol.py`.

A test compares what stands there with what this makes, so the two cannot drift from the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from agorio.actors.sessions.wire import WIRE
from agorio.mailbox.codec import EnvelopeWire
from agorio.transports.codec import ENVELOPE
from agorio.transports.frames import PROTOCOL_VERSION
from agorio.transports.machine import MAY_SEND, State
from agorio.transports.shapes import FRAME_SHAPES as FRAMES
from agorio.transports.websocket import SUBPROTOCOL

HERE = Path(__file__).parent


def schema() -> dict[str, Any]:
    """The JSON Schema of a message."""
    records = [*WIRE.operations.values(), *WIRE.results.values()]
    _, defs = msgspec.json.schema_components(
        [*FRAMES, EnvelopeWire, *records], schema_hook=_plain, ref_template="#/$defs/{name}"
    )
    for frame in FRAMES:
        if "envelope" in (properties := defs[frame.__name__]["properties"]):
            properties["envelope"] = {"$ref": "#/$defs/EnvelopeWire"}
    defs["RequestWire"]["allOf"] = [
        _when("op", name, "params", {"$ref": f"#/$defs/{WIRE.operations[name].__name__}"})
        for name in sorted(WIRE.operations)
    ]
    results = {ENVELOPE: {"$ref": "#/$defs/EnvelopeWire"}}
    results |= {name: {"$ref": f"#/$defs/{name}"} for name in sorted(WIRE.results)}
    defs["ResponseWire"]["allOf"] = [
        rule
        for name, shape in results.items()
        for rule in (
            _when("type", name, "result", shape),
            _when("type", f"{name}[]", "result", {"type": "array", "items": shape}),
        )
    ]
    defs["Frame"] = {"oneOf": [{"$ref": f"#/$defs/{frame.__name__}"} for frame in FRAMES]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A message of {SUBPROTOCOL}",
        "description": "One frame, or several in order. Unknown fields are to be passed over.",
        "anyOf": [{"$ref": "#/$defs/Frame"}, {"type": "array", "items": {"$ref": "#/$defs/Frame"}, "minItems": 1}],
        "$defs": dict(sorted(defs.items())),
    }


def _plain(kind: type) -> dict[str, Any]:
    """Frozen objects are objects."""
    if issubclass(kind, dict):
        return {"type": "object"}
    raise NotImplementedError(kind)


def _when(field: str, value: str, other: str, shape: dict[str, Any]) -> dict[str, Any]:
    given = {"properties": {field: {"const": value}}, "required": [field]}
    return {"if": given, "then": {"properties": {other: shape}}}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI description: which end sends which frames."""
    messages = {_name(frame): _message(frame) for frame in FRAMES}
    sides = {side: sorted(_sent_by(side)) for side in ("client", "hub")}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "agorio", "version": str(PROTOCOL_VERSION), "description": "Agents and their hub."},
        "defaultContentType": "application/json",
        "servers": {"hub": {"host": "127.0.0.1", "protocol": "ws", "description": "Or `wss`."}},
        "channels": {
            "link": {
                "address": "/",
                "description": f"One websocket with the subprotocol `{SUBPROTOCOL}`.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            f"{side}Says": {
                "action": "receive" if side == "client" else "send",
                "summary": f"What a {side} sends, as the hub sees it.",
                "channel": {"$ref": "#/channels/link"},
                "messages": [{"$ref": f"#/channels/link/messages/{name}"} for name in names],
            }
            for side, names in sides.items()
        },
        "components": {"messages": messages},
    }


def _name(frame: Any) -> str:
    return str(frame.__struct_config__.tag)


def _sent_by(side: Any) -> set[str]:
    kinds = {kind.__name__ for state in State for kind in MAY_SEND[state, side]}
    return {kind.removesuffix("Frame").lower() for kind in kinds}


def _message(frame: Any) -> dict[str, Any]:
    return {
        "name": _name(frame),
        "summary": (frame.__doc__ or "").partition("\n")[0],
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"protocol.schema.json#/$defs/{frame.__name__}"},
        },
    }


def rendered() -> dict[str, str]:
    """The files by name."""
    made = {"protocol.schema.json": schema(), "asyncapi.json": asyncapi()}
    return {name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    for name, text in rendered().items():
        (HERE / name).write_text(text, encoding="utf-8")
