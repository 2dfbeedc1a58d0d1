"""What pyproject.toml and the docs say about the tree is what is there."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAP: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
ROOMS = {package: folder for package, folder in MAP.items() if package != "agorio"}


def folders_with_code(top: Path) -> set[Path]:
    """`top` and its sub-folders that hold Python files; links are not followed."""
    return {
        Path(folder) for folder, _, files in os.walk(top) if any(name.endswith(".py") for name in files)
    }  # os.walk, because Path.rglob follows links before Python 3.13


def packages_on_disk() -> set[str]:
    found = set()
    for package, top in MAP.items():
        for folder in folders_with_code(ROOT / top):
            found.add(".".join((package, *folder.relative_to(ROOT / top).parts)))
    return found


def test_every_folder_with_code_is_installed() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


@pytest.mark.parametrize("top", MAP.values())
def test_every_folder_with_code_is_a_package(top: str) -> None:
    assert [folder for folder in folders_with_code(ROOT / top) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.skipif(os.name == "nt", reason="git makes no links there unless told to; the map installs without them")
def test_every_room_is_linked_into_the_package() -> None:
    links = {entry.name: os.readlink(entry) for entry in (ROOT / "agorio").iterdir() if entry.is_symlink()}
    assert links == {folder: f"../{folder}" for folder in ROOMS.values()}


def test_coverage_measures_every_room() -> None:
    assert set(PROJECT["tool"]["coverage"]["run"]["source"]) == set(MAP.values())


def test_everything_is_type_checked() -> None:
    seen = set(PROJECT["tool"]["mypy"]["files"])
    code = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and has_code(path)}
    assert seen == code - set(ROOMS.values()) - {"build", "dist"}  # the rooms are reached through agorio/


def has_code(path: Path) -> bool:
    return path.suffix == ".py" or bool(folders_with_code(path))


def required() -> set[str]:
    """The names of all required distributions, the extras' included."""
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in lines}
    return names - {"agorio"}


def explained() -> set[str]:
    """The names in the first column of the tables of docs/dependencies.md."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {name.strip() for cell in cells for name in cell.split(",")} - {"package", "---"}


def test_every_dependency_is_explained() -> None:
    assert explained() == required()
