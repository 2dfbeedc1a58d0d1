"""Runs that repeat, and what is said where trio cannot be made to repeat them."""

from __future__ import annotations

import importlib
import random
from typing import Any

import pytest
import trio

from agorio.actors.agents import hub_client, resuming_link
from agorio.actors.runtime import cell
from agorio.testing import NoSeededScheduler, run_seeded, simulate
from agorio.testing.scheduler import CHANCE, FLAG, seeded_scheduler, trio_internals


async def shuffled() -> list[int]:
    """In which order twenty tasks that do nothing run."""
    order: list[int] = []

    async def one(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
    return order


def test_the_order_is_a_function_of_the_seed() -> None:
    first, again, other = (run_seeded(shuffled, seed=seed) for seed in ("a", "a", "b"))
    assert first == again
    assert first != other
    assert sorted(first) == list(range(20))


@pytest.mark.parametrize(("name", "value"), [(FLAG, None), (FLAG, "yes"), (CHANCE, None), (CHANCE, 4)])
def test_a_trio_without_the_hook_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    loop = importlib.import_module("trio._core._run")
    monkeypatch.setattr(loop, name, value)
    with pytest.raises(NoSeededScheduler, match=rf"trio {trio.__version__} has no {FLAG} and {CHANCE}.*0\.31 to 0\.35"):
        simulate(seed=1)


def test_a_trio_without_the_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", gone)
    with pytest.raises(NoSeededScheduler, match="could not be repeated"):
        trio_internals()


def test_everything_is_put_back() -> None:
    loop = trio_internals()
    chance = getattr(loop, CHANCE)

    def state() -> tuple[Any, ...]:
        private = (getattr(loop, FLAG), chance.getstate(), getattr(cell, "perf_counter"))  # noqa: B009
        return (*private, getattr(hub_client, "_numbers"), getattr(resuming_link, "random"))  # noqa: B009

    before = state()
    with pytest.raises(ZeroDivisionError), seeded_scheduler(3):
        assert state() != before
        raise ZeroDivisionError
    assert state() == before
    assert before[-1] is random
