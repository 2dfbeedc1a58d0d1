"""Copies of the source tree for the packaging tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "build", "dist", "*.egg-info")


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone holds; not to be changed."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "agorio", symlinks=True, ignore=LEFT_BEHIND))


@pytest.fixture
def own_tree(source_tree: Path, tmp_path: Path) -> Path:
    """A copy of what a clone holds, for the test to change."""
    return Path(shutil.copytree(source_tree, tmp_path / "tree", symlinks=True))
