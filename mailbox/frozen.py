"""Plain JSON values that nobody can change: what an envelope carries.

One pass checks, copies and freezes a payload, so that the sender's later edits, or one recipient's, reach nobody else.
The frozen containers are a `dict` and a `list` to every reader (`==`, `json`, `isinstance`) and refuse every writer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from .errors import InvalidInput

MAX_DEPTH = 64
MAX_INT = 2**63 - 1

_SCALARS = (type(None), bool)


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("an envelope's payload cannot be changed; copy it with dict(...) or list(...) first")


class FrozenDict(dict[str, Any]):
    """A dict of JSON values that refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (dict(self),))

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenDict:
        return self


class FrozenList(list[Any]):
    """A list of JSON values that refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenList, (list(self),))

    def __copy__(self) -> FrozenList:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenList:
        return self


EMPTY = FrozenDict()


def freeze(value: Any, path: str = "event_data", depth: int = 0) -> Any:
    """A frozen copy of a JSON value; `InvalidInput` names the path of what JSON cannot carry exactly."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else checked_text(value, path)
    if kind in _SCALARS:
        return value
    if kind is FrozenDict or kind is FrozenList:
        if depth:
            _check_height(value, path, depth)
        return value
    if kind is int or kind is float:
        return _checked_number(value, path)
    _check_depth(path, depth)
    return _freeze_container(value, path, depth)


def _check_depth(path: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise InvalidInput(f"{path} is nested deeper than {MAX_DEPTH} levels; quote less of what was said", path=path)


def _check_height(value: Any, path: str, depth: int) -> None:
    """A payload that quotes a payload is not copied again, but its depth counts: no reader would take the whole."""
    _check_depth(path, depth)
    for item in value.values() if type(value) is FrozenDict else value:
        if type(item) is FrozenDict or type(item) is FrozenList:
            _check_height(item, path, depth + 1)


def _freeze_container(value: Any, path: str, depth: int) -> Any:
    if type(value) is dict or isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidInput(f"{path} has a key of type {type(key).__name__}; JSON keys are strings", path=path)
            if not key.isascii():
                checked_text(key, path)
            is_plain = type(item) is str and item.isascii()  # most of what is said; a path is built for the rest only
            items[key] = item if is_plain else freeze(item, f"{path}.{key}", depth + 1)
        return FrozenDict(items)
    if isinstance(value, list | tuple):
        return FrozenList([freeze(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)])
    return _freeze_subclass(value, path)


def _freeze_subclass(value: Any, path: str) -> Any:
    """Subclasses of the scalars (an `IntEnum`, a `StrEnum`) lose their class, as they would on the wire."""
    if isinstance(value, str):
        return checked_text(str.__str__(value), path)
    if isinstance(value, int):
        return _checked_number(int(value), path)
    if isinstance(value, float):
        return _checked_number(float(value), path)
    raise InvalidInput(
        f"{path} is a {type(value).__name__}, which JSON cannot carry; send text, numbers, lists and dicts", path=path
    )


def _checked_number(value: float, path: str) -> float:
    if isinstance(value, int):
        if not -MAX_INT - 1 <= value <= MAX_INT:
            raise InvalidInput(f"{path} is an integer outside 64 bits; send it as a string", path=path)
    elif not math.isfinite(value):
        raise InvalidInput(f"{path} is {value}, which JSON cannot carry; send null or a string", path=path)
    return value


def checked_text(value: str, path: str) -> str:
    """The text, unless it holds what UTF-8 cannot carry."""
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"{path} has a lone surrogate at {exc.start}; it is no valid text", path=path) from exc
    return value


def freeze_payload(value: Any) -> FrozenDict:
    """The converter of `Envelope.event_data`: a frozen JSON object."""
    if type(value) is FrozenDict:
        return value
    if type(value) is dict:
        if not value:
            return EMPTY
        return _freeze_container(value, "event_data", 0)  # type: ignore[no-any-return]
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"event_data is a {type(value).__name__}; it must be a dict such as {{'text': 'hello'}}", path="event_data"
        )
    frozen: FrozenDict = freeze(value)
    return frozen
