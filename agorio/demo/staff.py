"""The newsroom's agents as programs of their own: what `agorio agent agorio.demo.staff:reader --name reader-1` runs.

Neither knows its name before it is registered, so both take it, and their client, from the turn in hand.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from ..actors.agents.turn_context import Turn, current_turn
from .newsroom import Checker, Fuse, Reader

FUSE: Final = "AGORIO_DEMO_FUSE"
"""Names a file; the checker that finds it takes it away and is killed in the middle of its turn."""


async def reader(text: str) -> str:
    """One job of a reader. If cancelled: nothing has happened."""
    return await Reader(_turn().client.name).ask(text)


async def checker(text: str) -> str:
    """One job of the checker. If cancelled: a conversation begun ends with its TTL."""
    turn = _turn()
    return await Checker(turn.client.name, turn.client, DeadlyFuse(turn=1)).ask(text)


class DeadlyFuse(Fuse):
    """Ends the whole process, as a crash of the machine would, and only once, whatever is started again."""

    def spend(self) -> None:
        """Burn, if there is anything to burn."""
        path = os.environ.get(FUSE)
        if path is not None and Path(path).exists():
            Path(path).unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def _turn() -> Turn:
    turn = current_turn()
    assert turn is not None, "an agent is asked in turns"
    return turn
