"""The typed edge of the store: records to JSON and back.

cattrs builds the converters, msgspec writes the JSON. Structuring is strict: cattrs would turn `null` into the text
"None" and a text into a tuple of its letters. Fields that a newer hub wrote are kept in `extra` where the record has
one.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import cattrs
import msgspec
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from ..actors.sessions.identity import AuthBlock, FrozenObserved, ObservedStat, Passport, Resume
from ..actors.sessions.metadata import SessionSetup
from ..actors.sessions.rule import Rule
from ..actors.sessions.tasks import TaskState
from ..mailbox.codec import encode_exactly
from ..mailbox.errors import QuarantinedError
from ..mailbox.frozen import FrozenDict, freeze_payload

T = TypeVar("T")

_SCALARS: dict[type, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}


def _exactly(kinds: tuple[type, ...]) -> Any:
    def structure(value: Any, cls: type) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and cls is not bool):
            raise ValueError(f"{value!r} is no {cls.__name__}")
        return value

    return structure


def _union(value: Any, _: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise ValueError(f"{value!r} is neither a text nor a number nor null")
    return value


def _texts(value: Any, _: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{value!r} is no list of texts")
    return tuple(value)


def _observed(value: Any, _: Any) -> FrozenObserved:
    return FrozenObserved({str(key): converter.structure(stat, ObservedStat) for key, stat in dict(value).items()})


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter(unstruct_collection_overrides={tuple: list}, detailed_validation=False)
    for cls, kinds in _SCALARS.items():
        made.register_structure_hook(cls, _exactly(kinds))
    made.register_structure_hook(TaskState, lambda value, _: TaskState(value))
    made.register_structure_hook(FrozenDict, lambda value, _: freeze_payload(value))
    made.register_unstructure_hook(FrozenDict, lambda value: value)
    made.register_structure_hook(FrozenObserved, _observed)
    made.register_unstructure_hook(FrozenObserved, lambda value: {k: made.unstructure(v) for k, v in value.items()})
    made.register_structure_hook_func(lambda kind: kind == str | float | None, _union)
    made.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _texts)
    made.register_structure_hook_factory(attrs.has, lambda cls: _keeping_unknown(cls, made))
    made.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, made, _cattrs_omit_if_default=True)
    )
    _share_expectations(made)
    return made


def _share_expectations(made: cattrs.Converter) -> None:
    """Most sessions expect what their manifest says; that is not written twice. No expectations at all are written."""
    unstructure, structure = made.get_unstructure_hook(SessionSetup), made.get_structure_hook(SessionSetup)

    def write(setup: SessionSetup) -> dict[str, Any]:
        fields: dict[str, Any] = unstructure(setup)
        own = fields.pop("expectations", [])
        return fields if setup.expectations == setup.manifest.expectations else {**fields, "expectations": own}

    def read(value: Any, cls: Any) -> SessionSetup:
        setup: SessionSetup = structure(value, cls)
        return setup if "expectations" in value else attrs.evolve(setup, expectations=setup.manifest.expectations)

    made.register_unstructure_hook(SessionSetup, write)
    made.register_structure_hook(SessionSetup, read)


def _keeping_unknown(cls: type, made: cattrs.Converter) -> Any:
    structure: Any = make_dict_structure_fn(cls, made)
    names = {field.name for field in attrs.fields(cls)}

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is no object of {cls.__name__}")
        record = structure(value, cls)
        unknown = {key: item for key, item in value.items() if key not in names}
        if unknown and "extra" in names:
            record = attrs.evolve(record, extra={**record.extra, **unknown})
        return record

    return hook


converter = _make_converter()


@attrs.frozen
class StoredAgent:
    """Everything that the hub keeps of one agent."""

    passport: Passport
    """Without the credentials' claim."""
    resume: Resume = Resume()
    """Claims and track record."""
    rule: Rule = Rule()
    """Governance."""
    skill_md: str | None = None
    """Skill markdown."""
    extra: FrozenDict = attrs.field(factory=FrozenDict, converter=freeze_payload)
    """Fields of a newer hub."""


@attrs.frozen
class StoredSession:
    """What the store keeps of a session besides its log."""

    setup: SessionSetup
    """What was fixed at opening."""
    state: str = "open"
    """`open`, `closed` or `expired`."""


def without_claim(passport: Passport) -> Passport:
    """The passport as it may be stored and shown."""
    if not passport.auth.claim:
        return passport
    return attrs.evolve(passport, auth=AuthBlock(passport.auth.scheme))


def to_bytes(record: Any) -> bytes:
    """A record as JSON; fields at their defaults are left out."""
    return encode_exactly(converter.unstructure(record))


def from_bytes(body: bytes, cls: type[T]) -> T:
    """The record that `body` holds. Raises `QuarantinedError` naming the class and what is wrong."""
    try:
        return converter.structure(msgspec.json.decode(body), cls)
    except Exception as exc:
        raise QuarantinedError(f"a stored {cls.__name__} is unreadable: {exc}") from exc


__all__ = ["SessionSetup", "StoredAgent", "StoredSession", "converter", "from_bytes", "to_bytes", "without_claim"]
