"""The envelope: one frozen record of what one agent says in one session."""

from __future__ import annotations

from typing import Any

import attrs

from .errors import InvalidInput
from .frozen import EMPTY, FrozenDict, freeze_payload
from .priority import Priority


def _audience(value: Any) -> tuple[str, ...] | None:
    """None addresses everybody else; a list is copied into a tuple without repeats, in its order."""
    if value is None or (type(value) is tuple and len(value) < 2):
        return value
    if isinstance(value, str):
        raise InvalidInput(f"audience={value!r} must be a list of agent ids or None", field="audience")
    return tuple(dict.fromkeys(value))


def _priority(value: Any) -> Priority:
    if type(value) is Priority:
        return value
    try:
        return Priority[value.upper()] if isinstance(value, str) else Priority(value)
    except (KeyError, ValueError) as exc:
        names = ", ".join(p.name.lower() for p in Priority)
        raise InvalidInput(f"priority={value!r} is unknown; use one of {names}", field="priority") from exc


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

    @property
    def text(self) -> str:
        """The payload's `text`, or `""`."""
        value = self.event_data.get("text", "")
        return value if isinstance(value, str) else ""


_FIELDS = tuple(f.name for f in attrs.fields(Envelope))
_SET = {name: getattr(Envelope, name).__set__ for name in _FIELDS}
_COPIED = tuple(
    (getattr(Envelope, name).__get__, _SET[name])
    for name in _FIELDS
    if name not in ("envelope_id", "sequence", "created_at", "depth", "audience")
)
_SET_ID, _SET_SEQUENCE, _SET_CREATED = _SET["envelope_id"], _SET["sequence"], _SET["created_at"]
_SET_DEPTH, _SET_AUDIENCE = _SET["depth"], _SET["audience"]


def stamp(
    envelope: Envelope,
    *,
    envelope_id: str,
    sequence: int,
    created_at: str,
    depth: int,
    audience: tuple[str, ...] | None,
) -> Envelope:
    """A copy with the hub's stamps. `attrs.evolve` would run every converter again, 4 µs on the path of every send."""
    new = object.__new__(Envelope)
    for read, write in _COPIED:
        write(new, read(envelope))
    _SET_ID(new, envelope_id)
    _SET_SEQUENCE(new, sequence)
    _SET_CREATED(new, created_at)
    _SET_DEPTH(new, depth)
    _SET_AUDIENCE(new, audience)
    return new


def visible_to(envelope: Envelope, agent_id: str) -> bool:
    """Whether `agent_id` may see the envelope: it said it, it is addressed, or everybody is."""
    return envelope.sender_id == agent_id or envelope.audience is None or agent_id in envelope.audience
