"""What a hostile peer says: frames that the protocol's schema allows, then broken in one place or in several.

The frames are made from `docs/protocol.schema.json`, so that a new operation or field is attacked without being named
here. Ids that only a running hub knows are written as tokens, which the player replaces.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from hypothesis import strategies as st

from tests.websocket.raw import handshake, ws_frame

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "protocol.schema.json").read_text("utf-8"))
DEFS: dict[str, Any] = SCHEMA["$defs"]
OPS: dict[str, str] = {
    rule["if"]["properties"]["op"]["const"]: rule["then"]["properties"]["params"]["$ref"].rpartition("/")[2]
    for rule in DEFS["RequestWire"]["allOf"]
}
OWN, ALICE, BOB, SESSION, OWN_SESSION = TOKENS = ("@own", "@alice", "@bob", "@session", "@own-session")
KNOWN = {
    "type": ("conversation", "consulting", "discussion", "workflow"),
    "event_type": ("ag2.msg.text", "ag2.session.close", "ag2.session.invite_ack", "ag2.task.started", "ag2.packet"),
    "name": ("alice", "bob", "eve-0", "eve-1"),
    "scheme": ("", "hmac", "jwt"),
    "participants": ("alice", "bob", "eve-0", "eve-1"),
    "skill_md": ("---\nname: x\n---\ny", "---\n- ["),
}
NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**70,
    1e308,
    -0.5,
    "",
    "\0",
    "../..",
    "a\nb",
    "\u202e",
    "x" * 2000,
    "*" * 60,
    [],
    {},
    [[]] * 50,
    {"": {"": None}},
    {"kind": "ping"},
    ["@alice"] * 300,
)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without its reference."""
    return DEFS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def value(schema: dict[str, Any], key: str = "") -> st.SearchStrategy[Any]:
    """What a schema allows."""
    schema = resolved(schema)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return st.one_of([value(one, key) for one in schema[union]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return record(schema) if "properties" in schema else st.dictionaries(st.text(max_size=5), plain, max_size=3)
        case "array":
            return st.lists(value(schema["items"], key), max_size=3)
        case "string":
            return word(key)
        case "integer":
            return st.integers(schema.get("minimum", -3), 40)
        case "number":
            return st.floats(0.001, 1e6)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return plain


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def word(key: str) -> st.SearchStrategy[str]:
    """A text for a field of this name: mostly one that leads somewhere."""
    if key.endswith(("_id", "_ids", "audience")):
        return st.sampled_from(TOKENS) | st.text(max_size=8)
    return st.sampled_from(KNOWN.get(key, (*TOKENS, "x"))) | st.text(max_size=8)


def record(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with what is required and some of the rest."""
    fields = {name: value(one, name) for name, one in schema["properties"].items()}
    needed = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(needed, optional=fields)


@cache
def requests() -> st.SearchStrategy[dict[str, Any]]:
    """A call of any operation."""

    def call(op: str) -> st.SearchStrategy[dict[str, Any]]:
        number = st.integers(0, 40)
        return st.fixed_dictionaries(
            {"kind": st.just("request"), "request_id": number, "op": st.just(op), "params": value(DEFS[OPS[op]])}
        )

    return st.one_of([call(op) for op in sorted(OPS)])


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    """A frame of any kind, of either side; calls are half of them, sends a quarter."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(value(DEFS["SendWire"]))
    return draw(value(DEFS["Frame"]) if kind == 1 else requests())


@st.composite
def broken(draw: st.DrawFn, source: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """A frame in which one to three places are wrong."""
    frame = draw(source)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths(frame)) or [()]))
        frame = changed(frame, path, draw(st.sampled_from(("drop", "replace", "rename", "wrap"))), draw)
    return frame


def paths(node: Any, at: tuple[Any, ...] = ()) -> Any:
    """The way to every value within."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from paths(inner, (*at, key))


def changed(node: Any, path: tuple[Any, ...], how: str, draw: st.DrawFn) -> Any:
    """A copy with one place changed."""
    if not path:
        return node
    key, *rest = path
    copy = dict(node) if isinstance(node, dict) else list(node)
    if rest:
        copy[key] = changed(copy[key], tuple(rest), how, draw)
    elif how == "drop":
        del copy[key]
    elif how == "rename" and isinstance(copy, dict):
        copy[draw(st.text(max_size=6))] = copy.pop(key)
    elif how == "wrap":
        copy[key] = [copy[key]]
    else:
        copy[key] = draw(st.sampled_from(NASTY) | plain)
    return copy


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """The text of a message: one frame or several, right or broken, with bytes changed in one of four."""
    some = draw(st.lists(frames() | broken(frames()), min_size=1, max_size=3))
    data = json.dumps(some if draw(st.booleans()) or len(some) > 1 else some[0]).encode()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data)))
        junk = draw(st.sampled_from((b"", b"\xff", b"\0", b'"', b"[" * 3000, b"1e999", b"9" * 5000, b"\\ud800", b",")))
        data = data[:at] + junk + data[at + draw(st.integers(0, 3)) :]
    return data


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A websocket message, whole or in fragments, in one of eight of an odd kind or with a false length."""
    data = draw(texts())
    odd = draw(st.integers(0, 7))
    if odd == 0:
        opcode = draw(st.integers(0, 15))
        claimed = draw(st.sampled_from((None, 0, 125, 65536, 2**31, 2**62)))
        return ws_frame(data[:100], opcode, last=draw(st.booleans()), claimed=claimed)
    if odd == 1:
        cut = draw(st.integers(0, len(data)))
        return ws_frame(data[:cut], 1, last=False) + ws_frame(b"", 9) + ws_frame(data[cut:], 0)
    return ws_frame(data)


@attrs.frozen
class Step:
    """What one of the peers does next."""

    peer: int
    """Which."""
    act: str
    """`say`, `deaf` (read no more), `reset` or `hang up`."""
    data: bytes = b""
    """What it says."""


OPENINGS = ("nothing", "upgraded", "greeted", "registered", "registered")


@attrs.frozen
class Play:
    """One attack by several peers at once."""

    openings: tuple[str, ...]
    """How far each peer gets by fair means."""
    steps: tuple[Step, ...]
    """What they do then."""


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """An attack."""
    openings = draw(st.lists(st.sampled_from(OPENINGS), min_size=1, max_size=3))
    peer = st.integers(0, len(openings) - 1)
    say = st.builds(Step, peer, st.just("say"), messages())
    rude = st.builds(Step, peer, st.sampled_from(("deaf", "reset", "hang up")))
    steps = draw(st.lists(say | say | say | rude, min_size=1, max_size=6))
    return Play(tuple(openings), tuple(steps))


@st.composite
def noise(draw: st.DrawFn) -> bytes:
    """Bytes before anything was agreed: a handshake that is cut, changed or followed by something, or none at all."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(handshake(*draw(st.lists(st.binary(max_size=30), max_size=2))))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data) + draw(
        st.binary(max_size=60)
    )
