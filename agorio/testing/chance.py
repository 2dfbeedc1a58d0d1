"""Chance with a name: one generator per concern, so that a new draw in one place does not shift those in another."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from typing import Any

KEPT = 200


class Chance:
    """Generators by name, all from one seed."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self._generators: dict[str, random.Random] = {}

    def of(self, concern: str) -> random.Random:
        """The generator of a concern. A text seeds it by its bytes, so no process differs from another."""
        if concern not in self._generators:
            self._generators[concern] = random.Random(f"{self.seed}/{concern}")
        return self._generators[concern]


class Trace:
    """What has happened, as one running hash and the newest lines."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=12)
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.total = 0

    def note(self, at: float, *what: Any) -> None:
        """Take down one event. Its parts must print the same in every process."""
        line = f"{at:.6f} {' '.join(map(str, what))}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        self.lines.append(line)
        self.total += 1

    @property
    def digest(self) -> str:
        """The hash over all of it."""
        return self._hash.hexdigest()
