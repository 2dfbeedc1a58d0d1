"""Who keeps silent: what the session types with turns fold from the hub's skip notices, so that nobody stalls them."""

from __future__ import annotations

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.errors import InvalidInput
from ..metadata import SessionSetup

ALL_SILENT = "all_silent"
# An invitee that declined, where a quorum opened the session without it, is as absent as one that was unregistered.
ABSENT_REASONS = ("gone", "declined")


@attrs.frozen
class Attendance:
    """Who was passed over since somebody last spoke, and who is gone for good."""

    skipped: tuple[str, ...] = ()
    """Passed over in a row, in order."""
    gone: tuple[str, ...] = ()
    """No longer there; their turns are passed over without waiting."""

    def spoke(self) -> Attendance:
        """After somebody took a turn."""
        return attrs.evolve(self, skipped=()) if self.skipped else self

    def passed(self, agent_id: str) -> Attendance:
        """After a turn was passed over."""
        return attrs.evolve(self, skipped=(*self.skipped, agent_id))

    def left(self, agent_id: str) -> Attendance:
        """After somebody went."""
        return self if agent_id in self.gone else attrs.evolve(self, gone=(*self.gone, agent_id))

    def all_silent(self, order: tuple[str, ...]) -> bool:
        """Whether everybody was passed over or is gone."""
        return not set(order) - set(self.skipped) - set(self.gone)


def read_skip(envelope: Envelope) -> tuple[str, bool]:
    """Whom a skip notice passes over, and whether for good."""
    return str(envelope.event_data.get("agent_id", "")), envelope.event_data.get("reason") in ABSENT_REASONS


def limit_knob(setup: SessionSetup, name: str) -> int | None:
    """A knob that limits a count; `InvalidInput` unless it is absent, None or a whole number of at least 1."""
    value = setup.knobs.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InvalidInput(f"knob {name}={value!r} must be a whole number of at least 1", field=name)
    return value
