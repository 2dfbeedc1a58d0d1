"""The pure lanes against a model that is too simple to be wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.mailbox.lanes import Lanes
from agorio.mailbox.priority import Priority

B, N, U = Priority.BACKGROUND, Priority.NORMAL, Priority.URGENT


def fill(*entries: tuple[str, Priority, str | None]) -> Lanes[str]:
    lanes: Lanes[str] = Lanes()
    for item, priority, key in entries:
        lanes.push(item, priority, key)
    return lanes


def drain(lanes: Lanes[Any]) -> list[Any]:
    expected = list(lanes)
    popped = [lanes.pop() for _ in range(len(lanes))]
    assert popped == expected
    return popped


def listed(lanes: Lanes[Any]) -> list[Any]:
    return list(lanes)


def test_higher_first_and_in_order_within() -> None:
    lanes = fill(("b1", B, None), ("n1", N, None), ("u1", U, None), ("n2", N, None), ("u2", U, None))
    assert listed(lanes) == ["u1", "u2", "n1", "n2", "b1"]


def test_an_urgent_item_pulls_its_predecessors_with_it() -> None:
    lanes = fill(("x1", N, "x"), ("y1", N, "y"), ("x2", B, "x"), ("x3", U, "x"), ("x4", N, "x"))
    assert listed(lanes) == ["x1", "x2", "x3", "y1", "x4"]


def test_what_is_put_in_front_goes_first() -> None:
    lanes = fill(("u", U, None), ("n", N, None))
    lanes.push_front("second")
    lanes.push_front("first")
    assert [lanes.pop() for _ in range(4)] == ["first", "second", "u", "n"]
    with pytest.raises(IndexError):
        lanes.pop()


def test_evicting_takes_the_oldest_of_the_lowest_lane_and_spares_the_rest() -> None:
    lanes = fill(("n1", N, None), ("u1", U, None))
    assert lanes.evict(B) is None
    assert lanes.evict(N) == ("n1",)
    assert lanes.evict(N) is None
    assert lanes.evict(U) == ("u1",)
    lanes.push("kept", N, keep=True)
    assert lanes.evict(U) is None
    assert len(lanes) == 1


class Model:
    """Entries as `[item, key, level, entered, keep]`; the next is the one of the highest level that entered first."""

    def __init__(self) -> None:
        self.entries: list[list[Any]] = []
        self.clock = 0

    def push(self, item: int, priority: int, key: str | None, keep: bool) -> None:
        for entry in self.entries:
            if key is not None and entry[1] == key and entry[2] < priority:
                entry[2:4] = priority, self.tick()
        self.entries.append([item, key, priority, self.tick(), keep])

    def push_front(self, item: int) -> None:
        self.entries.append([item, None, 99, -self.tick(), True])

    def pop(self) -> int:
        entry = min(self.entries, key=lambda entry: (-entry[2], entry[3]))
        self.entries.remove(entry)
        return entry[0]  # type: ignore[no-any-return]

    def evict(self, priority: int) -> tuple[int] | None:
        victims = [entry for entry in self.entries if entry[2] <= priority and not entry[4]]
        if not victims:
            return None
        entry = min(victims, key=lambda entry: (entry[2], entry[3]))
        self.entries.remove(entry)
        return (entry[0],)

    def tick(self) -> int:
        self.clock += 1
        return self.clock


keys = st.sampled_from([None, "x", "y", "z"])
steps = st.one_of(
    st.tuples(st.just("push"), st.sampled_from(Priority), keys, st.booleans()),
    st.tuples(st.just("pop")),
    st.tuples(st.just("pop")),
    st.tuples(st.just("front")),
    st.tuples(st.just("evict"), st.sampled_from(Priority)),
)


@given(st.lists(steps, max_size=150))
def test_lanes_agree_with_the_model(program: list[Any]) -> None:
    lanes: Lanes[int] = Lanes()
    model = Model()
    for number, step in enumerate(program):
        match step:
            case ("push", priority, key, keep):
                lanes.push(number, priority, key, keep=keep)
                model.push(number, priority, key, keep)
            case ("front",):
                lanes.push_front(number)
                model.push_front(number)
            case ("pop",) if model.entries:
                assert lanes.pop() == model.pop()
            case ("evict", priority):
                assert lanes.evict(priority) == model.evict(priority)
        assert len(lanes) == len(model.entries)
    assert drain(lanes) == [model.pop() for _ in range(len(model.entries))]


def test_places_left_behind_are_swept_up() -> None:
    lanes: Lanes[int] = Lanes()
    for number in range(10_000):
        lanes.push(2 * number, N, number)
        lanes.push(2 * number + 1, U, number)
        assert [lanes.pop(), lanes.pop()] == [2 * number, 2 * number + 1]
    assert sum(len(lane) for lane in lanes._lanes) < 100
