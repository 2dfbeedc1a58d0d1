"""The flow of an edition: files are sorted out, the staff is hired, every file goes to the next free reader.

Two rounds: all files are counted first, since a term's weight depends on the neighbours; then each is drafted and its
draft checked. As many files are worked on at once as there are readers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import attrs
import trio

from ..actors.sessions.identity import Passport, Resume
from .digest import Section
from .files import Skipped, inspect
from .messages import Checked, CheckJob, Drafted, ReadJob, Source, Survey, SurveyJob
from .newsroom import Checker, Client, Editor, Fuse, NoAnswer, OnRead, Reader, Worker, consult, ignore_reading

MakeClient = Callable[[Worker, Passport, Resume], Awaitable[Client]]
"""Registers an agent over whatever link and returns its client."""


@attrs.frozen
class Staff:
    """The agents at work and the clients that lead."""

    editor: Client
    """The editor's client."""
    readers: tuple[str, ...]
    """The readers' names."""
    checker: str
    """The checker's name."""


async def hire(
    make: MakeClient, *, readers: int = 3, fuse: Fuse | None = None, on_read: OnRead = ignore_reading
) -> Staff:
    """Register the newsroom's agents through `make`.

    If cancelled: those registered so far stay registered.
    """
    checker = Checker(fuse=fuse or Fuse(), on_read=on_read)
    names = tuple(f"reader-{number}" for number in range(1, readers + 1))
    for name in names:
        await make(Reader(name, on_read), Passport(name), Resume(["outline", "key terms", "summary"]))
    checker.client = await make(checker, Passport(checker.name), Resume(["fact checking"]))
    return await lead(make, names, checker.name)


async def lead(make: MakeClient, readers: tuple[str, ...], checker: str) -> Staff:
    """Register the editor, who leads those that are at work already. If cancelled: it may be registered."""
    editor = Editor()
    return Staff(await make(editor, Passport(editor.name), Resume(["editing"])), readers, checker)


@attrs.define
class Intake:
    """The files of a run, sorted out before any agent sees them."""

    sources: list[Source] = attrs.Factory(list)
    skipped: list[Skipped] = attrs.Factory(list)


async def take_in(paths: Iterable[Path], base: Path | None = None) -> Intake:
    """Checksum the files; the empty, binary, unreadable and duplicate ones are set aside. They are named from `base`.

    If cancelled: nothing has happened.
    """
    intake, first = Intake(), dict[str, str]()
    for path in paths:
        name = path.relative_to(base).as_posix() if base else str(path)
        found = await trio.to_thread.run_sync(inspect, path, name, lambda done: trio.from_thread.check_cancelled())
        if isinstance(found, Source) and found.sha256 in first:
            found = Skipped(found.name, f"the same as {first[found.sha256]}")
        if isinstance(found, Skipped):
            intake.skipped.append(found)
        else:
            first[found.sha256] = found.name
            intake.sources.append(found)
    return intake


@attrs.define
class Run:
    """One edition: surveys of all files first, since a term's weight depends on its neighbours; then the drafts."""

    staff: Staff
    on_read: OnRead = ignore_reading
    surveys: dict[str, Survey] = attrs.Factory(dict)
    sections: dict[str, Section] = attrs.Factory(dict)
    failed: dict[str, Skipped] = attrs.Factory(dict)

    async def edition(self, sources: Sequence[Source]) -> tuple[list[Section], list[Skipped]]:
        """The digest's sections in the order of the sources, and the files that could not be done.

        If cancelled: questions asked stay asked; their sessions end with their TTL.
        """
        await self.each(sources, self.survey)
        spread = Counter(term for survey in self.surveys.values() for term in survey.terms)
        left = [source for source in sources if source.name in self.surveys]
        await self.each(left, lambda source, reader: self.report(source, reader, spread))
        done = [self.sections[source.name] for source in sources if source.name in self.sections]
        return done, [self.failed[source.name] for source in sources if source.name in self.failed]

    async def each(self, sources: Sequence[Source], work_on: Callable[[Source, str], Awaitable[None]]) -> None:
        """Give every file to the next free reader: as many are worked on at once as there are readers.

        If cancelled: as `edition`.
        """
        queue = iter(sources)

        async def desk(reader: str) -> None:
            for source in queue:
                try:
                    await work_on(source, reader)
                except (NoAnswer, ValueError) as exc:
                    self.failed[source.name] = Skipped(source.name, str(exc))

        async with trio.open_nursery() as nursery:
            for reader in self.staff.readers:
                nursery.start_soon(desk, reader)

    async def survey(self, source: Source, reader: str) -> None:
        """Have one file counted.

        If cancelled: as `edition`.
        """
        answer = await consult(self.staff.editor, reader, SurveyJob(source))
        if not isinstance(answer, Survey):
            raise NoAnswer(f"a survey was answered with {type(answer).__name__}")
        self.surveys[source.name] = answer
        self.on_read("survey", source.name, source.size)

    async def report(self, source: Source, reader: str, spread: Counter[str]) -> None:
        """Have one file drafted and the draft checked.

        If cancelled: as `edition`.
        """
        survey = self.surveys[source.name]
        job = ReadJob(survey, len(self.surveys), {term: spread[term] for term in survey.terms})
        drafted = await consult(self.staff.editor, reader, job)
        self.on_read("read", source.name, source.size)
        if not isinstance(drafted, Drafted):
            raise NoAnswer(f"a reading job was answered with {type(drafted).__name__}")
        checked = await consult(self.staff.editor, self.staff.checker, CheckJob(drafted))
        self.on_read("check", source.name, source.size)
        if not isinstance(checked, Checked):
            raise NoAnswer(f"a draft was answered with {type(checked).__name__}")
        self.sections[source.name] = Section(survey, drafted.draft, checked)
