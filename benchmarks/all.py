"""Every benchmark in one table. `python benchmarks/all.py [--quick]`; each runs in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # where PYTHONSAFEPATH keeps it out

from common import HEADER, Row  # noqa: E402 - the line above finds it

PARTS = {
    "The kernel": "kernel.py",
    "The hub": "hub.py",
    "Ten thousand": "scale.py",
    "The stores": "store.py",
    "The websocket": "websocket.py",
}


def run(script: str, options: list[str]) -> list[Row]:
    """The rows that a script measures."""
    command = [sys.executable, str(HERE / script), "--json", *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return [Row(**row) for row in json.loads(done.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything that is measured, in one table.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    options = ["--quick"] if parser.parse_args().quick else []
    print(HEADER)
    for title, script in PARTS.items():
        print(f"\n{title}", flush=True)
        for row in run(script, options):
            print(row.render(), flush=True)


if __name__ == "__main__":
    main()
