"""Every benchmark, one table after the other: `python benchmarks/all.py [--quick]`. Each runs in its own process."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("kernel.py", "hub.py", "scale.py", "store.py", "recovery.py", "websocket.py", "sweeps.py")


def main() -> int:
    """Run every part; the exit code is 1 where one of them failed."""
    parser = argparse.ArgumentParser(description="Everything that is measured.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    options = ["--quick"] if parser.parse_args().quick else []
    failed = False
    for script in PARTS:
        print(f"\n== {script}", flush=True)
        failed |= subprocess.run([sys.executable, str(HERE / script), *options], check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
