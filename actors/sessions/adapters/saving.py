"""The states of session types as JSON values, and back, for snapshots. Pure.

What is wrong in a saved state raises; whoever reads it folds the log instead.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import attrs

from ....mailbox.errors import InvalidInput
from ..wire import make_converter

T = TypeVar("T")
_converter = make_converter()


def save_record(record: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of an attrs record, those left out that follow from the session's setup."""
    names = [field.name for field in attrs.fields(type(record)) if field.name not in without]
    return {name: _converter.unstructure(getattr(record, name)) for name in names}


def load_record(cls: type[T], saved: Any, **given: Any) -> T:
    """The record that was saved, with the fields that were left out given anew. Raises where it cannot be that."""
    hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    if not isinstance(saved, Mapping) or {*saved, *given} != {*hints}:
        raise InvalidInput(f"a saved {cls.__name__} has the fields {', '.join(hints)}")
    return cls(**given, **{name: _converter.structure(value, hints[name]) for name, value in saved.items()})


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in attrs.fields(cls)}
