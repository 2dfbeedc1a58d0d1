"""dev.py makes its environment when it has to, only then, and never over somebody else's.

It runs beside a project of a few lines that builds itself, so that nothing is fetched. The project's command `agorio`
prints its arguments, and so does its `pytest`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the paths are POSIX")]

DEV = Path(__file__).parents[2] / "dev.py"

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = '''
import zipfile

METADATA = """Metadata-Version: 2.1
Name: agorio
Version: 1
Provides-Extra: test
"""
WHEEL = """Wheel-Version: 1.0
Generator: by hand
Root-Is-Purelib: true
Tag: py3-none-any
"""
SCRIPTS = """[console_scripts]
agorio = echo:main
pytest = echo:main
"""
ECHO = "import sys\\n\\ndef main():\\n    print('echo', *sys.argv[1:])\\n"


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "agorio-1-py3-none-any.whl"
    files = {"METADATA": METADATA, "WHEEL": WHEEL, "entry_points.txt": SCRIPTS, "RECORD": ""}
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr("echo.py", ECHO)
        for file, text in files.items():
            wheel.writestr(f"agorio-1.dist-info/{file}", text)
    return name
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(DEV, tmp_path)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    return tmp_path


def dev(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "AGORIO_VENV"} | {"PIP_NO_INDEX": "1"}
    command = [sys.executable, str(project / "dev.py"), *args]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)


def succeed(project: Path, *args: str) -> str:
    done = dev(project, *args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_environment_is_made_once_and_completed(project: Path) -> None:
    first = succeed(project, "demo", "some.txt")
    assert "making" in first
    assert first.endswith("echo demo some.txt\n")
    (project / ".venv" / "kept").touch()
    assert succeed(project, "test", "-k", "inbox").endswith("echo -n auto --dist worksteal -k inbox\n")
    assert succeed(project, "demo").endswith("echo demo\n")
    assert (project / ".venv" / "kept").exists()


@pytest.mark.parametrize("damage", ["interrupted", "changed"])
def test_a_doubtful_environment_is_made_anew(project: Path, damage: str) -> None:
    succeed(project, "demo")
    leftover = project / ".venv" / "leftover"
    leftover.touch()
    if damage == "interrupted":
        (project / ".venv" / ".installed").unlink()
    else:
        (project / "pyproject.toml").write_text(PYPROJECT + "# other\n")
    assert succeed(project, "demo").endswith("echo demo\n")
    assert not leftover.exists()


def test_a_failed_installation_is_reported_and_tried_again(project: Path) -> None:
    (project / "backend.py").write_text("raise SystemExit('no disk')")
    failed = dev(project, "demo")
    assert failed.returncode != 0
    assert "no disk" in failed.stderr
    (project / "backend.py").write_text(BACKEND)
    assert succeed(project, "demo").endswith("echo demo\n")


def test_somebody_elses_environment_is_left_alone(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "precious").touch()
    refused = dev(project, "demo")
    assert refused.returncode == 1
    assert "AGORIO_VENV" in refused.stderr
    assert (project / ".venv" / "precious").exists()


@pytest.mark.parametrize("args", [(), ("dance",)])
def test_an_unknown_command_shows_the_known_ones(project: Path, args: tuple[str, ...]) -> None:
    done = dev(project, *args)
    assert done.returncode == 2
    assert "dev.py demo" in done.stdout
