"""A hub and three agents in four processes: `python examples/four_processes/run.py`.

The hub is `agorio serve`, two of the agents are `agorio agent`, the third is the program `desk.py`. This launcher only
starts them, waits until each is ready, and ends them; by hand they are four terminals.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
AGORIO = [sys.executable, "-P", "-m", "agorio"]


def start(stack: ExitStack, *command: str) -> str:
    """Start a program that runs until it is ended, and wait for its first line, which says that it is up."""
    process = stack.enter_context(subprocess.Popen([*AGORIO, *command], stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise SystemExit(f"{command[0]} did not start")
    return line


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ready = Path(folder) / "url"
        start(stack, "serve", "--port", "0", "--store", f"{folder}/hub.db", "--ready-file", str(ready))
        url = ready.read_text().strip()
        for name in ("drafter", "editor"):
            start(stack, "agent", f"staff:{name}", "--hub", url, "--app-dir", str(HERE), "--capability", "slogans")
        return subprocess.run([sys.executable, "-P", str(HERE / "desk.py"), url], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
