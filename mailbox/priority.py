"""How urgent a message is."""

from __future__ import annotations

import enum


class Priority(enum.IntEnum):
    """Which of two waiting messages a busy recipient handles first; one session's are never reordered."""

    BACKGROUND = 0
    NORMAL = 1
    URGENT = 2

    LOW = BACKGROUND
    HIGH = URGENT
