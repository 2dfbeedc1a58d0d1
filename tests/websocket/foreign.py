"""A client as somebody else would write it: a websocket, JSON, `docs/protocol.md` and its schema. Nothing of agorio."""

from __future__ import annotations

import hmac
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "protocol.schema.json").read_text(encoding="utf-8"))
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}

Json = dict[str, Any]


def fits(value: Any, shape: Json) -> bool:
    """Whether a value is valid against a schema, as far as this schema goes."""
    if "$ref" in shape:
        return fits(value, SCHEMA["$defs"][shape["$ref"].rpartition("/")[2]])
    kind = shape.get("type")
    if kind == "null":
        return value is None
    if kind is not None and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    return (
        ("const" not in shape or value == shape["const"])
        and ("enum" not in shape or value in shape["enum"])
        and ("anyOf" not in shape or any(fits(value, one) for one in shape["anyOf"]))
        and ("oneOf" not in shape or sum(fits(value, one) for one in shape["oneOf"]) == 1)
        and all(not fits(value, one["if"]) or fits(value, one["then"]) for one in shape.get("allOf", ()))
        and (not isinstance(value, dict) or _members_fit(value, shape))
        and (not isinstance(value, list) or _items_fit(value, shape))
        and (not isinstance(value, str) or len(value) <= shape.get("maxLength", len(value)))
        and (isinstance(value, str | dict | list) or value is None or _is_within(value, shape))
    )


def _members_fit(value: Json, shape: Json) -> bool:
    known = shape.get("properties", {})
    return set(shape.get("required", ())) <= set(value) and all(
        fits(item, known[key]) for key, item in value.items() if key in known
    )


def _items_fit(value: list[Any], shape: Json) -> bool:
    return len(value) >= shape.get("minItems", 0) and all(fits(item, shape.get("items", {})) for item in value)


def _is_within(value: float, shape: Json) -> bool:
    return bool(shape.get("minimum", value) <= value <= shape.get("maximum", value))


class Refused(Exception):
    """The hub has answered with an error; `args` are its code and its message."""


class ForeignClient:
    """One connection. What comes unasked stands in a line of its own kind."""

    def __init__(self, ws: WebSocketConnection) -> None:
        self._ws = ws
        self._numbers = 0
        self._answers: dict[int, Json] = {}
        self.unasked: dict[str, deque[Json]] = {"notify": deque(), "event": deque(), "request": deque()}
        self.invalid: list[Json] = []

    async def say(self, *frames: Json) -> None:
        assert all(fits(frame, SCHEMA) for frame in frames), frames
        await self._ws.send_message(json.dumps(frames[0] if len(frames) == 1 else frames))

    async def hear(self) -> None:
        """Take in one message."""
        message = json.loads(await self._ws.get_message())
        if not fits(message, SCHEMA):
            self.invalid.append(message)
        for frame in message if isinstance(message, list) else [message]:
            if frame["kind"] == "ping":
                await self.say({"kind": "pong", "nonce": frame.get("nonce", 0)})
            elif frame["kind"] in self.unasked:
                self.unasked[frame["kind"]].append(frame)
            else:
                self._answers[frame.get("request_id", 0)] = frame

    async def greet(self) -> Json:
        await self.say({"kind": "hello", "client": "foreign"})
        return await self._answer(0)

    async def ask(self, op: str, **params: Any) -> Any:
        self._numbers += 1
        await self.say({"kind": "request", "request_id": self._numbers, "op": op, "params": params})
        return (await self._answer(self._numbers))["result"]

    async def send(self, **envelope: Any) -> Json:
        self._numbers += 1
        await self.say({"kind": "send", "request_id": self._numbers, "envelope": envelope})
        return await self._answer(self._numbers)

    async def _answer(self, number: int) -> Json:
        while number not in self._answers:
            await self.hear()
        answer = self._answers.pop(number)
        if answer["kind"] == "error":
            raise Refused(answer["code"], answer["message"])
        return answer

    async def next(self, kind: str, event_type: str = "") -> Json:
        """The next notify, event or request; of an event type, where one is given."""
        line = self.unasked[kind]
        while True:
            for frame in line:
                if not event_type or frame["envelope"]["event_type"] == event_type:
                    line.remove(frame)
                    return frame
            await self.hear()

    async def acknowledge(self, notify: Json) -> None:
        said = notify["envelope"]
        place = {"session_id": said["session_id"], "sequence": said["sequence"]}
        await self.say({"kind": "receipt", "recipient_id": notify["recipient_id"], **place})

    async def register(self, name: str, secret: str | None = None, **params: Any) -> str:
        """The agent's id."""
        if secret is not None:
            challenge = await self.ask("auth_challenge", name=name, scheme="hmac")
            answer = {"nonce": challenge["nonce"], "answer": prove(secret, challenge)}
            params["credentials"] = {"scheme": "hmac", "claim": answer}
        agent_id: str = (await self.ask("register", passport={"name": name}, **params))["agent_id"]
        return agent_id

    async def hang_up(self) -> None:
        await self._ws.aclose()


def prove(secret: str, challenge: Json) -> str:
    """See "Proving who one is"."""
    parts = ["agorio hmac challenge 1", challenge["scheme"], challenge["name"], challenge["nonce"]]
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hmac.new(secret.encode(), message, sha256).hexdigest()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[ForeignClient]:
    with trio.fail_after(60):
        async with open_websocket_url(url, subprotocols=["agorio.v1"]) as ws:
            client = ForeignClient(ws)
            await client.greet()
            yield client
            assert not client.invalid, "the hub says what its own schema does not allow"
