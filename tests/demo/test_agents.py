"""The newsroom's agents by themselves: what each answers, what it keeps silent about, what it survives."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from agorio.demo.files import Skipped
from agorio.demo.flow import take_in
from agorio.demo.messages import (
    Amendments,
    Checked,
    CheckJob,
    Declined,
    Drafted,
    ReadJob,
    Settled,
    Source,
    Survey,
    SurveyJob,
    pack,
    unpack,
)
from agorio.demo.newsroom import IN_A_THREAD, Checker, Editor, Fuse, Reader

TEXT = "# The hub\n\nThe hub keeps one log of each session.\n\n## Mail\n\nEvery mail of the hub is kept in a log.\n"


async def source(path: Path, text: str = TEXT) -> Source:
    await trio.Path(path).write_text(text)
    intake = await take_in([path], path.parent)
    assert intake.skipped == []
    return intake.sources[0]


async def test_a_reader_surveys_then_drafts_and_a_checker_verifies(tmp_path: Path) -> None:
    reader = Reader("reader-1")
    survey = unpack(await reader.ask(pack(SurveyJob(await source(tmp_path / "a.md")))))
    assert isinstance(survey, Survey)
    drafted = unpack(await reader.ask(pack(ReadJob(survey, 1, {}))))
    assert isinstance(drafted, Drafted)
    assert drafted.reader == "reader-1"
    checked = unpack(await Checker().ask(pack(CheckJob(drafted))))
    assert isinstance(checked, Checked)
    assert checked.verified == drafted.draft.claims


async def test_a_large_file_is_read_in_a_thread_and_tells_how_far_it_is(tmp_path: Path) -> None:
    seen: list[tuple[str, str, int]] = []
    reader = Reader("reader-1", lambda *step: seen.append(step))
    large = await source(tmp_path / "a.md", "A line of the text.\n" * (IN_A_THREAD // 10))
    answer = unpack(await reader.ask(pack(SurveyJob(large))))
    assert isinstance(answer, Survey)
    assert seen[-1] == ("survey", "a.md", large.size)
    assert len(seen) > 10


@pytest.mark.parametrize("text", ["hello", "{}", pack(SurveyJob(Source("/no/such/file", "file", "", 1)))])
async def test_what_cannot_be_done_is_declined_in_words(text: str) -> None:
    answer = unpack(await Reader("reader-1").ask(text))
    assert isinstance(answer, Declined)
    assert answer.reason.startswith("reader-1: ")


async def test_answers_are_not_answered() -> None:
    src = Source("/x", "x", "", 1)
    for said in (pack(Settled(src, 0, 0)), pack(Declined("no"))):
        assert await Reader("reader-1").ask(said) == ""
    assert await Checker().ask(pack(Amendments(src, (), ()))) == ""
    assert await Editor().ask("anything") == ""


async def test_the_accident_happens_once_and_the_same_turn_then_succeeds(tmp_path: Path) -> None:
    reader, checker = Reader("reader-1"), Checker(fuse=Fuse(turn=1))
    survey = unpack(await reader.ask(pack(SurveyJob(await source(tmp_path / "a.md")))))
    assert isinstance(survey, Survey)
    job = unpack(await reader.ask(pack(ReadJob(survey, 1, {}))))
    assert isinstance(job, Drafted)
    with pytest.raises(RuntimeError, match="planned accident"):
        await checker.ask(pack(CheckJob(job)))
    assert isinstance(unpack(await checker.ask(pack(CheckJob(job)))), Checked)


async def test_intake_sorts_out_what_is_not_worth_an_agents_time(tmp_path: Path) -> None:
    contents = {"a.md": b"text", "b.md": b"text", "c.md": b"", "d.md": b"\0\1\2", "e.md": b"other"}
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
    intake = await take_in([tmp_path / name for name in [*contents, "gone.md"]], tmp_path)
    assert [s.name for s in intake.sources] == ["a.md", "e.md"]
    assert intake.skipped[:3] == [
        Skipped("b.md", "the same as a.md"),
        Skipped("c.md", "empty"),
        Skipped("d.md", "binary, not text"),
    ]
    assert intake.skipped[3].reason.startswith("cannot be read")
