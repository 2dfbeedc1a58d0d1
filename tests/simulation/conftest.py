"""Tests of single bugs run in virtual time, as the simulation does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

HERE = Path(__file__).parent


def run_in_virtual_time(main: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`trio.run` under an autojump clock."""
    options["clock"] = MockClock(autojump_threshold=0)
    return trio.run(main, *args, **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing here waits in real time."""
    for item in items:
        if item.path.parent == HERE and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))
