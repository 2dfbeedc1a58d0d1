"""The transition graph: decisions, the strict codec and names."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.sessions.graph import Transition, TransitionGraph, resolve_names
from agorio.actors.sessions.graph_conditions import (
    COMPARISONS,
    AllOf,
    Always,
    AnyOf,
    AtStep,
    Condition,
    ContextCompare,
    ContextEquals,
    FromSpeaker,
    Moment,
    Not,
    ToolCalled,
    TurnsTaken,
)
from agorio.actors.sessions.graph_targets import (
    AgentTarget,
    Decision,
    RevertToInitiatorTarget,
    RoundRobinTarget,
    StayTarget,
    Target,
    TerminateTarget,
)
from agorio.mailbox.errors import GraphError
from agorio.mailbox.frozen import FrozenDict

ORDER = ("a", "b", "c")


def moment(speaker: str = "a", **changes: Any) -> Moment:
    return Moment(speaker=speaker, order=ORDER, initiator="a", **changes)


def with_context(**variables: Any) -> Moment:
    return moment(context=FrozenDict(variables))


@pytest.mark.parametrize(
    ("condition", "at", "holds"),
    [
        (Always(), moment(), True),
        (FromSpeaker("a"), moment("a"), True),
        (FromSpeaker("a"), moment("b"), False),
        (ToolCalled("t"), moment(tool="t"), True),
        (ToolCalled("t"), moment(), False),
        (AtStep(2), moment(step=2), True),
        (AtStep(2), moment(step=3), False),
        (TurnsTaken(2), moment(turns=1), False),
        (TurnsTaken(2), moment(turns=3), True),
        (ContextEquals("k", 1), with_context(k=1), True),
        (ContextEquals("k", 1), with_context(k=1.0), True),
        (ContextEquals("k", 1), with_context(k=True), False),
        (ContextEquals("k", False), with_context(k=0), False),
        (ContextEquals("k", [{"x": 1}]), with_context(k=[{"x": 1}]), True),
        (ContextEquals("k", [{"x": 1}]), with_context(k=[{"x": True}]), False),
        (ContextEquals("k", None), with_context(), True),
        (AllOf([]), moment(), True),
        (AnyOf([]), moment(), False),
        (AllOf([Always(), FromSpeaker("b")]), moment(), False),
        (AnyOf([FromSpeaker("b"), Always()]), moment(), True),
        (Not(Always()), moment(), False),
        (ContextCompare("k", "==", 2), with_context(k=2), True),
        (ContextCompare("k", "!=", 2), with_context(), True),
        (ContextCompare("k", "<", 2), with_context(k=1), True),
        (ContextCompare("k", "<=", 2), with_context(k=2), True),
        (ContextCompare("k", ">", 2), with_context(k=2), False),
        (ContextCompare("k", ">=", 2), with_context(k=2.5), True),
        (ContextCompare("k", "<", "b"), with_context(k="a"), True),
        (ContextCompare("k", "<", 2), with_context(), False),
        (ContextCompare("k", "<", 2), with_context(k="1"), False),
        (ContextCompare("k", "<", 2), with_context(k=True), False),
        (ContextCompare("k", "in", ["x", "y"]), with_context(k="x"), True),
        (ContextCompare("k", "in", "xyz"), with_context(k="y"), True),
        (ContextCompare("k", "in", "xyz"), with_context(k=1), False),
        (ContextCompare("k", "contains", 1), with_context(k=[True]), False),
        (ContextCompare("k", "contains", "x"), with_context(k={"x": 0}), True),
        (ContextCompare("k", "contains", "x"), with_context(), False),
    ],
)
def test_condition(condition: Condition, at: Moment, holds: bool) -> None:
    assert condition.holds(at) is holds


@pytest.mark.parametrize(
    ("target", "at", "decision"),
    [
        (AgentTarget("b"), moment(), Decision("b")),
        (StayTarget(), moment("c"), Decision("c")),
        (RevertToInitiatorTarget(), moment("c"), Decision("a")),
        (TerminateTarget(), moment(), Decision(None, "after_work")),
        (TerminateTarget("done"), moment(), Decision(None, "done")),
        (RoundRobinTarget(), moment("a"), Decision("b")),
        (RoundRobinTarget(), moment("c"), Decision("a")),
        (RoundRobinTarget(), moment("stranger"), Decision("a")),
        (RoundRobinTarget(("c", "b")), moment("c"), Decision("b")),
        (RoundRobinTarget(), Moment("a", (), "a"), Decision(None, "no_participants")),
        (RoundRobinTarget(("a", "b", "a", "c")), moment("a", step=3), Decision("c")),
    ],
)
def test_target(target: Target, at: Moment, decision: Decision) -> None:
    assert target.choose(at) == decision


def test_lower_priority_number_goes_first_and_ties_keep_their_order() -> None:
    graph = TransitionGraph(
        "a",
        [
            Transition(Always(), TerminateTarget("late"), 5),
            Transition(Always(), TerminateTarget("first of the tie"), 1),
            Transition(Always(), TerminateTarget("second of the tie"), 1),
            Transition(Not(Always()), TerminateTarget("never"), 0),
        ],
    )
    assert graph.decide(moment()) == Decision(None, "first of the tie")
    assert [t.priority for t in graph.transitions] == [5, 1, 1, 0]


def test_a_graph_without_a_match_takes_its_default() -> None:
    assert TransitionGraph("a").decide(moment()) == Decision(None, "after_work")
    assert TransitionGraph("a", default_target=StayTarget()).decide(moment("b")) == Decision("b")


def test_the_wire_shape() -> None:
    graph = TransitionGraph("a", [Transition(ContextEquals("k", [1]), AgentTarget("b"), 2)], max_turns=3)
    assert graph.to_dict() == {
        "initial_speaker": "a",
        "transitions": [
            {
                "when": {"name": "context_equals", "args": {"key": "k", "value": [1]}},
                "then": {"name": "agent", "args": {"agent_id": "b"}},
                "priority": 2,
            }
        ],
        "default_target": {"name": "terminate", "args": {"reason": "after_work"}},
        "max_turns": 3,
    }


def test_args_and_defaults_may_be_left_out() -> None:
    data = {"initial_speaker": "a", "transitions": [{"when": {"name": "always"}, "then": {"name": "stay"}}]}
    assert TransitionGraph.from_dict(data) == TransitionGraph("a", [Transition(Always(), StayTarget())])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text("ab:é", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)
AGENT = st.sampled_from(ORDER)
KEY = st.sampled_from(["x", "y"])
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    st.just(Always())
    | st.builds(FromSpeaker, AGENT)
    | st.builds(ToolCalled, KEY)
    | st.builds(AtStep, st.integers(0, 9))
    | st.builds(TurnsTaken, st.integers(0, 9))
    | st.builds(ContextEquals, KEY, JSON)
    | st.builds(ContextCompare, KEY, st.sampled_from(list(COMPARISONS)), JSON),
    lambda inner: (
        st.builds(AllOf, st.lists(inner, max_size=2))
        | st.builds(AnyOf, st.lists(inner, max_size=2))
        | st.builds(Not, inner)
    ),
    max_leaves=4,
)
TARGETS: st.SearchStrategy[Target] = (
    st.builds(AgentTarget, AGENT)
    | st.builds(RoundRobinTarget, st.lists(AGENT, max_size=3))
    | st.just(StayTarget())
    | st.just(RevertToInitiatorTarget())
    | st.builds(TerminateTarget, KEY)
)
GRAPHS = st.builds(
    TransitionGraph,
    AGENT,
    st.lists(st.builds(Transition, CONDITIONS, TARGETS, st.integers(-3, 3)), max_size=4),
    TARGETS,
    st.none() | st.integers(1, 20),
)


@given(GRAPHS)
def test_every_graph_survives_the_round_trip(graph: TransitionGraph) -> None:
    data = graph.to_dict()
    assert TransitionGraph.from_dict(data) == graph
    assert TransitionGraph.loads(graph.dumps()).dumps() == graph.dumps()
    assert json.loads(json.dumps(data)) == data
    assert pickle.loads(pickle.dumps(graph)) == graph


@given(GRAPHS, st.builds(moment, AGENT, context=st.builds(FrozenDict, st.dictionaries(KEY, JSON))))
def test_deciding_never_raises(graph: TransitionGraph, at: Moment) -> None:
    decision = graph.decide(at)
    assert decision.speaker in ORDER or decision.reason


def spoiled(change: Callable[[Any], object]) -> dict[str, Any]:
    graph = TransitionGraph(
        "a",
        [
            Transition(Always(), AgentTarget("b")),
            Transition(AllOf([Not(ContextEquals("k", 1))]), RoundRobinTarget(("a", "b"))),
            Transition(ContextCompare("k", "<", 1), StayTarget()),
        ],
    )
    data = graph.to_dict()
    change(data)
    return data


FAULTS: list[tuple[Callable[[Any], object], str]] = [
    (lambda d: d.pop("initial_speaker"), "initial_speaker"),
    (lambda d: d.update(initial_speaker=None), "initial_speaker"),
    (lambda d: d.update(initial_speaker=7), "initial_speaker"),
    (lambda d: d.update(surplus=1), "surplus"),
    (lambda d: d.update(max_turns=True), "max_turns"),
    (lambda d: d.update(max_turns="3"), "max_turns"),
    (lambda d: d.update(max_turns=0), "max_turns"),
    (lambda d: d.update(max_turns=2**70), "max_turns"),
    (lambda d: d.update(transitions="abc"), "transitions"),
    (lambda d: d.update(transitions={"a": 1}), "transitions"),
    (lambda d: d.update(transitions=[3]), "transitions[0]"),
    (lambda d: d["transitions"][0].pop("when"), "transitions[0].when"),
    (lambda d: d["transitions"][0].update(priority=1.0), "transitions[0].priority"),
    (lambda d: d["transitions"][2]["when"]["args"].pop("key"), "transitions[2].when.args.key"),
    (lambda d: d["transitions"][2]["when"]["args"].update(op="~"), "transitions[2].when.args.op"),
    (lambda d: d["transitions"][2]["when"]["args"].update(more=1), "transitions[2].when.args.more"),
    (lambda d: d["transitions"][2]["when"].update(more=1), "transitions[2].when.more"),
    (lambda d: d["transitions"][0]["when"].update(name="zap"), "transitions[0].when.name"),
    (lambda d: d["transitions"][0]["then"].update(name="always"), "transitions[0].then.name"),
    (lambda d: d["transitions"][0]["then"]["args"].update(agent_id=["b"]), "transitions[0].then.args.agent_id"),
    (lambda d: d["transitions"][1]["then"]["args"].update(order="ab"), "transitions[1].then.args.order"),
    (lambda d: d["transitions"][1]["then"]["args"].update(order=["a", 1]), "transitions[1].then.args.order[1]"),
    (
        lambda d: d["transitions"][1]["when"]["args"]["conditions"][0]["args"]["condition"]["args"].update(key=1),
        "transitions[1].when.args.conditions[0].args.condition.args.key",
    ),
    (lambda d: d.update(default_target=None), "default_target"),
    (lambda d: d.update(default_target={"name": "terminate", "args": []}), "default_target.args"),
    (lambda d: d.update(default_target={"name": "terminate", "args": {"reason": None}}), "default_target.args.reason"),
]


@pytest.mark.parametrize(("change", "path"), FAULTS, ids=[path + str(i) for i, (_, path) in enumerate(FAULTS)])
def test_a_fault_is_refused_with_its_path(change: Callable[[Any], object], path: str) -> None:
    with pytest.raises(GraphError) as caught:
        TransitionGraph.from_dict(spoiled(change))
    assert caught.value.details["path"] == path
    assert path in str(caught.value)


@pytest.mark.parametrize("data", [None, 3, [], "", "[", "{}", "null", "[" * 5000, {"initial_speaker": object()}])
def test_what_is_no_graph_at_all_is_a_graph_error(data: Any) -> None:
    with pytest.raises(GraphError):
        TransitionGraph.loads(data)


def test_deeply_nested_conditions_are_refused() -> None:
    when: dict[str, Any] = {"name": "always", "args": {}}
    for _ in range(100):
        when = {"name": "not", "args": {"condition": when}}
    with pytest.raises(GraphError):
        TransitionGraph.from_dict(
            {"initial_speaker": "a", "transitions": [{"when": when, "then": {"name": "stay", "args": {}}}]}
        )


def test_a_later_change_of_the_data_reaches_no_graph() -> None:
    data = TransitionGraph("a", [Transition(ContextEquals("k", {"x": [1]}), StayTarget())]).to_dict()
    graph = TransitionGraph.from_dict(data)
    data["transitions"][0]["when"]["args"]["value"]["x"].append(2)
    assert graph.decide(with_context(k={"x": [1]})) == Decision("a")


@pytest.mark.parametrize(
    ("graph", "path"),
    [
        (TransitionGraph("ghost"), "initial_speaker"),
        (TransitionGraph("a", default_target=AgentTarget("ghost")), "default_target.args.agent_id"),
        (TransitionGraph("a", [Transition(FromSpeaker("ghost"), StayTarget())]), "transitions[0].when.args.agent_id"),
        (TransitionGraph.round_robin(["a", "ghost"]), "transitions[0].then.args.order[1]"),
        (
            TransitionGraph("a", [Transition(AnyOf([Always(), Not(FromSpeaker("ghost"))]), StayTarget())]),
            "transitions[0].when.args.conditions[1].args.condition.args.agent_id",
        ),
    ],
)
def test_a_ghost_is_refused_with_its_path(graph: TransitionGraph, path: str) -> None:
    with pytest.raises(GraphError) as caught:
        graph.check_participants(ORDER)
    assert caught.value.details["path"] == path


def test_names_become_ids_wherever_a_graph_names_an_agent() -> None:
    graph = TransitionGraph(
        "a",
        [Transition(AllOf([Not(FromSpeaker("b"))]), RoundRobinTarget(("a", "b")))],
        default_target=AgentTarget("b"),
    )
    ids = {"a": "id-a", "b": "id-b"}
    resolved = TransitionGraph.from_dict(resolve_names(graph.to_dict(), ids.__getitem__))
    assert {agent for _, agent in resolved.agents()} == {"id-a", "id-b"}
    assert len(list(resolved.agents())) == len(list(graph.agents()))
    with pytest.raises(GraphError, match=r"transitions\[0\]\.when") as caught:
        resolve_names(graph.to_dict(), {"a": "id-a"}.__getitem__)
    assert caught.value.details["agent"] == "b"


@given(GRAPHS)
def test_resolving_ids_changes_nothing(graph: TransitionGraph) -> None:
    assert resolve_names(graph.to_dict(), lambda agent: agent) == graph.to_dict()


@pytest.mark.parametrize("ids", [[], "abc", [""], [1]])
def test_factories_refuse_what_is_no_list_of_ids(ids: Any) -> None:
    with pytest.raises(GraphError):
        TransitionGraph.sequence(ids)
    with pytest.raises(GraphError):
        TransitionGraph.round_robin(ids)
