"""Settings for the whole suite; fixtures live beside the tests that use them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings

# The same examples in every run, and no deadline per example: a slow machine is no failure.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many seeds the simulation has played, and how many faults of each kind were in them."""
    seeds, faults = 0, Counter[str]()
    for report in terminalreporter.getreports("passed"):
        properties = dict(report.user_properties) if report.when == "call" else {}
        seeds += int(str(properties.get("seeds", 0)))
        found = properties.get("faults")
        faults.update(found if isinstance(found, dict) else {})
    if seeds:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items()))
        terminalreporter.write_line(f"simulation: {seeds} seeds with {kinds}")
