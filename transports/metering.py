"""Counts what arrives on a websocket below the library that parses it. Pure: it is fed bytes and says what is wrong.

The library counts the characters of a message instead of its bytes, and takes any number of empty fragments. Reading
the frame headers here settles both before a payload is buffered: the size of a frame is known from its header.
"""

from __future__ import annotations

from typing import Final

from .limits import Limits

HANDSHAKE_BYTES: Final = 16 * 1024
TOO_BIG: Final = 1009
POLICY: Final = 1008
PROTOCOL: Final = 1002
_CONTROL: Final = 8
_WHOLE: Final = frozenset({0x81, 0x82})  # the first byte of a text or of bytes, not continued


class Violation(Exception):
    """The peer has broken a limit; `code` is the websocket close code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameMeter:
    """One direction of one websocket, from the first byte of its HTTP handshake on."""

    __slots__ = ("_fragments", "_head", "_in_frames", "_limits", "_message", "_skip", "_with_body")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._head = bytearray()
        self._in_frames = False
        self._with_body = False
        self._skip = 0
        self._message = 0
        self._fragments = 0

    @property
    def in_frames(self) -> bool:
        """Whether the HTTP handshake is over."""
        return self._in_frames

    def feed(self, data: bytes | bytearray) -> int:
        """Take in bytes; how many websocket frames began in them. Raises `Violation`."""
        if self._in_frames:
            return self._feed_frames(data, 0)
        if self._with_body:
            return 0
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 or end > HANDSHAKE_BYTES:
            if len(self._head) > HANDSHAKE_BYTES:
                raise Violation(PROTOCOL, f"the handshake is longer than {HANDSHAKE_BYTES} bytes")
            return 0
        rest = bytes(self._head[end + 4 :])
        # An answer that refuses the upgrade is followed by a text for people, not by websocket frames.
        self._with_body = self._head.startswith(b"HTTP/") and self._head[8:13] != b" 101 "
        self._in_frames = not self._with_body
        self._head.clear()
        return self._feed_frames(rest, 0) if self._in_frames else 0

    def _is_one_message(self, data: bytes | bytearray) -> bool:
        """Whether these bytes are one whole message in one frame, as most are, and within the limits."""
        if self._skip or self._head or self._fragments or len(data) < 2 or data[0] & 143 not in _WHOLE:
            return False
        head = data[:14]
        length = _length(head)
        return len(data) == _header_size(head) + length and length <= self._limits.max_message

    def _feed_frames(self, data: bytes | bytearray, at: int) -> int:
        if not at and self._is_one_message(data):
            return 1
        count, size = 0, len(data)
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                continue
            if not self._head:
                head = data[at : at + 14]
                length = _header_size(head)
                if len(head) >= length:
                    self._begin(head)
                    at += length
                    count += 1
                    continue
            taken = _header_size(self._head) - len(self._head)
            self._head += data[at : at + taken]
            at += taken
            if len(self._head) >= 2 and len(self._head) == _header_size(self._head):
                self._begin(self._head)
                self._head.clear()
                count += 1
        return count

    def _begin(self, head: bytes | bytearray) -> None:
        opcode, is_last, length = head[0] & 15, head[0] & 128, _length(head)
        self._skip = length
        if opcode >= _CONTROL:
            if length > 125:
                raise Violation(PROTOCOL, "a control frame is longer than 125 bytes")
            return
        self._message += length
        self._fragments += 1
        limits = self._limits
        if self._message > limits.max_message:
            raise Violation(TOO_BIG, f"a message has more than {limits.max_message} bytes")
        if self._fragments > limits.max_fragments:
            raise Violation(POLICY, f"a message comes in more than {limits.max_fragments} fragments")
        if is_last:
            self._message = self._fragments = 0


def _header_size(head: bytes | bytearray) -> int:
    """How long a frame header is, as far as its beginning tells."""
    if len(head) < 2:
        return 2
    short = head[1] & 127
    extended = 2 if short == 126 else 8 if short == 127 else 0
    return 2 + extended + (4 if head[1] & 128 else 0)


def _length(head: bytes | bytearray) -> int:
    short = head[1] & 127
    if short < 126:
        return short
    return int.from_bytes(head[2 : 4 if short == 126 else 10], "big")
