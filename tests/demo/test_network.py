"""The newsroom on a real hub: real files in, a digest out, nothing lost when an agent crashes in the middle."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trio
from rich.console import Console

from agorio.demo.main import main
from agorio.demo.network import publish
from agorio.demo.options import Options
from agorio.demo.screen import Screen
from agorio.mailbox.envelope import Envelope

MAIL = """# Mail

Every mailbox of the hub is bounded (unless somebody wants it otherwise), so a sender that is faster than its reader
is told so at once and can decide by itself what should become of the rest of all its many letters and parcels here.

The hub keeps one log of each session and reads it back after a restart.
"""
LOG = """# The log

The log of a session is the truth, and the hub keeps the log in order.

## Order

Each session has one log, and each log has one writer.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "mail.md").write_text(MAIL)
    (texts / "log.md").write_text(LOG)
    (texts / "empty.md").write_text("")
    return texts


def screen() -> tuple[Screen, Callable[[], str]]:
    """A screen and what it shows, its line breaks and frames taken out."""
    out = io.StringIO()
    return Screen(Console(file=out, width=80, color_system=None)), lambda: " ".join(
        out.getvalue().replace("│", " ").split()
    )


def options(folder: Path, *, crash: bool = False) -> Options:
    names = ("empty.md", "log.md", "mail.md")
    return Options(tuple(folder / name for name in names), folder, folder.parent / "digest.md", crash)


async def digest(folder: Path) -> str:
    return await trio.Path(folder.parent / "digest.md").read_text()


async def test_files_become_a_digest(folder: Path) -> None:
    shown, text = screen()
    assert await publish(options(folder), shown) == 0
    written = await digest(folder)
    assert "# Digest of 2 documents" in written
    assert "- Each session has one log, and each log has one writer. (l. 7)" in written
    assert "- empty.md: empty" in written
    assert "left out: empty.md: empty" in text()
    assert "0 dead-lettered; 0 pending; 6 questions asked, 6 answered: nothing was lost" in text()


async def test_the_talk_is_shown_with_its_correction(folder: Path) -> None:
    shown, text = screen()
    assert await publish(options(folder), shown) == 0
    assert "editor → reader-1" in text()
    assert "left out: unless" in text()
    assert "mail.md: corrected p1, corrected s1" in text()
    assert "mail.md: settled, 2 corrected, 0 withdrawn" in text()
    assert (await digest(folder)).count("left out: unless") == 1


async def test_a_crash_in_the_middle_of_a_turn_loses_nothing(folder: Path) -> None:
    await publish(options(folder), screen()[0])
    expected = await digest(folder)
    shown, text = screen()
    assert await publish(options(folder, crash=True), shown) == 0
    assert "the checker's pencil broke" in text()
    assert "is restarted as incarnation 2" in text()
    assert "is back in the inbox of checker and will be delivered again" in text()
    assert "1 crashed in a turn, 1 delivered again and answered: nothing was lost" in text()
    assert await digest(folder) == expected


async def test_the_trail_and_the_tree_are_shown_within_80_columns(folder: Path) -> None:
    out = io.StringIO()
    await publish(options(folder), Screen(Console(file=out, width=80, color_system=None)))
    assert "session_created" in out.getvalue()
    assert "Supervision tree" in out.getvalue()
    assert "├── reader-1" in out.getvalue()
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())


async def test_a_file_that_vanishes_is_left_out_with_its_reason(folder: Path) -> None:
    shown, text = screen()
    gone = Options((folder / "log.md", folder / "gone.md"), folder, folder.parent / "digest.md")
    assert await publish(gone, shown) == 0
    assert "left out: gone.md: cannot be read" in text()


async def test_nothing_to_read_is_said_and_no_digest_written(folder: Path) -> None:
    shown, text = screen()
    nothing = Options((folder / "empty.md",), folder, folder.parent / "digest.md")
    assert await publish(nothing, shown) == 1
    assert "there is nothing to read" in text()
    assert not await trio.Path(nothing.out).exists()


def test_the_command_runs_twice_over_the_same_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "digest.md"
    for _ in range(2):
        assert main([str(folder), "--out", str(out), "--quiet"]) == 0
        assert "2 documents digested" in capsys.readouterr().out
    assert "# Digest of 2 documents" in out.read_text()


async def test_a_file_that_changes_meanwhile_is_not_reported_on_and_the_run_says_so(folder: Path) -> None:
    class Meddler(Screen):
        """Somebody saves the file just as its reader reports on it."""

        def said(self, envelope: Envelope, hearers: Iterable[str]) -> None:
            if "log.md: 7 lines" in envelope.text:
                (folder / "log.md").write_text("something else\n")

    out = io.StringIO()
    assert await publish(options(folder), Meddler(Console(file=out, width=200, color_system=None))) == 1
    assert "not done: log.md: " in out.getvalue()
    assert "log.md was changed while it was being read" in out.getvalue()
    assert "# Digest of 1 document\n" in await digest(folder)
