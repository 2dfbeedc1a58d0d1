"""When a transition of a workflow applies: conditions over the moment just after somebody's turn.

Conditions are frozen values, so a graph is data. A subclass with a `wire_name` of its own, handed to a
`GraphRegistry`, is as good as the ones here; it must answer from the moment alone, or a replay would take another way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import attrs

from ...mailbox.errors import GraphError
from ...mailbox.frozen import EMPTY, FrozenDict, freeze


@attrs.frozen
class Moment:
    """What a condition or a target may look at: the workflow just after a turn."""

    speaker: str
    """Whose turn it was, whether it spoke or was passed over."""
    order: tuple[str, ...]
    """The participants in order, the creator first."""
    initiator: str
    """Who opened the session."""
    turns: int = 0
    """Turns taken, this one included."""
    step: int = 0
    """Turns taken or passed over, this one included."""
    tool: str | None = None
    """The routing tool that the packet names."""
    text: str = ""
    """What was said."""
    context: FrozenDict = EMPTY
    """The context variables, with the packet's own updates in them."""


@attrs.frozen
class Condition:
    """The base of all conditions."""

    wire_name: ClassVar[str] = ""
    agent_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that hold agent ids; they must name participants."""

    def holds(self, moment: Moment) -> bool:
        """Whether the transition applies. Pure: the same moment, the same answer."""
        raise NotImplementedError


@attrs.frozen
class Always(Condition):
    """Holds at every moment."""

    wire_name: ClassVar[str] = "always"

    def holds(self, moment: Moment) -> bool:
        return True


@attrs.frozen
class FromSpeaker(Condition):
    """Holds after a turn of one agent."""

    wire_name: ClassVar[str] = "from_speaker"
    agent_fields: ClassVar[tuple[str, ...]] = ("agent_id",)
    agent_id: str
    """Whose turn it was."""

    def holds(self, moment: Moment) -> bool:
        return moment.speaker == self.agent_id


@attrs.frozen
class ToolCalled(Condition):
    """Holds after a packet that names a routing tool."""

    wire_name: ClassVar[str] = "tool_called"
    tool_name: str
    """The tool."""

    def holds(self, moment: Moment) -> bool:
        return moment.tool == self.tool_name


@attrs.frozen
class AtStep(Condition):
    """Holds after the n-th turn, counting those passed over: a position in a line where one agent may stand twice."""

    wire_name: ClassVar[str] = "at_step"
    step: int
    """The position, from 1."""

    def holds(self, moment: Moment) -> bool:
        return moment.step == self.step


@attrs.frozen
class TurnsTaken(Condition):
    """Holds once so many turns were taken; those passed over do not count."""

    wire_name: ClassVar[str] = "turns_taken"
    turns: int
    """How many at least."""

    def holds(self, moment: Moment) -> bool:
        return moment.turns >= self.turns


def _frozen_value(value: Any) -> Any:
    return freeze(value, "value")


@attrs.frozen
class ContextEquals(Condition):
    """Holds while a context variable has a value; a missing one counts as None, and True is not 1."""

    wire_name: ClassVar[str] = "context_equals"
    key: str
    """The variable."""
    value: Any = attrs.field(default=None, converter=_frozen_value)
    """The value, any JSON."""

    def holds(self, moment: Moment) -> bool:
        return same_json(moment.context.get(self.key), self.value)


def same_json(left: Any, right: Any) -> bool:
    """Equality as JSON sees it: Python's, but a boolean equals no number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    return bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def judge(left: Any, right: Any) -> bool:
        return _comparable(left, right) and compare(left, right)

    return judge


def _comparable(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return numbers or (isinstance(left, str) and isinstance(right, str))


def _contains(left: Any, right: Any) -> bool:
    if isinstance(left, str):
        return isinstance(right, str) and right in left
    if isinstance(left, dict):
        return isinstance(right, str) and right in left
    return isinstance(left, list) and any(same_json(item, right) for item in left)


def _differs(left: Any, right: Any) -> bool:
    return not same_json(left, right)


def _is_in(left: Any, right: Any) -> bool:
    return _contains(right, left)


COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": same_json,
    "!=": _differs,
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _is_in,
    "contains": _contains,
}


def _known_op(instance: Any, field: Any, value: str) -> None:
    if value not in COMPARISONS:
        raise GraphError(f"op {value!r} is unknown; use one of {', '.join(COMPARISONS)}", path="op")


@attrs.frozen
class ContextCompare(Condition):
    """Holds while a context variable stands in a relation to a value; what cannot be ordered does not hold."""

    wire_name: ClassVar[str] = "context_compare"
    key: str
    """The variable."""
    op: str = attrs.field(validator=_known_op)
    """`==`, `!=`, `<`, `<=`, `>`, `>=`, `in` (the variable is in the value) or `contains` (the other way round)."""
    value: Any = attrs.field(default=None, converter=_frozen_value)
    """The value, any JSON."""

    def holds(self, moment: Moment) -> bool:
        return COMPARISONS[self.op](moment.context.get(self.key), self.value)


def _conditions(value: Iterable[Condition]) -> tuple[Condition, ...]:
    return tuple(value)


@attrs.frozen
class AllOf(Condition):
    """Holds where all of its conditions do; of none, always."""

    wire_name: ClassVar[str] = "all_of"
    conditions: tuple[Condition, ...] = attrs.field(converter=_conditions)
    """The conditions, given as one list or one by one."""

    def __init__(self, conditions: Condition | Iterable[Condition], *more: Condition) -> None:
        first = (conditions,) if isinstance(conditions, Condition) else conditions
        self.__attrs_init__((*first, *more))  # type: ignore[attr-defined]  # attrs makes it

    def holds(self, moment: Moment) -> bool:
        return all(condition.holds(moment) for condition in self.conditions)


@attrs.frozen
class AnyOf(Condition):
    """Holds where one of its conditions does; of none, never."""

    wire_name: ClassVar[str] = "any_of"
    conditions: tuple[Condition, ...] = attrs.field(converter=_conditions)
    """The conditions, given as one list or one by one."""

    def __init__(self, conditions: Condition | Iterable[Condition], *more: Condition) -> None:
        first = (conditions,) if isinstance(conditions, Condition) else conditions
        self.__attrs_init__((*first, *more))  # type: ignore[attr-defined]  # attrs makes it

    def holds(self, moment: Moment) -> bool:
        return any(condition.holds(moment) for condition in self.conditions)


@attrs.frozen
class Not(Condition):
    """Holds where its condition does not."""

    wire_name: ClassVar[str] = "not"
    condition: Condition
    """The condition."""

    def holds(self, moment: Moment) -> bool:
        return not self.condition.holds(moment)


BUILT_IN_CONDITIONS: tuple[type[Condition], ...] = (
    Always,
    FromSpeaker,
    ToolCalled,
    AtStep,
    TurnsTaken,
    ContextEquals,
    ContextCompare,
    AllOf,
    AnyOf,
    Not,
)
