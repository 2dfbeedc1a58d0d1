"""The example project runs alone, copied out of this repository, with nothing but its own configuration."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "examples" / "testing_project"
GIVE_UP_AFTER = 120  # seconds; only a program that hangs gets there


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=GIVE_UP_AFTER, check=False
    )


@pytest.mark.slow
def test_the_project_passes_its_tests(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    done = run_pytest(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\n\d\d passed in", done.stdout)


def test_it_uses_only_what_is_public() -> None:
    modules = set()
    for path in PROJECT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                modules.add(node.module or "")
            elif isinstance(node, ast.Import):
                modules |= {name.name for name in node.names}
    assert {name for name in modules if name.startswith("agorio")} == {"agorio", "agorio.testing"}


def test_its_readme_lists_every_file() -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", (PROJECT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    there = {path.name for path in PROJECT.iterdir() if path.suffix in (".py", ".toml")}
    assert set(listed) == there
