"""The envelope: one frozen record of what one agent says in one session."""

from __future__ import annotations

import math
from typing import Any

import attrs

from .errors import InvalidInput
from .frozen import EMPTY, FrozenDict, checked_text, freeze_payload
from .priority import Priority


def _audience(value: Any) -> tuple[str, ...] | None:
    """None addresses everybody else; a list is copied into a tuple without repeats, in its order."""
    if value is None or value == ():
        return None if value is None else ()
    if isinstance(value, str):
        raise InvalidInput(f"audience={value!r} must be a list of agent ids or None", field="audience")
    audience = tuple(value)
    if not all(isinstance(who, str) for who in audience):
        raise InvalidInput(f"audience={value!r:.80} must hold agent ids, which are texts", field="audience")
    return tuple(dict.fromkeys(audience))


def _priority(value: Any) -> Priority:
    if type(value) is Priority:
        return value
    try:
        return Priority[value.upper()] if isinstance(value, str) else Priority(value)
    except (KeyError, ValueError) as exc:
        names = ", ".join(p.name.lower() for p in Priority)
        raise InvalidInput(f"priority={value!r} is unknown; use one of {names}", field="priority") from exc


MAX_TEXT_FIELD = 1024
_BY_NUMBER = {int(priority): priority for priority in Priority}


def _check_texts(envelope: Envelope) -> None:
    """Refuse what a log could not give back as it was, or what would fill it."""
    for name in _TEXT_FIELDS:
        value, least = getattr(envelope, name), int(name == "idempotency_key")
        if value is None and name not in ("session_id", "sender_id"):
            continue
        if not isinstance(value, str) or not least <= len(value) <= MAX_TEXT_FIELD:
            raise InvalidInput(
                f"{name}={value!r:.80} must be a text of {least} to {MAX_TEXT_FIELD} characters", field=name
            )
        if not value.isascii():
            checked_text(value, name)


def _check_ttl(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 < value < math.inf):
        raise InvalidInput(f"ttl_seconds={value!r:.80} must be a positive number of seconds", field="ttl_seconds")


def _check_depth(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidInput(f"depth={value!r:.80} must be a whole number of at least 0", field="depth")


@attrs.frozen(kw_only=False)
class Envelope:
    """What is said, by whom, to whom. The hub stamps `envelope_id`, `sequence`, `created_at` and `depth`."""

    session_id: str
    """The session it belongs to."""
    sender_id: str
    """The agent that says it; the hub's own bookkeeping is said in the name of the session's creator."""
    audience: tuple[str, ...] | None = attrs.field(default=None, converter=_audience)
    """The agent ids it is for; None means every other participant."""
    event_type: str = "ag2.msg.text"
    """What kind of event it is, one of `EV_*` or a name of the user's own outside `ag2.`."""
    event_data: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The payload, a frozen JSON object."""
    envelope_id: str = ""
    """Hub-stamped: unique, strictly increasing, time-ordered."""
    sequence: int = 0
    """Hub-stamped: 1, 2, 3 … without gaps in its session."""
    created_at: str = ""
    """Hub-stamped: ISO-8601 UTC ending in `Z`."""
    causation_id: str | None = None
    """The envelope that this one answers."""
    task_id: str | None = None
    """The task that it is about."""
    trace_id: str | None = None
    """A W3C traceparent."""
    priority: Priority = attrs.field(default=Priority.NORMAL, converter=_priority)
    """Which mail a busy recipient handles first; never reorders one session."""
    depth: int = 0
    """How many delegations led here."""
    idempotency_key: str | None = None
    """A retry with the same key in the same session returns the first result."""
    ttl_seconds: float | None = None
    """Undelivered for longer than this, it becomes a dead letter."""
    extra: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Fields of a newer peer, kept as they came."""

    def __attrs_post_init__(self) -> None:
        for value in (self.session_id, self.sender_id):
            if not (type(value) is str and 0 < len(value) <= MAX_TEXT_FIELD and value.isascii()):
                _check_texts(self)
        for other in (self.causation_id, self.task_id, self.trace_id, self.idempotency_key):
            if other is None:
                continue
            if not (type(other) is str and 0 < len(other) <= MAX_TEXT_FIELD and other.isascii()):
                _check_texts(self)
        if self.ttl_seconds is not None:
            _check_ttl(self.ttl_seconds)
        if type(self.depth) is not int or self.depth:
            _check_depth(self.depth)

    @property
    def text(self) -> str:
        """The payload's `text`, or `""`."""
        value = self.event_data.get("text", "")
        return value if isinstance(value, str) else ""


_TEXT_FIELDS = ("session_id", "sender_id", "causation_id", "task_id", "trace_id", "idempotency_key")


class _Draft(Envelope):
    """An envelope under construction: the same layout, without the guard against assignment.

    Every envelope is copied once on its way, to be stamped. Setting sixteen fields past attrs' guard costs 2 µs,
    running
    the converters again 4 µs; filling a draft and then changing its class, which Python allows within one layout, costs
    half a microsecond.
    """

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__  # both stand behind one slot of the type, and only together is it quick


_new_draft = object.__new__


def stamp(
    envelope: Envelope,
    *,
    envelope_id: str,
    sequence: int,
    created_at: str,
    depth: int,
    audience: tuple[str, ...] | None,
) -> Envelope:
    """A copy with the hub's stamps; everything else was checked when the envelope was made."""
    new: Any = _new_draft(_Draft)
    new.session_id = envelope.session_id
    new.sender_id = envelope.sender_id
    new.audience = audience
    new.event_type = envelope.event_type
    new.event_data = envelope.event_data
    new.envelope_id = envelope_id
    new.sequence = sequence
    new.created_at = created_at
    new.causation_id = envelope.causation_id
    new.task_id = envelope.task_id
    new.trace_id = envelope.trace_id
    new.priority = envelope.priority
    new.depth = depth
    new.idempotency_key = envelope.idempotency_key
    new.ttl_seconds = envelope.ttl_seconds
    new.extra = envelope.extra
    new.__class__ = Envelope
    return new  # type: ignore[no-any-return]


def with_key(envelope: Envelope, key: str) -> Envelope:
    """A copy under an idempotency key."""
    new = stamp(
        envelope,
        envelope_id=envelope.envelope_id,
        sequence=envelope.sequence,
        created_at=envelope.created_at,
        depth=envelope.depth,
        audience=envelope.audience,
    )
    object.__setattr__(new, "idempotency_key", key)
    return new


def assemble(parts: Any, event_data: FrozenDict, extra: FrozenDict) -> Envelope:
    """An envelope of parts that were checked as they were read: `parts` has its other fields, within their bounds."""
    new: Any = _new_draft(_Draft)
    new.session_id = parts.session_id
    new.sender_id = parts.sender_id
    new.audience = _audience(parts.audience)
    new.event_type = parts.event_type
    new.event_data = event_data
    new.envelope_id = parts.envelope_id
    new.sequence = parts.sequence
    new.created_at = parts.created_at
    new.causation_id = parts.causation_id
    new.task_id = parts.task_id
    new.trace_id = parts.trace_id
    new.priority = _BY_NUMBER.get(parts.priority) or _priority(parts.priority)
    new.depth = parts.depth
    new.idempotency_key = parts.idempotency_key
    new.ttl_seconds = parts.ttl_seconds
    new.extra = extra
    new.__class__ = Envelope
    return new  # type: ignore[no-any-return]


def visible_to(envelope: Envelope, agent_id: str) -> bool:
    """Whether `agent_id` may see the envelope: it said it, it is addressed, or everybody is."""
    return envelope.sender_id == agent_id or envelope.audience is None or agent_id in envelope.audience
