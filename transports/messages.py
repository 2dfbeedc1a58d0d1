"""A text message as the bytes of one websocket frame (RFC 6455, section 5.2). Pure.

The library reads, shakes hands, answers pings and closes; only messages are written past it. It copies each payload
five times and takes a turn of trio's loop for its lock before every one of them, whether anybody contends or not: two
turns more between a question and its answer than a bare echo needs, since our writers are tasks of their own.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = 0x81  # a whole message in one frame
_MASKED: Final = 0x80
_XOR: Final = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def text_message(payload: bytes, mask: bytes | None = None) -> bytes:
    """UTF-8 as one message. A client's is masked with four bytes that nobody can guess, a server's is not."""
    size, flag = len(payload), 0 if mask is None else _MASKED
    if size < 126:
        head = bytes((_TEXT, flag | size))
    elif size < 65_536:
        head = bytes((_TEXT, flag | 126, size >> 8, size & 255))
    else:
        head = bytes((_TEXT, flag | 127)) + size.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Every fourth byte goes through the same table, so four passes at the speed of C do for any length."""
    data = bytearray(payload)
    for at, key in enumerate(mask):
        data[at::4] = data[at::4].translate(_XOR[key])
    return bytes(data)
