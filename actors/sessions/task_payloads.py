"""What each `ag2.task.*` event of a member may carry: one table, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...mailbox.clock import parse_duration
from ...mailbox.errors import InvalidInput
from ...mailbox.events import (
    EV_TASK_CANCEL_REQUEST,
    EV_TASK_CANCELLED,
    EV_TASK_COMPLETED,
    EV_TASK_EXPIRED,
    EV_TASK_FAILED,
    EV_TASK_PROGRESS,
    EV_TASK_STARTED,
)

MAX_TITLE = 512
MAX_DESCRIPTION = 65_536
MAX_CAPABILITY = 128
MAX_REASON = 500
MAX_ERROR = 4_096
MAX_ID = 128
MAX_PROGRESS = 256


def _text(most: int, *, required: bool = False) -> Callable[[str, Any], None]:
    def check(path: str, value: Any) -> None:
        if value is None and not required:
            return
        if not isinstance(value, str) or len(value) > most or (required and not value):
            raise InvalidInput(f"{path} must be a text of {int(required)} to {most} characters", path=path)

    return check


def _object(path: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{path} must be an object such as {{'done': 3}}", path=path)


def _anything(path: str, value: Any) -> None:
    """Any JSON value will do; the envelope has checked that it is one."""


def _duration(path: str, value: Any) -> None:
    parse_duration(value, path)


Check = Callable[[str, Any], None]
_ID: dict[str, Check] = {"task_id": _text(MAX_ID, required=True)}
_REASON: dict[str, Check] = {**_ID, "reason": _text(MAX_REASON)}
_REQUIRED = ("task_id", "title", "progress")
PAYLOADS: dict[str, dict[str, Check]] = {
    EV_TASK_STARTED: {
        "title": _text(MAX_TITLE, required=True),
        "description": _text(MAX_DESCRIPTION),
        "payload": _object,
        "capability": _text(MAX_CAPABILITY),
        "ttl": _duration,
        "resume_from": _text(MAX_ID),
    },
    EV_TASK_PROGRESS: {**_ID, "progress": _object},
    EV_TASK_COMPLETED: {**_ID, "result": _anything},
    EV_TASK_FAILED: {**_ID, "error": _text(MAX_ERROR)},
    EV_TASK_EXPIRED: _REASON,
    EV_TASK_CANCELLED: _REASON,
    EV_TASK_CANCEL_REQUEST: _REASON,
}


def check_payload(event_type: str, data: Mapping[str, Any]) -> None:
    """Refuse a payload that a member may not send. Raises `InvalidInput` with the path of the fault."""
    fields = PAYLOADS[event_type]
    for name in data:
        if name not in fields:
            raise InvalidInput(
                f"event_data.{name} is no field of {event_type}; it has {', '.join(fields)}", path=f"event_data.{name}"
            )
    for name, check in fields.items():
        if name in data or name in _REQUIRED:
            check(f"event_data.{name}", data.get(name))
