"""The records of operations and results as JSON values, and back: the typed edge of the wire. Pure.

Structuring is strict. cattrs alone would turn `null` into the text "None", a text into a tuple of its letters and
"false" into True. Fields that a newer peer sends are kept in `extra` where the record has one, else passed over.
"""

from __future__ import annotations

from typing import Any, Final, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from ...mailbox.errors import AgorioError, InvalidInput
from ...mailbox.frozen import FrozenDict, freeze_payload
from ...transports.codec import Records
from .credentials import Challenge
from .identity import FrozenObserved, ObservedStat, Passport, Resume
from .metadata import SessionMetadata, SessionState
from .operations import Operation, Registered, operations
from .rule import Rule
from .tasks import Checkpoint, TaskMetadata, TaskState
from .typed import checked

_SCALARS: Final[dict[type, tuple[type, ...]]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}
_NAMES: Final = {str: "text", int: "whole number", float: "number", bool: "truth value"}
_INT64: Final = 2**63


def _scalar(value: Any, cls: Any) -> Any:
    kinds: Any = _SCALARS[cls]
    if not isinstance(value, kinds) or (isinstance(value, bool) and cls is not bool):
        raise ValueError(f"{value!r:.80} is no {_NAMES[cls]}")
    if cls is int and not -_INT64 <= value < _INT64:
        raise ValueError("an integer has more than 64 bits")
    return value


def _text_or_number(value: Any, _: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise ValueError(f"{value!r:.80} is neither a text nor a number nor null")
    return value


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple_hook(kind: Any, made: cattrs.Converter) -> Any:
    item = get_args(kind)[0]

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{value!r:.80} is no array")
        return tuple([made.structure(one, item) for one in value])

    return structure


def _record_hook(cls: type, made: cattrs.Converter) -> Any:
    structure: Any = make_dict_structure_fn(cls, made)
    names = {field.name for field in attrs.fields(cls)}

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.80} is no object of {cls.__name__}")
        record = structure(value, cls)
        if "extra" in names:
            unknown = {key: item for key, item in value.items() if key not in names}
            record = attrs.evolve(record, extra={**record.extra, **unknown}) if unknown else record
        return record

    return hook


def _object(value: Any, _: Any) -> FrozenDict:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.80} is no object")
    return freeze_payload(value)


def make_converter() -> cattrs.Converter:
    """A strict converter for this floor's records."""
    made = cattrs.Converter(unstruct_collection_overrides={tuple: list})
    for cls in _SCALARS:
        made.register_structure_hook(cls, _scalar)
    for cls in (SessionState, TaskState):  # by class: the hook of `str` would be found before one by predicate
        made.register_structure_hook(cls, _member)
    made.register_structure_hook(FrozenDict, _object)
    made.register_unstructure_hook(FrozenDict, lambda value: value)
    made.register_structure_hook(
        FrozenObserved, lambda value, _: FrozenObserved(_map(_object(value, _), made.structure, ObservedStat))
    )
    made.register_unstructure_hook(FrozenObserved, lambda value: _map(value, made.unstructure))
    made.register_structure_hook_func(lambda kind: kind == str | float | None, _text_or_number)
    made.register_structure_hook_factory(_is_tuple, lambda kind: _tuple_hook(kind, made))
    made.register_structure_hook_factory(attrs.has, lambda cls: _record_hook(cls, made))
    made.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, made, _cattrs_omit_if_default=True)
    )
    return made


def _map(values: dict[str, Any], turn: Any, *args: Any) -> Any:
    return {key: turn(value, *args) for key, value in values.items()}


def _member(value: Any, cls: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is no text")
    return cls(value)


_converter = make_converter()


def structure(value: Any, cls: type) -> Any:
    """The record of class `cls` that a JSON value stands for. Raises an `AgorioError` that says where it is wrong."""
    try:
        return _converter.structure(value, cls)
    except cattrs.BaseValidationError as exc:
        raise _own(exc) or InvalidInput("; ".join(cattrs.transform_error(exc, cls.__name__, _describe))[:1000]) from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise exc if isinstance(exc, AgorioError) else InvalidInput(f"{cls.__name__}: {exc}"[:1000]) from exc


def _own(exc: BaseException) -> AgorioError | None:
    """The refusal of a record's own check: it teaches more than the converter that passes it on."""
    if isinstance(exc, BaseExceptionGroup):
        return next((found for one in exc.exceptions if (found := _own(one)) is not None), None)
    return exc if isinstance(exc, AgorioError) else None


def _describe(exc: BaseException, kind: type | None) -> str:
    return "it is missing" if isinstance(exc, KeyError) else str(exc)


def unstructure(value: Any) -> Any:
    """A record as JSON values; fields at their defaults are left out. Raises `InvalidInput` for a wrong type."""
    return _converter.unstructure(checked(value) if isinstance(value, Operation) else value)


_RESULTS = (Challenge, Checkpoint, Passport, Registered, Resume, Rule, SessionMetadata, TaskMetadata)
WIRE: Final = Records(operations(), {cls.__name__: cls for cls in _RESULTS}, structure, unstructure)
