"""The newsroom in processes: every reader and the checker is an `agorio agent` that the demo starts, minds and ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from .screen import Screen
from .staff import FUSE

CHECKER = "checker"
GRACE = 8.0
"""Seconds for a process to finish its turn and end, before it is killed."""
MAX_STARTS = 3
"""Starts of one agent; one that ends so often by itself cannot be helped by another."""


class NotStarted(Exception):
    """An agent's process ended before it was ready, or too often."""


@attrs.define
class Agency:
    """What its agents' processes have in common."""

    url: str
    """The hub."""
    screen: Screen
    folder: Path
    """For what they print."""
    environment: Mapping[str, str]

    async def employ(
        self,
        name: str,
        target: str,
        capabilities: Sequence[str],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep one agent running. If cancelled: it is told to end, and is waited for."""
        command = [sys.executable, "-P", "-m", "agorio", "agent", f"agorio.demo.staff:{target}", "--hub", self.url]
        command += ["--name", name, "--attach", *(f"--capability={one}" for one in capabilities)]
        for _ in range(MAX_STARTS):
            process = await self._start(name, command)
            try:
                line = await self._first_line(process)
                self._ready(name, process.pid, line)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await process.wait()
            finally:
                await end(process)
            self.screen.accident(f"{name}: process {process.pid} has ended ({ended_by(process.returncode)})")
        raise NotStarted(f"{name} has ended {MAX_STARTS} times; the last it said: {self._said(name)}")

    async def _start(self, name: str, command: list[str]) -> trio.Process:
        with (self.folder / name).open("ab") as errors:
            return await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=self.environment
            )

    async def _first_line(self, process: trio.Process) -> str:
        """What an agent prints when it is registered; empty if it ends instead."""
        said = b""
        assert process.stdout is not None
        while b"\n" not in said and (more := await process.stdout.receive_some()):
            said += more
        return said.decode(errors="replace").strip()

    def _ready(self, name: str, pid: int, line: str) -> None:
        if not line:
            raise NotStarted(f"{name} did not start: {self._said(name)}")
        self.screen.names[line.rpartition(" ")[2]] = name
        self.screen.note(f"{name} is process {pid}")

    def _said(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8", errors="replace").strip() or "nothing"


def ended_by(code: int | None) -> str:
    """How a process has ended, in words."""
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"


async def end(process: trio.Process) -> None:
    """Have a process end, if it has not: asked first, then killed. If cancelled: so it goes on to the end."""
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
            with trio.move_on_after(GRACE):
                await process.wait()
        if process.poll() is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


@asynccontextmanager
async def employed(url: str, readers: int, screen: Screen, *, crash: bool = False) -> AsyncIterator[tuple[str, ...]]:
    """A checker and so many readers at work while the block runs; the readers' names. If cancelled: all of them end."""
    names = tuple(f"reader-{number}" for number in range(1, readers + 1))
    with tempfile.TemporaryDirectory(prefix="agorio-staff-") as folder:
        fuse = Path(folder) / "fuse"
        if crash:
            fuse.touch()
        agency = Agency(url, screen, Path(folder), {**os.environ, FUSE: str(fuse), "PYTHONUNBUFFERED": "1"})
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                for name in names:
                    reading = partial(agency.employ, name, "reader", ["outline", "key terms", "summary"])
                    starting.start_soon(nursery.start, reading)
                starting.start_soon(nursery.start, agency.employ, CHECKER, "checker", ["fact checking"])
            yield names
            nursery.cancel_scope.cancel()
