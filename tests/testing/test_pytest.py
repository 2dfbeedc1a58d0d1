"""A user's first test files, run by plain pytest with pytest-trio and no configuration but what each case says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testing.test_example_project import run_pytest

pytestmark = pytest.mark.slow

MARKED = """
import pytest
from agorio.testing import *
from agorio.testing import ScriptedAgent, open_test_hub


@pytest.mark.trio
async def test_passes(autojump_clock):
    async with open_test_hub() as net:
        await net.add(ScriptedAgent("bob", "hello"))
        ann = await net.person("ann")
        session = await ann.open("consulting", "bob")
        await session.send("hi")
        await net.assert_transcript(session.session_id, "ann: hi", "bob: hello")


@pytest.mark.trio
async def test_fails(autojump_clock):
    async with open_test_hub() as net:
        await net.add(ScriptedAgent("bob", "hello"))
        ann = await net.person("ann")
        session = await ann.open("consulting", "bob")
        await session.send("hi")
        await net.assert_transcript(session.session_id, "ann: hi", "bob: hullo")
"""
PLAIN = """
from agorio.testing import EchoAgent, check_adapter, open_test_hub, run_in_virtual_time


async def main():
    async with open_test_hub() as net:
        await net.add(EchoAgent())


def test_without_any_plugin():
    run_in_virtual_time(main)
"""
MACHINE = """
from agorio import EV_TEXT
from agorio.testing import SessionLifecycle, invariant


class Talks(SessionLifecycle):
    @invariant()
    async def nobody_says_hello_twice(self):
        for session_id in self.sessions:
            said = [e.text for e in await self.hub.read_wal(session_id) if e.event_type == EV_TEXT]
            assert len(said) < 2, f"{said} is impolite"


TestTalks = Talks.TestCase
"""


def write(folder: Path, code: str, configuration: str = "") -> None:
    (folder / "test_it.py").write_text(code, encoding="utf-8")
    (folder / "pytest.ini").write_text(f"[pytest]\n{configuration}", encoding="utf-8")


@pytest.mark.parametrize(
    "configuration", ["", "filterwarnings = error\n", "filterwarnings = error\ntrio_mode = true\n"]
)
def test_marked_tests_need_no_configuration(tmp_path: Path, configuration: str) -> None:
    write(tmp_path, MARKED, configuration)
    done = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in done.stdout
    for line in ("- bob: hullo", "+ bob: hello", "What the hub has seen:", "    * session.opened"):
        assert line in done.stdout, done.stdout
    assert "warning" not in done.stdout.lower()


def test_trio_mode_needs_no_marks(tmp_path: Path) -> None:
    write(tmp_path, MARKED.replace("@pytest.mark.trio\n", ""), "trio_mode = true\n")
    assert "1 failed, 1 passed" in run_pytest(tmp_path).stdout


def test_the_plugin_is_not_needed_either(tmp_path: Path) -> None:
    write(tmp_path, PLAIN, "filterwarnings = error\n")
    assert "1 passed" in run_pytest(tmp_path, "-p", "no:trio").stdout


def test_a_state_machine_tells_a_short_failing_program(tmp_path: Path) -> None:
    write(tmp_path, MACHINE, "filterwarnings = error\n")
    done = run_pytest(tmp_path)
    assert "AssertionError: ['hello', 'hello'] is impolite" in done.stdout
    told, _, summary = done.stdout.partition("short test summary")  # where CI is set it says all of it once more
    program = told[told.index("state = Talks()") :]
    assert "# ann opens a session with bob: done" in program
    assert program.count("says in session 1 msg.text {'text': 'hello'}: done") == 2
    assert "\nFAILED test_it.py::TestTalks::runTest" in summary
