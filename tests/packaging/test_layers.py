"""The import contracts hold, and notice what they are there to notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="needs the extra `lint`")

LINT = [sys.executable, "-P", "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(LINT, cwd=tree, capture_output=True, text=True, check=False)


def broken(report: str) -> str:
    """The part of the report that explains the violations."""
    return report.partition("Broken contracts")[2]


@pytest.mark.slow
def test_the_contracts_hold(source_tree: Path) -> None:
    done = lint_imports(source_tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("mailbox/planted.py", "from ..hub import __doc__", "Rooms import only"),
        ("transports/planted.py", "from ..actors.runtime import __doc__", "Rooms import only"),
        ("hub/planted.py", "from ..testing import __doc__", "Rooms import only"),
        ("agorio/planted.py", "import agorio.hub", "Rooms import only"),  # has no place in the layers
        ("actors/runtime/planted.py", "from ..agents import __doc__", "The floors of actors"),
        ("hub/planted.py", "from ..actors.agents import __doc__", "The trust boundary"),
        ("actors/sessions/planted.py", "from ... import __doc__", "No room imports through"),
        ("actors/sessions/planted.py", "import trio", "The session rules are pure"),
    ],
)
def test_a_planted_violation_is_found(own_tree: Path, file: str, line: str, contract: str) -> None:
    (own_tree / file).write_text(line + "\n")
    done = lint_imports(own_tree)
    assert done.returncode != 0
    assert contract in broken(done.stdout)
