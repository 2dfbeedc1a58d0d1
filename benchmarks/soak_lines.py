"""How the soak's processes talk: a command and its answer, each one line of JSON over a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

HERE: Final = Path(__file__).parent
Handler = Callable[..., Awaitable[dict[str, Any]]]


class Child:
    """A process that answers commands."""

    def __init__(self, script: str, *args: object) -> None:
        self._script = script
        command = [sys.executable, "-P", str(HERE / script), *map(str, args)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def put(self, do: str, **arguments: object) -> None:
        """Give a command; `take` is its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def take(self) -> dict[str, Any]:
        """The next answer. Raises `SystemExit` where the process has ended instead; its reason is on standard error."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._script} has ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """A command and its answer."""
        self.put(do, **arguments)
        return self.take()

    def end(self) -> None:
        """Close its input, which ends it, and wait."""
        self.process.communicate()


async def answer_commands(handlers: Mapping[str, Handler]) -> None:
    """Carry out one command after the other, until there are no more. If cancelled: the one in hand is."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        command = json.loads(line)
        answer = await handlers[command.pop("do")](**command)
        print(json.dumps(answer), flush=True)


def raise_file_limit() -> None:
    """As many open files as the system allows: every connection is one."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
