"""The typed edge of the control calls: every field of an operation holds what its record declares. Pure.

Both ends read it: the hub's door for everything that arrives, whatever the link, and the wire before an operation is
written as JSON, where a wrong type might be lost or changed. So a wrong type is the same `InvalidInput` with a path
over every link, and never an exception half-way through the work.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from ...mailbox.errors import InvalidInput

T = TypeVar("T")
Check = Callable[[Any, str], None]

_WORDS: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "None",
}
_CALLED = {"participants": "target"}  # what the caller knows the field as


def checked(operation: T) -> T:
    """The operation. Raises `InvalidInput` with the path of the first field that is of another type than declared."""
    cls: Any = type(operation)
    _fields(cls)(operation, "")
    return operation


@functools.cache
def _fields(cls: type) -> Check:
    """Checks the fields of a record, its parts included."""
    hints = get_type_hints(cls)
    fields = tuple((field.name, _check_of(hints[field.name])) for field in attrs.fields(cls))

    def check(record: Any, path: str) -> None:
        for name, check_field in fields:
            check_field(getattr(record, name), f"{path}{_CALLED.get(name, name)}")

    return check


@functools.cache
def _check_of(kind: Any) -> Check:
    if kind is Any:
        return lambda value, path: None
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _check_union(kind)
    if origin is Literal:
        return _check_literal(get_args(kind))
    if origin is tuple:
        return _check_tuple(kind)
    return _check_class(origin or kind)


def _check_class(cls: Any) -> Check:
    accepted: Any = (int, float) if cls is float else cls
    is_record = attrs.has(cls)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, accepted) or (isinstance(value, bool) and cls is not bool):
            raise _wrong(value, path, cls)
        if is_record:
            kind: Any = type(value)
            _fields(kind)(value, f"{path}.")

    return check


def _check_tuple(kind: Any) -> Check:
    check_item = _check_of(get_args(kind)[0])

    def check(value: Any, path: str) -> None:
        if not isinstance(value, tuple):
            raise _wrong(value, path, kind)
        for index, item in enumerate(value):
            check_item(item, f"{path}[{index}]")

    return check


def _check_literal(values: tuple[Any, ...]) -> Check:
    def check(value: Any, path: str) -> None:
        if value not in values:
            raise InvalidInput(f"{path}={value!r:.80} is unknown; use one of {', '.join(map(str, values))}", field=path)

    return check


def _check_union(kind: Any) -> Check:
    members = get_args(kind)
    checks = [_check_of(member) for member in members]

    def check(value: Any, path: str) -> None:
        for check_member, member in zip(checks, members, strict=True):
            if isinstance(value, get_origin(member) or member):
                check_member(value, path)
                return
        if float in members and type(value) is int:
            return
        raise _wrong(value, path, kind)

    return check


def _wrong(value: Any, path: str, kind: Any) -> InvalidInput:
    return InvalidInput(f"{path}={value!r:.80} is a {type(value).__name__}; it must be {_words(kind)}", field=path)


def _words(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_words(member) for member in get_args(kind))
    if get_origin(kind) is tuple:
        return f"several of which each is {_words(get_args(kind)[0])}"
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")
