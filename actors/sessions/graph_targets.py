"""Who speaks next in a workflow: the targets of its transitions, frozen values that a registry may add to."""

from __future__ import annotations

from typing import ClassVar

import attrs

from .graph_conditions import Moment
from .identity import texts


@attrs.frozen
class Decision:
    """The next speaker, or the reason why there is none."""

    speaker: str | None
    """The next speaker; None closes the session."""
    reason: str = ""
    """Why it closes."""


@attrs.frozen
class Target:
    """The base of all targets."""

    wire_name: ClassVar[str] = ""
    agent_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that hold agent ids; they must name participants."""

    def choose(self, moment: Moment) -> Decision:
        """Who is next. Pure: the same moment, the same answer."""
        raise NotImplementedError


@attrs.frozen
class AgentTarget(Target):
    """One agent."""

    wire_name: ClassVar[str] = "agent"
    agent_fields: ClassVar[tuple[str, ...]] = ("agent_id",)
    agent_id: str
    """Who is next."""

    def choose(self, moment: Moment) -> Decision:
        return Decision(self.agent_id)


@attrs.frozen
class RoundRobinTarget(Target):
    """The one after the speaker, in a ring."""

    wire_name: ClassVar[str] = "round_robin"
    agent_fields: ClassVar[tuple[str, ...]] = ("order",)
    order: tuple[str, ...] = attrs.field(default=(), converter=texts)
    """The ring; empty is the session's order. Where the speaker stands in it twice, the number of steps tells where."""

    def choose(self, moment: Moment) -> Decision:
        ring = self.order or moment.order
        if not ring:
            return Decision(None, "no_participants")
        if ring.count(moment.speaker) > 1:
            return Decision(ring[moment.step % len(ring)])
        if moment.speaker not in ring:
            return Decision(ring[0])
        return Decision(ring[(ring.index(moment.speaker) + 1) % len(ring)])


@attrs.frozen
class StayTarget(Target):
    """The speaker again."""

    wire_name: ClassVar[str] = "stay"

    def choose(self, moment: Moment) -> Decision:
        return Decision(moment.speaker)


@attrs.frozen
class RevertToInitiatorTarget(Target):
    """Whoever opened the session."""

    wire_name: ClassVar[str] = "revert_to_initiator"

    def choose(self, moment: Moment) -> Decision:
        return Decision(moment.initiator)


@attrs.frozen
class TerminateTarget(Target):
    """Nobody: the session closes."""

    wire_name: ClassVar[str] = "terminate"
    reason: str = "after_work"
    """The close reason."""

    def choose(self, moment: Moment) -> Decision:
        return Decision(None, self.reason)


BUILT_IN_TARGETS: tuple[type[Target], ...] = (
    AgentTarget,
    RoundRobinTarget,
    StayTarget,
    RevertToInitiatorTarget,
    TerminateTarget,
)
