#!/usr/bin/env python3
"""Everything a developer runs, on a machine with nothing but Python 3.11 and pip.

    python3 dev.py demo [PATH ...]      the demo
    python3 dev.py test [pytest args]   the test suite
    python3 dev.py lint                 linter, format, types, spelling, import layers
    python3 dev.py ci [pytest args]     lint, then the tests with branch coverage

The first call makes a virtual environment and installs agorio into it in editable form; later calls reuse it. It is
`.venv` here, or the folder that AGORIO_VENV names.

Some systems package Python without ensurepip, so that `python3 -m venv` fails there, and forbid pip outside of a
virtual environment. Both are avoided: the environment is made without pip and filled from outside (`pip --python`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

OLDEST_PYTHON = (3, 11)
OLDEST_PIP = (22, 3)  # the first with `--python`

ROOT = pathlib.Path(__file__).resolve().parent
VENV = ROOT / os.environ.get("AGORIO_VENV", ".venv")
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
MARK = VENV / ".made-by-dev.py"
STAMP = VENV / ".installed"

LINTERS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("codespell",),
    ("lint-imports", "--no-logo"),
)


def main(argv: list[str]) -> int:
    commands = {"demo": demo, "test": test, "lint": lint, "ci": ci}
    if not argv or argv[0] not in commands:
        print(__doc__)
        return 0 if argv[:1] in (["-h"], ["--help"]) else 2
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"agorio needs Python {_dotted(OLDEST_PYTHON)} or later; this is {_dotted(sys.version_info[:3])}")
    return commands[argv[0]](argv[1:])


def demo(args: list[str]) -> int:
    ensure_venv()
    # In the caller's folder, not in the root: PATH arguments are the caller's.
    return run("agorio", "demo", *args, cwd=pathlib.Path.cwd())


def test(args: list[str]) -> int:
    """Run the tests on every core; `-n 0` runs them one after the other."""
    ensure_venv("test")
    return run("pytest", "-n", "auto", "--dist", "worksteal", *args)


def lint(args: list[str]) -> int:
    """Run every linter even if one complains: one round shows all there is to mend."""
    if args:
        sys.exit("lint takes no arguments")
    ensure_venv("lint", "test")  # mypy reads the tests too, and they import the test tools
    failed = [command for command in LINTERS if run(*command) != 0]
    for command in failed:
        print("failed:", *command, file=sys.stderr)
    return 1 if failed else 0


def ci(args: list[str]) -> int:
    return lint([]) or test(["--cov", "--cov-report=term-missing:skip-covered", *args])


def run(tool: str, *args: str, cwd: pathlib.Path = ROOT) -> int:
    """Run a tool of the virtual environment and return its exit code."""
    print("$", tool, *args, flush=True)
    return subprocess.run([BIN / tool, *args], cwd=cwd, env=environment(), check=False).returncode


def environment() -> dict[str, str]:
    """The caller's environment without what would change where Python finds modules.

    PYTHONSAFEPATH keeps the root off `sys.path`: there our mailbox/ would shadow the standard library's module.
    """
    kept = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    return {**kept, "PYTHONSAFEPATH": "1"}


def ensure_venv(*extras: str) -> None:
    """Make the environment, or add the extras that it lacks.

    The stamp is taken away before an install and written after it, so that an interrupted one shows: then, and when
    what it was made from has changed, the environment is made again from nothing.
    """
    have = installed_extras()
    if have is not None and have.issuperset(extras):
        return
    if have is None:
        remove_venv()
        make_venv()
    STAMP.unlink(missing_ok=True)
    wanted = sorted({*(have or ()), *extras})
    install(f"{ROOT}[{','.join(wanted)}]" if wanted else str(ROOT))
    STAMP.write_text("\n".join([fingerprint(), *wanted]))


def installed_extras() -> set[str] | None:
    """The extras that the environment holds, or None if it is missing, half made or out of date."""
    if not (STAMP.is_file() and PYTHON.exists()):
        return None
    made_from, *extras = STAMP.read_text().splitlines()
    return set(extras) if made_from == fingerprint() else None


def fingerprint() -> str:
    """What decides the content of the environment: the project's metadata, the interpreter, and where the tree lies."""
    parts = ((ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), sys.base_prefix.encode(), bytes(VENV))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def remove_venv() -> None:
    if VENV.exists() and not MARK.exists():
        sys.exit(f"{VENV} was not made by dev.py. Remove it, or name another folder in AGORIO_VENV.")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(VENV)


def make_venv() -> None:
    print(f"making {VENV} (first use, or pyproject.toml has changed)", flush=True)
    VENV.mkdir(parents=True)
    MARK.touch()
    without_pip = ["--without-pip"] if outer_pip() else []
    checked(sys.executable, "-m", "venv", *without_pip, str(VENV))


def install(what: str) -> None:
    inside, outside = [str(PYTHON), "-m", "pip"], [sys.executable, "-m", "pip", "--python", str(VENV)]
    pip = outside if outer_pip() else inside
    checked(*pip, "--disable-pip-version-check", "install", "--quiet", "--editable", what)


def outer_pip() -> bool:
    """Whether this Python's pip can install into another environment; if not, venv must be able to bring its own."""
    if pip_version() >= OLDEST_PIP:
        return True
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"dev.py needs pip {_dotted(OLDEST_PIP)} or later for {sys.executable}, or else the module ensurepip. "
            "Install your system's package for one of them (often named python3-pip or python3-venv)."
        )
    return False


def pip_version() -> tuple[int, ...]:
    """The version of this Python's pip, or () where there is none."""
    command = [sys.executable, "-m", "pip", "--version"]  # "pip 23.0.1 from ..."
    shown = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        return ()
    return tuple(int(part) for part in shown.stdout.split()[1].split(".")[:2])


def checked(*command: str) -> None:
    """Run a step of the installation; if it fails, stop with its exit code: it has printed its own reason."""
    code = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    if code != 0:
        sys.exit(code)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
