"""Payloads: what JSON carries exactly goes in, as a copy that nobody can change; anything else is named by its path."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.mailbox.errors import InvalidInput
from agorio.mailbox.frozen import EMPTY, MAX_DEPTH, MAX_INT, FrozenDict, FrozenList, freeze, freeze_payload

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(-MAX_INT - 1, MAX_INT) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


def plain(value: Any) -> Any:
    """The value with tuples as the lists that JSON makes of them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@given(value=JSON)
def test_a_frozen_value_is_equal_to_a_readers_eye(value: Any) -> None:
    frozen = freeze(value)
    assert frozen == plain(value)
    assert json.loads(json.dumps(frozen)) == json.loads(json.dumps(value))
    assert freeze(frozen) is frozen
    assert copy.deepcopy(frozen) == pickle.loads(pickle.dumps(frozen)) == frozen


@given(value=st.dictionaries(TEXT, JSON, min_size=1))
def test_freezing_copies(value: dict[str, Any]) -> None:
    frozen = freeze_payload(value)
    before = copy.deepcopy(plain(value))
    for item in list(value.values()):
        if isinstance(item, list):
            item.append("later")
    value["new key of mine"] = 1
    assert frozen == before


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(x=1),
        lambda d: d.__setitem__("x", 1),
        lambda d: d.__delitem__("a"),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.clear(),
        lambda d: d.setdefault("x", 1),
        lambda d: d.__ior__({"x": 1}),
        lambda d: d["a"].append(1),
        lambda d: d["a"].extend([1]),
        lambda d: d["a"].insert(0, 1),
        lambda d: d["a"].__setitem__(0, 1),
        lambda d: d["a"].__delitem__(0),
        lambda d: d["a"].__iadd__([1]),
        lambda d: d["a"].__imul__(2),
        lambda d: d["a"].pop(),
        lambda d: d["a"].remove(1),
        lambda d: d["a"].sort(),
        lambda d: d["a"].reverse(),
        lambda d: d["a"].clear(),
    ],
)
def test_every_way_to_change_it_is_refused(change: Any) -> None:
    frozen = freeze_payload({"a": [1, 2]})
    with pytest.raises(TypeError, match="copy it"):
        change(frozen)
    assert frozen == {"a": [1, 2]}
    assert (type(frozen), type(frozen["a"])) == (FrozenDict, FrozenList)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def test_subclasses_of_scalars_lose_their_class() -> None:
    frozen = freeze({"colour": Colour.RED, "level": Level.HIGH, "flag": True})
    assert [type(frozen[key]) for key in ("colour", "level", "flag")] == [str, int, bool]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [0, {"b": object()}]}, "event_data.a[1].b"),
        ({"a": {1}}, "event_data.a"),
        ({"a": b"x"}, "event_data.a"),
        ({"a": float("nan")}, "event_data.a"),
        ({"a": -float("inf")}, "event_data.a"),
        ({"a": MAX_INT + 1}, "event_data.a"),
        ({"a": -MAX_INT - 2}, "event_data.a"),
        ({"a": "\udc80"}, "event_data.a"),
        ({"\udc80": 1}, "event_data"),
        ({1: 1}, "event_data"),
        ({None: 1}, "event_data"),
    ],
)
def test_what_json_cannot_carry_is_named_by_its_path(value: Any, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        freeze(value)
    assert caught.value.details["path"] == path


def nested(levels: int, inner: Any = "x") -> Any:
    for _ in range(levels):
        inner = {"in": inner}
    return inner


def test_depth_is_counted_to_the_last_level() -> None:
    assert freeze(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(InvalidInput, match=f"{MAX_DEPTH} levels"):
        freeze(nested(MAX_DEPTH + 1))


@given(quotes=st.integers(1, 6), levels=st.integers(1, 20))
def test_depth_is_counted_through_what_is_frozen_already(quotes: int, levels: int) -> None:
    """However it was put together, what is taken in can be read back from a log."""
    value: Any = "x"
    for _ in range(quotes):
        try:
            value = freeze(nested(levels, value))
        except InvalidInput:
            assert quotes * levels > MAX_DEPTH
            return
    assert quotes * levels <= MAX_DEPTH
    assert freeze(json.loads(json.dumps(value))) == value


@pytest.mark.parametrize("value", [None, "text", 5, ["x"], b"x"])
def test_a_payload_is_an_object(value: Any) -> None:
    with pytest.raises(InvalidInput, match="dict such as"):
        freeze_payload(value)


def test_the_empty_payload_is_shared() -> None:
    assert freeze_payload(EMPTY) is EMPTY == {}
