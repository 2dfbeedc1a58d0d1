"""Frames to JSON text and back.

A message is one frame, an object whose `kind` names it, or an array of frames. Size, UTF-8 and depth are checked before
anything is decoded; types are checked and never coerced; unknown fields are passed over. What is no legal frame comes
out as an `Unreadable` beside its good neighbours, so that it can be answered: decoding never raises.

Parameters and results of operations are records of rooms to the right: `Records` says which there are and how to turn
them into JSON. A response names its record, so that the codec needs no memory of the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, Final

import attrs
import msgspec

from ..mailbox.codec import EnvelopeWire, decode_envelope, encode_envelope, from_wire
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, BadFrame, InvalidInput
from ..mailbox.frozen import MAX_DEPTH as PAYLOAD_DEPTH
from ..mailbox.frozen import freeze
from . import frames as f
from . import shapes as w
from .limits import Limits

ENVELOPE: Final = "Envelope"
OUTER_DEPTH: Final = 8  # the frame and the records around a payload
MAX_DEPTH: Final = PAYLOAD_DEPTH + OUTER_DEPTH
_STEPS: Final = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]
_ALL_BUT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')


@attrs.frozen
class Records:
    """The records that operations take and return."""

    operations: Mapping[str, type]
    """The record of each operation's parameters, by the operation's name."""
    results: Mapping[str, type]
    """The records that may be a result, or the items of one, by the name that a response gives."""
    structure: Callable[[Any, type], Any]
    """From JSON values to a record of a type; raises whatever it likes."""
    unstructure: Callable[[Any], Any]
    """From a record, or a plain value, to JSON values."""


@attrs.frozen
class Unreadable:
    """What came instead of a frame."""

    error: AgorioError
    """What is wrong with it."""
    request_id: int | None = None
    """The question that it was meant to be, where that can be told."""


class _Head(msgspec.Struct):
    """What is read of a frame that is otherwise unreadable."""

    kind: str = ""
    request_id: w.Number | None = None


_encode = msgspec.json.Encoder().encode
_decode_whole = msgspec.json.Decoder(w.WholeWire).decode
_decode_wholes = msgspec.json.Decoder(list[w.WholeWire]).decode
_decode_one = msgspec.json.Decoder(w.AnyWire).decode
_decode_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.decode
_decode_head = msgspec.json.Decoder(_Head).decode
_FAULTS = (ValueError, TypeError, AttributeError, RecursionError)
KINDS: Final = frozenset(str(wire.__struct_config__.tag) for wire in w.FRAME_SHAPES)


def depth_exceeds(data: bytes, limit: int) -> bool:
    """Whether brackets are nested deeper than `limit`. Takes linear time and no recursion."""
    if data.count(b"{") + data.count(b"[") <= limit:
        return False
    return max(accumulate(map(_STEPS.__getitem__, _brackets(data))), default=0) > limit


def _brackets(data: bytes) -> bytes:
    """The brackets that are not part of a text: those after an even number of quotes, once escaped ones are gone.

    Neighbouring quotes are taken out in pairs, which changes no such number and leaves hardly any to count.
    """
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = data.translate(None, _ALL_BUT_MARKS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])


class Codec:
    """Frames as text, for the records of one network and within the limits of one end."""

    def __init__(self, records: Records, limits: Limits) -> None:
        self._records = records
        self._limits = limits
        self._names: dict[type, str] = {Envelope: ENVELOPE, **{cls: name for name, cls in records.results.items()}}
        self._encoders: dict[type, Callable[[Any], bytes]] = {
            f.HelloFrame: lambda x: _encode(w.HelloWire(x.versions, x.client)),
            f.WelcomeFrame: lambda x: _encode(w.WelcomeWire(x.endpoint_id, x.hub_time, x.version, x.limits)),
            f.SendFrame: lambda x: _encode(w.SendWire(x.request_id, _raw(x.envelope))),
            f.AcceptFrame: lambda x: _encode(w.AcceptWire(x.request_id, _raw(x.envelope), x.duplicate)),
            f.ErrorFrame: lambda x: _encode(w.ErrorWire(x.code, x.message[:65_536], x.request_id, x.details)),
            f.NotifyFrame: lambda x: _encode(w.NotifyWire(x.recipient_id, _raw(x.envelope), x.attempt)),
            f.ReceiptFrame: lambda x: _encode(_copied(x, w.ReceiptWire)),
            f.SubscribeFrame: lambda x: _encode(_copied(x, w.SubscribeWire)),
            f.UnsubscribeFrame: lambda x: _encode(w.UnsubscribeWire(x.subscription_id)),
            f.EventFrame: lambda x: _encode(w.EventWire(x.subscription_id, _raw(x.envelope))),
            f.RequestFrame: lambda x: _encode(w.RequestWire(x.request_id, x.op, self._params(x.op, x.params))),
            f.ResponseFrame: self._encode_response,
            f.PingFrame: lambda x: _encode(w.PingWire(x.nonce)),
            f.PongFrame: lambda x: _encode(w.PongWire(x.nonce)),
        }
        self._decoders: dict[type, Callable[[Any], f.Frame]] = {
            w.HelloWire: lambda x: f.HelloFrame(x.versions, x.client),
            w.WelcomeWire: lambda x: f.WelcomeFrame(x.endpoint_id, x.hub_time, x.version, x.limits),
            w.SendWire: lambda x: f.SendFrame(x.request_id, _said(x.envelope)),
            w.AcceptWire: lambda x: f.AcceptFrame(x.request_id, decode_envelope(x.envelope), x.duplicate),
            w.WholeSend: lambda x: f.SendFrame(x.request_id, from_wire(x.envelope)),
            w.WholeAccept: lambda x: f.AcceptFrame(x.request_id, _whole(x.envelope), x.duplicate),
            w.WholeNotify: lambda x: f.NotifyFrame(x.recipient_id, _whole(x.envelope), x.attempt),
            w.WholeEvent: lambda x: f.EventFrame(x.subscription_id, _whole(x.envelope)),
            w.ErrorWire: lambda x: f.ErrorFrame(x.code, x.message, x.request_id, x.details),
            w.NotifyWire: lambda x: f.NotifyFrame(x.recipient_id, decode_envelope(x.envelope), x.attempt),
            w.ReceiptWire: lambda x: f.ReceiptFrame(x.recipient_id, x.session_id, x.sequence, x.status, x.reason),
            w.SubscribeWire: lambda x: _copied(x, f.SubscribeFrame),
            w.UnsubscribeWire: lambda x: f.UnsubscribeFrame(x.subscription_id),
            w.EventWire: lambda x: f.EventFrame(x.subscription_id, decode_envelope(x.envelope)),
            w.RequestWire: self._decode_request,
            w.ResponseWire: self._decode_response,
            w.PingWire: lambda x: f.PingFrame(x.nonce),
            w.PongWire: lambda x: f.PongFrame(x.nonce),
        }

    def within(self, limits: Limits) -> Codec:
        """The same codec within other limits."""
        return Codec(self._records, limits)

    # Out.

    def encode(self, frame: f.Frame) -> bytes:
        """One frame as JSON. Raises `BadFrame` for what is no frame, or too large to be sent."""
        encode = self._encoders.get(type(frame))
        if encode is None:
            raise BadFrame(f"{type(frame).__name__} is no frame")
        try:
            data = encode(frame)
        except _FAULTS as exc:
            if isinstance(exc, AgorioError):
                raise
            raise BadFrame(f"a {type(frame).__name__} cannot be written as JSON: {exc}") from exc
        if len(data) > self._limits.max_outgoing:
            most, name = self._limits.max_outgoing, type(frame).__name__
            raise BadFrame(f"a {name} has {len(data)} bytes; this link carries at most {most}", limit=most)
        return data

    def _encode_response(self, frame: f.ResponseFrame) -> bytes:
        result, name = frame.result, self._names.get(type(frame.result), "")
        if isinstance(result, tuple):
            name = (self._names[type(result[0])] if result else "") + "[]"
            plain: Any = [self._plain(item) for item in result]
        else:
            plain = self._plain(result) if name else freeze(result, "result")
        return _encode(w.ResponseWire(frame.request_id, msgspec.Raw(_encode(plain)), name))

    def _params(self, op: str, params: Any) -> Any:
        """Checked here, so that what JSON would lose (a class, a NaN) is refused as over any other link."""
        cls = self._records.operations.get(op)
        if cls is not None and not isinstance(params, cls):
            raise BadFrame(f"operation {op!r} takes a {cls.__name__}, not a {type(params).__name__}")
        return freeze(self._records.unstructure(params), "params", -OUTER_DEPTH)

    def _plain(self, record: Any) -> Any:
        return _raw(record) if type(record) is Envelope else self._records.unstructure(record)

    # In.

    def decode(self, message: str | bytes) -> list[f.Frame | Unreadable]:
        """The frames of a message, in order, with what is wrong in place of those that are none. Never raises."""
        try:
            data = self._checked(message)
            if data[:1] != b"[":
                return [self._decode_part(data)]
            return self._decode_array(data)
        except BadFrame as error:
            return [Unreadable(error)]

    def _decode_array(self, data: bytes) -> list[f.Frame | Unreadable]:
        """All in one pass. If that fails it is cut into its items, which builds nothing, and each is looked at by
        itself: a bad frame does not take its neighbours with it.
        """
        wires = None if depth_exceeds(data, MAX_DEPTH + 1) else _attempt(_decode_wholes, data)
        if wires is not None:
            self._check_number(wires)
            return [self._frame(wire) for wire in wires]
        try:
            parts = _decode_raw(data)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise BadFrame(f"a message is no JSON: {exc}") from exc
        self._check_number(parts)
        return [self._decode_part(bytes(part)) for part in parts]

    def _check_number(self, items: list[Any]) -> None:
        if len(items) > self._limits.max_frames:
            raise BadFrame(f"a message has more than {self._limits.max_frames} frames")

    def _checked(self, message: str | bytes) -> bytes:
        try:
            data = message.encode() if isinstance(message, str) else message
            if len(data) > self._limits.max_message:
                raise BadFrame(f"a message has more than {self._limits.max_message} bytes")
            if not data.isascii() and data is message:
                data.decode()
        except (UnicodeEncodeError, UnicodeDecodeError) as exc:
            raise BadFrame(f"a message is no UTF-8: {exc.reason}") from exc
        return data

    def _decode_part(self, data: bytes) -> f.Frame | Unreadable:
        if depth_exceeds(data, MAX_DEPTH):
            return Unreadable(BadFrame(f"a frame is nested deeper than {MAX_DEPTH} levels"))
        whole = _attempt(_decode_whole, data)
        if whole is not None:
            return self._frame(whole)
        try:
            return self._frame(_decode_one(data))
        except (msgspec.DecodeError, RecursionError) as exc:
            return _unreadable(data, exc)

    def _frame(self, wire: w.AnyWire | w.WholeWire) -> f.Frame | Unreadable:
        try:
            return self._decoders[type(wire)](wire)
        except AgorioError as error:
            return Unreadable(error, getattr(wire, "request_id", None))
        except _FAULTS as exc:
            return Unreadable(BadFrame(f"a frame is unreadable: {exc}"), getattr(wire, "request_id", None))

    def _decode_request(self, wire: w.RequestWire) -> f.RequestFrame:
        cls = self._records.operations.get(wire.op)
        if cls is None:
            raise BadFrame(f"operation {wire.op!r} is unknown", op=wire.op)
        return f.RequestFrame(wire.request_id, wire.op, self._record(wire.params, cls, wire.op))

    def _decode_response(self, wire: w.ResponseWire) -> f.ResponseFrame:
        name, is_many = wire.type.removesuffix("[]"), wire.type.endswith("[]")
        if not wire.type:
            return f.ResponseFrame(wire.request_id, _decode_any(wire.result))
        parts = _decode_raw(wire.result) if is_many else [wire.result]
        items = tuple([self._item(part, name) for part in parts])
        return f.ResponseFrame(wire.request_id, items if is_many else items[0])

    def _item(self, part: msgspec.Raw, name: str) -> Any:
        if name == ENVELOPE:
            return decode_envelope(part)
        cls = self._records.results.get(name)
        if cls is None:
            raise BadFrame(f"result type {name!r} is unknown", type=name)
        return self._record(_decode_any(part), cls, name)

    def _record(self, value: Any, cls: type, name: str) -> Any:
        try:
            return self._records.structure(value, cls)
        except AgorioError:
            raise
        except Exception as exc:  # the converter is given and may raise anything; to the peer all of it is a bad record
            raise InvalidInput(f"{name}: {exc}"[:1000]) from exc


def _raw(envelope: Envelope) -> msgspec.Raw:
    return msgspec.Raw(encode_envelope(envelope))


def _attempt(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """What the quick way makes of it, or None where only the careful one can say what is wrong."""
    try:
        return decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def _whole(wire: EnvelopeWire) -> Envelope:
    try:
        return from_wire(wire)
    except InvalidInput as exc:
        raise BadFrame(f"no envelope: {exc}") from exc


def _said(body: msgspec.Raw) -> Envelope:
    """An envelope to be judged. One with a bad field is refused as over any other link, not as a broken frame."""
    try:
        return decode_envelope(body)
    except BadFrame as error:
        raise InvalidInput(str(error)) from error


def _copied(source: Any, target: Any) -> Any:
    """A frame from its wire shape or the other way round: the fields have the same names and order."""
    names = target.__struct_fields__ if issubclass(target, w.Shape) else [x.name for x in attrs.fields(target)]
    return target(*[getattr(source, name) for name in names])


def _unreadable(data: bytes, exc: Exception) -> Unreadable:
    """A frame that is none, with as much of its head as can be read."""
    try:
        head = _decode_head(data)
    except (msgspec.DecodeError, RecursionError):
        return Unreadable(BadFrame(f"no frame: {exc}"))
    if head.kind not in KINDS:
        return Unreadable(BadFrame(f"frame kind {head.kind[:64]!r} is unknown", kind=head.kind[:64]), head.request_id)
    return Unreadable(BadFrame(f"a {head.kind} frame is unreadable: {exc}"), head.request_id)
