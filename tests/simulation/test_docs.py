"""docs/simulation.md names every invariant, every kind of fault and every seed that is kept."""

from __future__ import annotations

import re
from pathlib import Path

from agorio.testing import INVARIANTS
from agorio.testing.nemesis import KINDS
from tests.simulation.test_simulation import FOUND, FOUND_SHORT

PAGE = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_page_has_every_invariant_in_its_words() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (yes)? ?\|$", section("Invariants"), re.MULTILINE)
    assert rows == [(i.name, i.promise, "yes" if i.outside else "") for i in INVARIANTS.values()]


def test_the_page_has_every_kind_of_fault() -> None:
    assert set(re.findall(r"`(\w+)`", section("Faults"))) - {"_kept", "_lost"} == set(KINDS)


def test_the_page_tells_of_every_seed_that_is_kept() -> None:
    found = section("What it has found")
    table = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", found, re.MULTILINE) for number in row.split(",")}
    before = {int(number) for number in re.findall(r"\d+", found.rpartition("\n| ")[2].partition("\n")[2])}
    assert table | before == {*FOUND, *FOUND_SHORT}
