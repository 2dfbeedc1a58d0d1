"""Programs that are gone when the test is over."""

from __future__ import annotations

from tests.commands.conftest import start

__all__ = ["start"]
