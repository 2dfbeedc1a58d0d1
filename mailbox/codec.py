"""Envelopes as bytes: what a log holds and every recipient may be sent.

msgspec does the work: it checks types without coercing (cattrs would turn `null` into the text "None") and costs half a
microsecond where the standard library takes four. Fields at their defaults are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .envelope import Envelope
from .errors import BadFrame, InvalidInput
from .frozen import EMPTY, freeze


class _Wire(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The JSON shape of an envelope."""

    session_id: str
    sender_id: str
    event_type: str
    sequence: int = 0
    envelope_id: str = ""
    created_at: str = ""
    event_data: dict[str, Any] = {}
    audience: tuple[str, ...] | None = None
    causation_id: str | None = None
    task_id: str | None = None
    trace_id: str | None = None
    priority: int = 1
    depth: int = 0
    idempotency_key: str | None = None
    ttl_seconds: float | None = None


_KNOWN = frozenset(_Wire.__struct_fields__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Wire).decode
_decode_plain = msgspec.json.Decoder(dict[str, Any]).decode


def _wire(envelope: Envelope) -> _Wire:
    return _Wire(
        envelope.session_id,
        envelope.sender_id,
        envelope.event_type,
        envelope.sequence,
        envelope.envelope_id,
        envelope.created_at,
        envelope.event_data,
        envelope.audience,
        envelope.causation_id,
        envelope.task_id,
        envelope.trace_id,
        envelope.priority,
        envelope.depth,
        envelope.idempotency_key,
        envelope.ttl_seconds,
    )


def encode_envelope(envelope: Envelope) -> bytes:
    """The envelope as UTF-8 JSON without spaces."""
    if not envelope.extra:
        return _encode(_wire(envelope))
    plain = msgspec.to_builtins(_wire(envelope))
    return _encode({**envelope.extra, **plain})


def decode_envelope(body: bytes) -> Envelope:
    """The envelope that `body` holds; unknown fields are kept in `extra`. Raises `BadFrame` for anything else."""
    try:
        return _from_wire(_decode(body), None)
    except msgspec.ValidationError:
        return _decode_tolerant(body)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidInput, RecursionError) as exc:
        raise BadFrame(f"no envelope: {exc}") from exc


def _decode_tolerant(body: bytes) -> Envelope:
    try:
        plain = _decode_plain(body)
        known = {key: value for key, value in plain.items() if key in _KNOWN}
        extra = {key: value for key, value in plain.items() if key not in _KNOWN}
        return _from_wire(msgspec.convert(known, _Wire), extra)
    except (ValueError, RecursionError) as exc:
        raise BadFrame(f"no envelope: {exc}") from exc


def _from_wire(wire: _Wire, extra: dict[str, Any] | None) -> Envelope:
    return Envelope(
        wire.session_id,
        wire.sender_id,
        wire.audience,
        wire.event_type,
        freeze(wire.event_data) if wire.event_data else EMPTY,
        wire.envelope_id,
        wire.sequence,
        wire.created_at,
        wire.causation_id,
        wire.task_id,
        wire.trace_id,
        wire.priority,
        wire.depth,
        wire.idempotency_key,
        wire.ttl_seconds,
        EMPTY if extra is None else extra,
    )
