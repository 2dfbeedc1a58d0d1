"""The state diagrams in the docs are those that the tables make; the failure shows what to paste."""

from __future__ import annotations

from pathlib import Path

import pytest

from agorio.actors.sessions.diagrams import session_diagram, task_diagram
from agorio.actors.sessions.lifecycle import TRANSITIONS
from agorio.actors.sessions.tasks import TASK_TRANSITIONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("diagram", [session_diagram(), task_diagram()], ids=["session", "task"])
def test_the_docs_show_what_rules(diagram: str) -> None:
    assert f"```mermaid\n{diagram}```\n" in (DOCS / "sessions.md").read_text(encoding="utf-8")


def test_every_move_is_drawn() -> None:
    assert (
        session_diagram().count(" --> ")
        == len({(str(source), target) for (source, _), target in TRANSITIONS.items()}) + 3
    )
    assert (
        task_diagram().count(" --> ") == len({(source, target) for (source, _), target in TASK_TRANSITIONS.items()}) + 4
    )
