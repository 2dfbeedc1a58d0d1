"""Programs of agorio as real processes, watched by what they print; nothing here sleeps."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

GIVE_UP_AFTER = 60.0  # seconds; only a program that hangs gets there
AGORIO = (sys.executable, "-P", "-W", "error", "-m", "agorio")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "COLUMNS")}
    return {**kept, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", **more}


def agorio(*args: object, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; it must end with `code`."""
    done = subprocess.run(
        [*AGORIO, *map(str, args)],
        env=environment(**more),
        capture_output=True,
        encoding="utf-8",
        timeout=GIVE_UP_AFTER,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class Program:
    """A command that runs until it is told to stop."""

    def __init__(self, *args: object) -> None:
        self.process = subprocess.Popen(
            [*AGORIO, *map(str, args)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors.append)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, file: IO[str], take: object) -> None:
        with file:
            for line in file:
                take(line.rstrip("\n"))  # type: ignore[operator]
        if take == self._lines.put:
            self._lines.put("<the program has ended>")

    def wait_line(self, part: str) -> str:
        """The next line that has `part` in it."""
        while True:
            line = self._lines.get(timeout=GIVE_UP_AFTER)
            if part in line:
                return line
            assert line != "<the program has ended>", "\n".join(self.errors)

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self.process.kill()
        self._join()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self._join()

    def _join(self) -> int:
        code = self.process.wait(GIVE_UP_AFTER)
        for reader in self._readers:
            reader.join(GIVE_UP_AFTER)
        return code

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self._join()


def url_in(line: str) -> str:
    """The hub's URL in the line that says that it is up."""
    return next(word.rstrip(",") for word in line.split() if word.startswith(("ws://", "wss://")))


def write_agents(folder: Path, text: str) -> Path:
    """A module `staff` for `--app-dir`."""
    (folder / "staff.py").write_text(text, encoding="utf-8")
    return folder
