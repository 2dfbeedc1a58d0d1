"""A minute of the soak: a thousand agents on one hub, two hundred cut off at a time, and an account of everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands.processes import environment

pytestmark = pytest.mark.slow
SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
# Each connection takes a socket in two processes; a machine that allows too few files gets fewer agents.
AGENTS = int(os.environ.get("AGORIO_SOAK_AGENTS", "1000"))
CUT = AGENTS // 5


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="resident memory and open files are read from /proc")
def test_nothing_is_lost_and_nothing_is_left_behind() -> None:
    options = ["--agents", AGENTS, "--minutes", 0.15, "--rate", 40, "--cut", CUT, "--every", 4, "--json"]
    done = subprocess.run(
        [sys.executable, "-P", str(SOAK), *map(str, options)],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    seen = told["seen"]
    assert told["faults"] == []
    assert done.returncode == 0
    assert seen["lost"] > CUT
    assert seen["sessions"] > AGENTS // 10
    assert seen["dead_letters"] == 0
    # What is kept of ended sessions is their place in the store; traffic leaves nothing else.
    assert seen["rss_after"] - seen["rss_before"] < 100 << 20
    assert seen["tasks_empty"] < 50
