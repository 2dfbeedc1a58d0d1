"""The soak's hub: a process that serves, and tells what it holds. `soak.py` starts it."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

import trio.lowlevel
from common import resident
from soak_lines import answer_commands, raise_file_limit

from agorio import EV_TEXT, DiskKnowledgeStore, Hub, Limits, serve_ws

MAX_SESSIONS = 10_000_000
PATIENCE = 600.0


@attrs.frozen
class Served:
    """A hub and what it is asked about itself."""

    hub: Hub

    async def settled(self, within: float) -> dict[str, Any]:
        """Wait until nothing is under way; what is left after so long. If cancelled: nothing has changed."""
        with trio.move_on_after(within):
            while self._is_busy():  # noqa: ASYNC110  the hub counts these and announces none
                await trio.sleep(0.1)
        seen = self.hub.statistics()
        return {"unsettled": seen.current_unsettled, "sessions": seen.current_sessions}

    def _is_busy(self) -> bool:
        seen = self.hub.statistics()
        return bool(seen.current_unsettled or seen.current_sessions)

    async def report(self) -> dict[str, Any]:
        """What the process holds. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        rss = resident()
        objects = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
        return {
            **attrs.asdict(self.hub.statistics()),
            "rss": rss,
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "files": len(os.listdir("/proc/self/fd")),
            "objects": {name: count for name, count in objects.items() if name.startswith("agorio.")},
            "health": self.hub.health().reasons,
        }

    async def logs(self) -> dict[str, Any]:
        """The numbers of each session's texts, in the order of its log. If cancelled: nothing has changed."""
        texts: dict[str, list[str]] = {}
        for one in await self.hub.list_sessions(limit=MAX_SESSIONS):
            log = await self.hub.read_wal(one.session_id)
            texts[one.session_id] = [each.text.split()[0] for each in log if each.event_type == EV_TEXT]
        return texts


async def main(store: str) -> None:
    raise_file_limit()
    limits = Limits(max_per_peer=4096)
    # A machine that is busy with something else is slow, and that is no loss: nothing is given up for its sake.
    opening = Hub.open(DiskKnowledgeStore(store), invite_ack_timeout=PATIENCE)
    async with opening as hub, serve_ws(hub, limits=limits) as server:
        print(f'{{"url": "ws://127.0.0.1:{server.port}"}}', flush=True)
        served = Served(hub)
        await answer_commands({"settled": served.settled, "report": served.report, "logs": served.logs})


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
