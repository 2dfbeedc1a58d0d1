"""Tests of the test kit run under the virtual clock; those over sockets, in `*_sockets.py`, do not."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.hub.conftest import run_in_virtual_time

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sockets wait for the system, which knows no virtual time."""
    for item in items:
        is_async = inspect.iscoroutinefunction(getattr(item, "obj", None))
        if item.path.parent == HERE and not item.path.stem.endswith("_sockets") and is_async:
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))
