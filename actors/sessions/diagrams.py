"""State diagrams for the docs, drawn from the tables that rule, so that they cannot differ from the code."""

from __future__ import annotations

from collections.abc import Iterable

from ...mailbox.events import RESERVED_PREFIX
from .lifecycle import TRANSITIONS
from .metadata import TERMINAL, SessionState
from .tasks import TASK_TRANSITIONS, TaskState

Row = tuple[str | None, str, str | None]


def render_state_diagram(rows: Iterable[Row]) -> str:
    """A Mermaid state diagram of `(source, event, target)` rows; None is the start as a source, the end as a target.

    Rows of one source and target become one arrow with all their events.
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for source, event, target in rows:
        events = arrows.setdefault((_state(source), _state(target)), [])
        if event and event not in events:
            events.append(event)
    return "\n".join(["stateDiagram-v2", *(_arrow(*ends, events) for ends, events in arrows.items())]) + "\n"


def _state(name: str | None) -> str:
    return "[*]" if name is None else str(name).replace("-", "_").replace(".", "_")


def _arrow(source: str, target: str, events: list[str]) -> str:
    # Mermaid ends a statement at a semicolon and takes a second colon for another label.
    label = ", ".join(event.replace(";", ",").replace(":", " ") for event in events)
    return f"    {source} --> {target}" + (f" : {label}" if label else "")


def session_diagram() -> str:
    """The life of a session, from the table by which the hub judges."""
    moves = [(str(source), _event(event), str(target)) for (source, event), target in TRANSITIONS.items()]
    ends = [(str(state), "", None) for state in TERMINAL]
    return render_state_diagram([(None, "open", str(SessionState.PENDING)), *moves, *sorted(ends)])


def task_diagram() -> str:
    """The life of a task, from the table by which the hub judges."""
    moves = [
        (None if source is None else str(source), _event(event), str(target))
        for (source, event), target in TASK_TRANSITIONS.items()
    ]
    ends = [(str(state), "", None) for state in TaskState if state is not TaskState.RUNNING]
    return render_state_diagram([*moves, *ends])


def _event(event: str) -> str:
    return event.removeprefix(RESERVED_PREFIX).removeprefix("session.").removeprefix("task.").replace("_", " ")
