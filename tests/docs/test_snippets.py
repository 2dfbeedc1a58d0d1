"""Every ```python block of the README and of docs/ runs as it stands, with warnings as errors.

A block is a whole program, or a doctest if it holds `>>>`. It runs in an empty folder, in a process of its own, under
`-P` so that nothing but the installed package is found. Blocks that are not meant to run are not fenced as `python`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPENING = re.compile(r"^( *)```+ *python\b")
GIVE_UP_AFTER = 120  # seconds; only a program that hangs gets there


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """The line number of each opening fence with the code below it."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        if opening := OPENING.match(line):
            indent = len(opening[1])
            body = lines[start + 1 :]
            closing = next(i for i, inner in enumerate(body) if inner.strip().startswith("```"))
            yield start + 1, "".join(f"{inner[indent:]}\n" for inner in body[:closing])


def snippets() -> Iterator[object]:
    for page in PAGES:
        name = page.relative_to(ROOT)
        for line, code in blocks(page.read_text(encoding="utf-8")):
            # Blank lines before the code, so that a traceback names the line of the page.
            yield pytest.param("\n" * line + code, id=f"{name}:{line}")


def run_snippet(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    doctest = re.search(r"^\s*>>> ", code, re.MULTILINE) is not None
    file = folder / ("snippet.txt" if doctest else "snippet.py")  # doctest would import a .py file
    file.write_text(code, encoding="utf-8")
    module = ["-m", "doctest"] if doctest else []
    command = [sys.executable, "-P", "-W", "error", *module, file.name]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=GIVE_UP_AFTER, check=False
    )


@pytest.mark.parametrize("code", list(snippets()))
def test_the_block_runs(code: str, tmp_path: Path) -> None:
    done = run_snippet(code, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_an_example() -> None:
    assert list(blocks((ROOT / "README.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("1 / 0\n", id="error"),
        pytest.param("import warnings\nwarnings.warn('old', DeprecationWarning)\n", id="warning"),
        pytest.param(">>> 1 + 1\n3\n", id="doctest"),
    ],
)
def test_a_bad_block_is_noticed(code: str, tmp_path: Path) -> None:
    assert run_snippet(code, tmp_path).returncode != 0


def test_a_block_in_a_list_loses_its_indent() -> None:
    text = "- so:\n\n  ```python\n  if 1:\n      print(2)\n  ```\n"
    assert list(blocks(text)) == [(3, "if 1:\n    print(2)\n")]
