"""Every invariant catches what it is there for."""

from __future__ import annotations

from collections import Counter

import pytest

from agorio.testing import INVARIANTS, simulate
from agorio.testing.mixed import mixed
from tests.simulation.mutations import MUTATIONS, SOONEST

SEEDS = 40


def test_every_invariant_has_a_broken_variant() -> None:
    assert sorted(MUTATIONS) == sorted(INVARIANTS)


@pytest.mark.parametrize("invariant", MUTATIONS)
def test_the_simulation_catches_it(invariant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[invariant](monkeypatch)
    found: Counter[str] = Counter()
    for seed in (SOONEST[invariant], *range(SEEDS)):
        found.update({problem.name for problem in simulate(mixed, seed).problems})
        if found[invariant]:
            return
    raise AssertionError(f"{SEEDS} seeds do not break {invariant}; they break {dict(found)}")
