"""Tests over in-memory streams run under the virtual clock; those over sockets, in `test_sockets*.py`, do not."""

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
    """Sockets wait for the system, which knows no virtual time."""
    for item in items:
        is_async = inspect.iscoroutinefunction(getattr(item, "obj", None))
        if item.path.parent == HERE and not item.path.stem.startswith("test_sockets") and is_async:
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))
