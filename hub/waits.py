"""Whose turn waits for whose reply, so that two agents that wait for each other learn it at once and by name.

A turn tells the hub when it begins to wait for the other member of a session, and the hub refuses the wait that would
close a circle. The wait ends when that member has said something, when the session ends, when the turn gives up, and
when the connection lets go of the agent. An edge that is missing costs only a timeout, one that is false would refuse
what could go on: wherever it is open whether somebody still waits, nobody does.

Agents with several turns at once do not tell: one that waits in one turn can answer in another.
"""

from __future__ import annotations

from ..actors.runtime.waits import WaitGraph
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AskCycle
from ..mailbox.events import EV_TURN_SKIPPED, SESSION_END, TURN_EVENTS
from .directory import Directory
from .session import SessionCell


class Waits:
    """The waits of all agents on this hub."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._graph: WaitGraph[str] = WaitGraph()
        self._sessions: dict[str, dict[str, str]] = {}

    def __len__(self) -> int:
        return len(self._graph)

    def begin(self, cell: SessionCell, waiter: str, after: int | None) -> None:
        """`waiter` waits for the other member from now on. Raises `AskCycle`."""
        others = [who for who in cell.setup.participants if who != waiter]
        is_answered = after is not None and cell.live.sequence > after
        waiting = self._sessions.get(cell.session_id, {})
        if len(others) != 1 or cell.live.terminal or is_answered or waiter in waiting:
            return
        cycle = self._graph.add(waiter, others[0])
        if cycle is not None:
            raise self._error(cycle)
        self._sessions.setdefault(cell.session_id, {})[waiter] = others[0]

    def _error(self, cycle: tuple[str, ...]) -> AskCycle:
        known = self._directory.names(cycle)
        names = [known.get(who, who) for who in cycle]
        return AskCycle(
            f"the agents would wait for each other for ever: {' -> '.join(names)}; answer first, or ask somebody else",
            cycle=names,
        )

    def over(self, session_id: str, waiter: str) -> None:
        """The agent waits no longer in this session."""
        waiting = self._sessions.get(session_id)
        target = waiting.pop(waiter, None) if waiting is not None else None
        if target is not None:
            self._graph.remove(waiter, target)
        if waiting is not None and not waiting:
            del self._sessions[session_id]

    def hear(self, envelope: Envelope) -> None:
        """An envelope is durable: whoever waited for its sender has been answered."""
        waiting = self._sessions.get(envelope.session_id)
        if waiting is None:
            return
        event = envelope.event_type
        speaker = envelope.event_data.get("agent_id") if event == EV_TURN_SKIPPED else envelope.sender_id
        if event in SESSION_END or event == EV_TURN_SKIPPED or event in TURN_EVENTS:
            for waiter, target in list(waiting.items()):
                if event in SESSION_END or target == speaker:
                    self.over(envelope.session_id, waiter)

    def gone(self, agent_id: str) -> None:
        """The agent has lost its connection, and its turns with it."""
        for session_id in [key for key, waiting in self._sessions.items() if agent_id in waiting]:
            self.over(session_id, agent_id)
