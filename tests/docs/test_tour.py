"""The tour names every file of every room, and no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("mailbox", "transports", "actors", "hub")


def modules() -> set[str]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    files += list((ROOT / "agorio").glob("*.py"))
    files += [path for folder in ("testing", "demo", "commands") for path in (ROOT / "agorio" / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py"}


def toured() -> set[str]:
    found, room = set(), ""
    for line in (ROOT / "docs" / "tour.md").read_text().splitlines():
        heading = re.fullmatch(r"## `([\w/]+)/`", line)
        row = re.match(r"\| `(\w+\.py)` \| \S", line)
        if heading:
            room = heading.group(1)
        elif row:
            found.add(f"{room}/{row.group(1)}")
    return found


def test_the_tour_walks_every_room() -> None:
    assert sorted(modules() - toured()) == []
    assert sorted(toured() - modules()) == []
