"""What is built holds what it should, and what is installed works, from every road there is. No network is used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from attrs import frozen
from packaging.requirements import Requirement

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="the environments are made of links"),
]

IMPORT_ALL = """
import agorio, importlib, mailbox, pkgutil
for module in pkgutil.walk_packages(agorio.__path__, "agorio."):
    # The test kit may need its extra; what remains has to do with the core alone.
    if not module.name.startswith("agorio.testing"):
        importlib.import_module(module.name)
        print(module.name)
assert hasattr(mailbox, "Maildir")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that has to succeed and return what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    quiet = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=cwd, env=env | quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def closure(*names: str) -> dict[str, Distribution]:
    """The installed distributions of these names and all that they require, without extras."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found[name] = distribution(name)
            needs = map(Requirement, found[name].requires or ())
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def link_into(folder: Path, dist: Distribution) -> None:
    """Make a distribution importable from `folder`, by links to its top-level files."""
    for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
        (folder / top).symlink_to(Path(str(dist.locate_file(top))))


@frozen
class Environment:
    """A virtual environment without pip that sees exactly what agorio requires, and setuptools to build with."""

    folder: Path
    """Where it lies; the working folder of its commands, too."""

    def python(self, *args: str) -> str:
        return run(self.folder / "bin" / "python", "-P", "-W", "error", *args, cwd=self.folder)

    def agorio(self, *args: str) -> str:
        return run(self.folder / "bin" / "agorio", *args, cwd=self.folder)

    def install(self, *what: str | Path) -> None:
        into = ("--python", self.folder / "bin" / "python")
        offline = ("--no-index", "--no-deps", "--no-build-isolation")
        run(sys.executable, "-P", "-m", "pip", *into, "install", *offline, *what, cwd=self.folder)


@pytest.fixture(scope="session")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requirements")
    for name, dist in closure("agorio", "setuptools").items():
        if name != "agorio":
            link_into(folder, dist)
    return folder


@pytest.fixture
def environment(tmp_path: Path, requirements: Path) -> Environment:
    folder = tmp_path / "venv"
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "requirements.pth").write_text(f"{requirements}\n")
    return Environment(folder)


@pytest.fixture(scope="session")
def built(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", folder, source_tree, cwd=folder)
    return folder


def files_of_the_rooms(tree: Path) -> set[str]:
    """Every file that belongs into the installed package, by the path that it has there."""
    found = {path.relative_to(tree / "agorio") for path in walk(tree / "agorio")}
    for room in ("actors", "hub", "mailbox", "transports"):
        found |= {path.relative_to(tree) for path in walk(tree / room)}
    return {f"agorio/{path.as_posix()}" for path in found}


def walk(top: Path) -> set[Path]:
    """All files below `top`; links are not followed."""
    return {
        Path(folder, name) for folder, _, names in os.walk(top) for name in names if Path(folder).name != "__pycache__"
    }


def modules_of(files: set[str]) -> set[str]:
    """The modules that these files hold, without the package itself and the test kit."""
    names = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files if file[-3:] == ".py"
    }
    return {name for name in names if name != "agorio" and not name.startswith("agorio.testing")}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path, source_tree: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files_of_the_rooms(source_tree)
    assert "agorio/py.typed" in names


def test_the_sdist_holds_the_tree(built: Path, source_tree: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for top in ("actors", "hub", "mailbox", "transports", "tests", "docs"):
        assert {path.relative_to(source_tree).as_posix() for path in walk(source_tree / top)} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "dev.py", ".ci/run"} <= names


def test_an_installed_wheel_works(built: Path, source_tree: Path, environment: Environment) -> None:
    environment.install(*built.glob("*.whl"))
    imported = environment.python("-c", IMPORT_ALL).split()
    assert set(imported) == modules_of(files_of_the_rooms(source_tree))
    assert environment.agorio("--version") == f"agorio {distribution('agorio').version}\n"
    assert environment.python("-m", "agorio", "--version") == environment.agorio("--version")


def test_a_plain_install_works(own_tree: Path, environment: Environment) -> None:
    environment.install(own_tree)
    assert set(environment.python("-c", IMPORT_ALL).split()) == modules_of(files_of_the_rooms(own_tree))


def test_an_editable_install_sees_new_files(own_tree: Path, environment: Environment) -> None:
    environment.install("--editable", own_tree)
    (own_tree / "hub" / "planted.py").touch()
    assert "agorio.hub.planted" in environment.python("-c", IMPORT_ALL).split()
    assert environment.agorio("--version")


def test_no_room_is_importable_by_its_own_name(own_tree: Path, environment: Environment) -> None:
    environment.install("--editable", own_tree)
    find = "import importlib.util as u; print([n for n in ('actors', 'hub', 'transports') if u.find_spec(n)])"
    assert environment.python("-c", find) == "[]\n"
