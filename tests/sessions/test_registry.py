"""The registry of session types and the diagrams drawn from tables."""

from __future__ import annotations

from typing import Any

import pytest

from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.adapters.registry import AdapterRegistry, default_adapters
from agorio.actors.sessions.diagrams import render_state_diagram
from agorio.actors.sessions.metadata import Manifest
from agorio.mailbox.errors import InvalidInput, NotFoundError


def adapter(version: int = 1) -> SessionAdapter:
    made = SessionAdapter()
    made.manifest = Manifest("mine", version)
    return made


def test_the_four_of_the_house() -> None:
    registry = default_adapters()
    assert sorted(one.manifest.type for one in registry) == ["consulting", "conversation", "discussion", "workflow"]
    assert len(registry) == 4
    assert "workflow" in registry
    assert "mine" not in registry
    assert default_adapters().get("workflow") is not registry.get("workflow")


def test_without_a_version_the_newest() -> None:
    one, three, two = adapter(1), adapter(3), adapter(2)
    registry = AdapterRegistry([one, three, two])
    assert registry.get("mine") is three
    assert registry.get("mine", 2) is two


def test_a_taken_version_is_refused_and_changes_nothing() -> None:
    first = adapter()
    registry = AdapterRegistry([first])
    with pytest.raises(InvalidInput, match="raise the version"):
        registry.register(adapter())
    assert registry.get("mine") is first


@pytest.mark.parametrize(("name", "version"), [("other", None), ("mine", 2)])
def test_an_unknown_type_is_not_found_and_the_known_are_listed(name: str, version: int | None) -> None:
    with pytest.raises(NotFoundError, match="mine v1"):
        AdapterRegistry([adapter()]).get(name, version)


@pytest.mark.parametrize("thing", [None, object(), SessionAdapter])
def test_what_is_no_adapter_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidInput):
        AdapterRegistry([thing])


def test_a_diagram_has_one_arrow_for_each_pair_of_states() -> None:
    rows = [(None, "", "a"), ("a", "go", "b"), ("a", "run", "b"), ("a", "go", "b"), ("b", "x:y", None)]
    assert render_state_diagram(rows).splitlines() == [
        "stateDiagram-v2",
        "    [*] --> a",
        "    a --> b : go, run",
        "    b --> [*] : x y",
    ]
