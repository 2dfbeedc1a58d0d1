"""The transition graph of a workflow: who speaks first, and after each turn who is next or why it is over.

The first transition that holds decides, lower priority number first, ties in list order; where none holds, the default
target does. A graph is a frozen value: it is parsed once per session, sorted once, and every fold only walks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from ...mailbox.errors import GraphError
from .graph_codec import GraphRegistry, agents_in, map_agents, unstructure
from .graph_conditions import Always, AtStep, Condition, Moment, TurnsTaken
from .graph_targets import AgentTarget, Decision, RoundRobinTarget, Target, TerminateTarget


@attrs.frozen
class Transition:
    """When it holds, who is next."""

    when: Condition
    """The condition."""
    then: Target
    """Who is next."""
    priority: int = 0
    """Lower numbers are tried first, ties in list order."""


def _transitions(value: Iterable[Transition]) -> tuple[Transition, ...]:
    return tuple(value)


def _at_least_one(instance: Any, field: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise GraphError(f"max_turns is {value}; it must be at least 1, or None for no limit", path="max_turns")


@attrs.frozen
class TransitionGraph:
    """Who speaks when in a workflow."""

    initial_speaker: str
    """Who speaks first."""
    transitions: tuple[Transition, ...] = attrs.field(default=(), converter=_transitions)
    """What is tried after each turn."""
    default_target: Target = TerminateTarget()
    """What holds where no transition does."""
    max_turns: int | None = attrs.field(default=None, validator=_at_least_one)
    """Close after so many turns; None is no limit."""
    _sorted: tuple[Transition, ...] = attrs.field(init=False, eq=False, repr=False)

    @_sorted.default
    def _sort(self) -> tuple[Transition, ...]:
        return tuple(sorted(self.transitions, key=lambda transition: transition.priority))

    def decide(self, moment: Moment) -> Decision:
        """Who is next after a turn, or the reason why it is over."""
        for transition in self._sorted:
            if transition.when.holds(moment):
                return transition.then.choose(moment)
        return self.default_target.choose(moment)

    def agents(self) -> Iterator[tuple[str, str]]:
        """Every agent id that the graph names, with the path at which it does."""
        yield "initial_speaker", self.initial_speaker
        for index, transition in enumerate(self.transitions):
            yield from agents_in(transition.when, f"transitions[{index}].when")
            yield from agents_in(transition.then, f"transitions[{index}].then")
        yield from agents_in(self.default_target, "default_target")

    def check_participants(self, participants: Iterable[str]) -> None:
        """Refuse a graph that names somebody who is not in the session: `GraphError` with the path."""
        present = set(participants)
        for path, agent_id in self.agents():
            if agent_id not in present:
                raise GraphError(f"{path}: {agent_id!r} is no participant of the session", path=path, agent=agent_id)

    def renamed(self, change: Callable[[str, str], str]) -> TransitionGraph:
        """The graph with every agent `change(path, agent)`."""
        transitions = [
            attrs.evolve(
                transition,
                when=map_agents(transition.when, f"transitions[{index}].when", change),
                then=map_agents(transition.then, f"transitions[{index}].then", change),
            )
            for index, transition in enumerate(self.transitions)
        ]
        return attrs.evolve(
            self,
            initial_speaker=change("initial_speaker", self.initial_speaker),
            transitions=transitions,
            default_target=map_agents(self.default_target, "default_target", change),
        )

    def to_dict(self) -> dict[str, Any]:
        """The graph as plain JSON data, for `knobs={"graph": graph.to_dict()}`."""
        data: dict[str, Any] = unstructure(self)
        return data

    def dumps(self) -> str:
        """The graph as JSON text with sorted keys: equal graphs, equal texts."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], registry: GraphRegistry | None = None) -> TransitionGraph:
        """The graph that `data` spells. Nothing is coerced; `GraphError.details["path"]` says what is wrong."""
        return (registry or _BUILT_IN).structure(data, cls)

    @classmethod
    def loads(cls, data: str | Mapping[str, Any], registry: GraphRegistry | None = None) -> TransitionGraph:
        """The graph from JSON text or from plain data."""
        if not isinstance(data, str):
            return cls.from_dict(data, registry)
        try:
            plain = json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise GraphError(f"graph: is no JSON: {exc}", path="") from exc
        return cls.from_dict(plain, registry)

    @classmethod
    def sequence(cls, ids: Iterable[str]) -> TransitionGraph:
        """Each step once, in line; one agent may stand in it several times. Closes as `sequence_complete`."""
        line = _checked_ids(ids, "ids")
        return cls(
            initial_speaker=line[0],
            transitions=tuple(
                Transition(AtStep(place), AgentTarget(agent_id)) for place, agent_id in enumerate(line) if place
            ),
            default_target=TerminateTarget("sequence_complete"),
            max_turns=len(line),
        )

    @classmethod
    def round_robin(cls, ids: Iterable[str], max_turns: int | None = None) -> TransitionGraph:
        """Round and round the given list, not the session's. Closes after `max_turns` as `round_robin_complete`."""
        ring = _checked_ids(ids, "ids")
        end = () if max_turns is None else (Transition(TurnsTaken(max_turns), TerminateTarget("round_robin_complete")),)
        return cls(
            initial_speaker=ring[0],
            transitions=(*end, Transition(Always(), RoundRobinTarget(ring))),
            default_target=TerminateTarget("round_robin_complete"),
            max_turns=max_turns,
        )


def _checked_ids(ids: Iterable[str], path: str) -> tuple[str, ...]:
    line = () if isinstance(ids, str) else tuple(ids)
    if not line or not all(isinstance(agent_id, str) and agent_id for agent_id in line):
        raise GraphError(f"{path}: must be a list of at least one agent id, not {ids!r}", path=path)
    return line


def resolve_names(
    graph: Mapping[str, Any], resolve: Callable[[str], str], registry: GraphRegistry | None = None
) -> dict[str, Any]:
    """The graph's plain data with every agent's name replaced by its id.

    `resolve` takes a name or an id, returns the id and raises `LookupError` for a stranger, which becomes a
    `GraphError` with the path. Reading the graph for it checks the rest as well.
    """

    def change(path: str, agent: str) -> str:
        try:
            return resolve(agent)
        except LookupError as exc:
            raise GraphError(f"{path}: nobody is known as {agent!r}", path=path, agent=agent) from exc

    return TransitionGraph.loads(graph, registry).renamed(change).to_dict()


_BUILT_IN = GraphRegistry()
