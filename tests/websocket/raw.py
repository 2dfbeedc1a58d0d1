"""Websocket bytes by hand, for peers that no library would be."""

from __future__ import annotations

import json
from typing import Any

import trio

MASK = b"\0\0\0\0"


def handshake(*headers: bytes, protocol: bytes | None = b"agorio.v1") -> bytes:
    """A client's upgrade request."""
    lines = [
        b"GET / HTTP/1.1",
        b"Host: hub.test",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    if protocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + protocol)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def ws_frame(payload: bytes, opcode: int = 1, *, last: bool = True, claimed: int | None = None) -> bytes:
    """A masked client frame; `claimed` lies about its length."""
    length = len(payload) if claimed is None else claimed
    head = bytes([opcode | (128 if last else 0)])
    if length < 126:
        head += bytes([128 | length])
    elif length < 65536:
        head += bytes([128 | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([128 | 127]) + length.to_bytes(8, "big")
    return head + MASK + payload


def text(*frames: dict[str, Any]) -> bytes:
    """Frames as one message."""
    return ws_frame(json.dumps(frames[0] if len(frames) == 1 else list(frames)).encode())


HELLO = text({"kind": "hello"})


class RawPeer:
    """A peer that says what it likes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = b""

    async def say(self, data: bytes) -> None:
        """Send bytes; whether anybody still listens is no matter."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def until(self, wanted: bytes) -> bytes:
        """Read until `wanted` has arrived, or to the end."""
        while wanted not in self.received:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            if not data:
                break
            self.received += data
        return self.received

    async def to_the_end(self) -> bytes:
        """Everything, until the other side hangs up."""
        return await self.until(b"\0no such bytes\0")
