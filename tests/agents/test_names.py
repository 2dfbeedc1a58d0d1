"""The front door offers every event name, spelled out so that type checkers see them too."""

from __future__ import annotations

import agorio
from agorio.mailbox import events


def test_every_event_name_is_public() -> None:
    assert set(events.__all__) <= set(agorio.__all__)
    assert all(getattr(agorio, name) == getattr(events, name) for name in events.__all__)


def test_everything_public_is_there() -> None:
    assert [name for name in agorio.__all__ if not hasattr(agorio, name)] == []
