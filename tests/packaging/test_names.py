"""Our room `mailbox/` shares its name with a module of the standard library; neither may hide the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

GUARD = """
import sysconfig
from pathlib import Path
import mailbox
import agorio.mailbox

library = Path(sysconfig.get_path("stdlib")).resolve()
assert Path(mailbox.__file__).resolve() == library / "mailbox.py", mailbox.__file__
assert mailbox.Maildir
assert agorio.mailbox is not mailbox
"""


def test_both_mailboxes_are_found_in_the_root_of_the_repository() -> None:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-W", "error", "-c", GUARD]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tests_run_without_the_root_on_the_path() -> None:
    on_path = [entry for entry in sys.path if Path(entry).resolve() == ROOT]
    assert not on_path, "run `pytest` or `python -P -m pytest`: with the root on sys.path our mailbox/ hides Python's"
