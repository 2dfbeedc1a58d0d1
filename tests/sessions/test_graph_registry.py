"""Conditions and targets of the user's own."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest

from agorio.actors.sessions.graph import Transition, TransitionGraph, resolve_names
from agorio.actors.sessions.graph_codec import GraphRegistry
from agorio.actors.sessions.graph_conditions import Always, Condition, Moment, Not
from agorio.actors.sessions.graph_targets import Decision, StayTarget, Target
from agorio.mailbox.errors import GraphError, InvalidInput


@attrs.frozen
class Keyword(Condition):
    """Holds after a text with a word in it."""

    wire_name: ClassVar[str] = "keyword"
    word: str

    def holds(self, moment: Moment) -> bool:
        return self.word in moment.text


@attrs.frozen
class Shortest(Target):
    """Whoever's id is shortest, of some."""

    wire_name: ClassVar[str] = "shortest"
    agent_fields: ClassVar[tuple[str, ...]] = ("among",)
    among: tuple[str, ...]

    def choose(self, moment: Moment) -> Decision:
        return Decision(min(self.among, key=len))


def test_types_of_ones_own_are_as_good_as_the_built_in_ones() -> None:
    registry = GraphRegistry(Keyword, Shortest)
    graph = TransitionGraph("a", [Transition(Not(Keyword("no")), Shortest(("bb", "c")))])
    assert TransitionGraph.loads(graph.dumps(), registry) == graph
    assert graph.decide(Moment("a", ("a", "bb", "c"), "a", text="yes")) == Decision("c")
    assert [agent for _, agent in graph.agents()] == ["a", "bb", "c"]
    renamed = resolve_names(graph.to_dict(), str.upper, registry)
    assert renamed["transitions"][0]["then"]["args"] == {"among": ["BB", "C"]}


def test_one_registry_does_not_know_another_ones_types() -> None:
    GraphRegistry(Keyword)
    data = TransitionGraph("a", [Transition(Keyword("x"), StayTarget())]).to_dict()
    with pytest.raises(GraphError, match="no condition named 'keyword' is registered"):
        TransitionGraph.from_dict(data)


def test_what_cannot_be_registered() -> None:
    class Mutable(Condition):
        wire_name: ClassVar[str] = "mutable"

    @attrs.frozen
    class Nameless(Condition):
        pass

    registry = GraphRegistry(Keyword)
    for bad in (Mutable, Nameless, Condition, int, Keyword, Always):
        with pytest.raises(InvalidInput):
            registry.register(bad)  # type: ignore[type-var]


def test_register_is_a_decorator() -> None:
    registry = GraphRegistry()
    assert registry.register(Keyword) is Keyword
    assert "keyword" in registry.names(Condition)
    assert "keyword" not in registry.names(Target)
