"""The newsroom: readers, a checker and an editor, plain Python agents that talk in real sessions.

    editor   ──consulting──▶  reader    count the words; then: draft outline, summary, key terms
    editor   ──consulting──▶  checker   verify this draft
    checker  ──conversation─▶ reader    these claims do not hold: correct or withdraw them
    editor                              puts what holds into the digest

No agent keeps anything between two turns, so a turn that failed can be run again from its envelope alone. None knows
which link it is on: the staff is registered through a callable that returns each agent's client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import attrs
import trio

from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError
from ..mailbox.events import EV_TEXT, SESSION_END
from . import work
from .claims import Claim, Objection
from .files import Tick
from .messages import (
    Amendments,
    Checked,
    CheckJob,
    Declined,
    Drafted,
    Message,
    Objections,
    ReadJob,
    Settled,
    Source,
    SurveyJob,
    pack,
    unpack,
)

IN_A_THREAD = 256 << 10
"""Bytes above which a file is read in a worker thread, so that no other agent waits for it."""
MAX_ROUNDS = 3
"""Rounds of objections before the checker strikes a claim out itself."""
PATIENCE = 900.0
"""Seconds to wait for a colleague's answer."""

T = TypeVar("T")


class Talk(Protocol):
    """What the newsroom uses of a session."""

    @property
    def session_id(self) -> str: ...

    async def send(self, text: str, /) -> object: ...

    async def close(self) -> object: ...


class Client(Protocol):
    """What the newsroom uses of an agent's client."""

    @property
    def agent_id(self) -> str: ...

    async def open(self, *, type: str, target: list[str]) -> Talk: ...

    async def wait_for_session_event(
        self,
        session_id: str,
        predicate: Callable[[Envelope], bool],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Envelope: ...


class Worker(Protocol):
    """An agent of the newsroom."""

    @property
    def name(self) -> str: ...

    async def ask(self, text: str) -> str: ...


OnRead = Callable[[str, str, int], None]
"""Called with a step (`survey`, `read`, `check`), a file's name and the bytes done; may come from a worker thread."""


def ignore_reading(step: str, name: str, done: int) -> None:
    """An `OnRead` for nobody."""


class NoAnswer(Exception):
    """A colleague did not answer, or answered something else."""


async def heard(client: Client, session_id: str, after: int) -> Envelope:
    """The next text of somebody else in a session; `NoAnswer` if it ends before.

    If cancelled: nothing has happened.
    """

    def matches(envelope: Envelope) -> bool:
        said = envelope.event_type == EV_TEXT and envelope.sender_id != client.agent_id
        return envelope.sequence > after and (said or envelope.event_type in SESSION_END)

    try:
        envelope = await client.wait_for_session_event(session_id, matches, timeout=PATIENCE)
    except (AgorioError, TimeoutError) as exc:
        raise NoAnswer(str(exc)) from exc
    if envelope.event_type != EV_TEXT:
        raise NoAnswer(f"the session ended without an answer ({envelope.event_data.get('reason', 'no reason given')})")
    return envelope


async def consult(client: Client, target: str, message: Message) -> Message:
    """Ask a colleague one question in a consulting session and return the answer.

    If cancelled: the question may have been asked; the session ends with its TTL.
    """
    try:
        session = await client.open(type="consulting", target=[target])
        await session.send(pack(message))
    except AgorioError as exc:
        raise NoAnswer(f"{target} could not be asked: {exc}") from exc
    answer = unpack((await heard(client, session.session_id, 0)).text)
    if isinstance(answer, Declined):
        raise NoAnswer(answer.reason)
    return answer


async def with_file(source: Source, fn: Callable[[Tick], T], tick: Tick) -> T:
    """Run file work here, or in a thread for a large file; it can be cancelled as it reads.

    If cancelled: the work is given up at its next thousand lines.
    """
    if source.size <= IN_A_THREAD:
        await trio.lowlevel.checkpoint()
        return fn(tick)

    def checked_tick(done: int) -> None:
        trio.from_thread.check_cancelled()
        tick(done)

    return await trio.to_thread.run_sync(fn, checked_tick)


@attrs.define
class Fuse:
    """Burns once, in the given turn of its agent: the planned accident of `--crash`."""

    turn: int = 0
    """Which turn; 0 for never."""
    turns: int = 0
    burnt: bool = False

    def spend(self) -> None:
        """Count a turn; raise in the chosen one."""
        self.turns += 1
        if self.turns == self.turn and not self.burnt:
            self.burnt = True
            raise RuntimeError("the checker's pencil broke in the middle of a check (a planned accident)")


@attrs.define
class Reader:
    """Counts, drafts and mends."""

    name: str
    on_read: OnRead = ignore_reading

    async def ask(self, text: str) -> str:
        """Do one job; an answer to nothing is nothing.

        If cancelled: nothing has happened.
        """
        try:
            answer = await self._answer(unpack(text))
        except (ValueError, OSError, work.FileChanged) as exc:
            answer = Declined(f"{self.name}: {exc}")
        return pack(answer) if answer else ""

    async def _answer(self, message: Message) -> Message | None:
        match message:
            case SurveyJob(source):
                return await with_file(source, lambda t: work.survey(source, t), self._tick("survey", source))
            case ReadJob(survey):
                source = survey.source
                return await with_file(source, lambda t: work.read(message, self.name, t), self._tick("read", source))
            case Objections(source):
                return await with_file(source, lambda t: work.mend(message, t), self._tick("mend", source))
            case _:
                return None

    def _tick(self, step: str, source: Source) -> Tick:
        return lambda done: self.on_read(step, source.name, done)


@attrs.define
class Checker:
    """Verifies drafts against their files and settles with the reader what does not hold."""

    name: str = "checker"
    client: Client | None = None
    fuse: Fuse = attrs.Factory(Fuse)
    on_read: OnRead = ignore_reading

    async def ask(self, text: str) -> str:
        """Verify one draft. What a reader says within a conversation is heard there, so it is no job.

        If cancelled: a conversation begun ends with its TTL.
        """
        try:
            message = unpack(text)
            if not isinstance(message, CheckJob):
                return ""
            return pack(await self.verify(message.drafted))
        except (ValueError, OSError, work.FileChanged, NoAnswer) as exc:
            return pack(Declined(f"{self.name}: {exc}"))

    async def verify(self, drafted: Drafted) -> Checked:
        """The claims of a draft that hold, after talking to its reader about those that do not.

        If cancelled: a conversation begun ends with its TTL.
        """
        claims = {claim.claim_id: claim for claim in drafted.draft.claims}
        faults, remarks = await self.look(drafted.source, list(claims.values()))
        self.fuse.spend()
        first = {fault.claim.claim_id: fault for fault in faults}
        final = {claim_id: claim for claim_id, claim in claims.items() if claim_id not in first}
        if faults:
            final |= await self.discuss(drafted, faults)
        return work.checked(drafted, final, first, remarks)

    async def look(self, source: Source, claims: Sequence[Claim]) -> tuple[list[Objection], list[str]]:
        """The faults of some claims, from the file itself.

        If cancelled: nothing has happened.
        """
        tick: Tick = lambda done: self.on_read("check", source.name, done)  # noqa: E731  a named type for a closure
        return await with_file(source, lambda t: work.verify(source, claims, t), tick)

    async def discuss(self, drafted: Drafted, faults: list[Objection]) -> dict[str, Claim]:
        """Send claims back to their reader until they hold or are withdrawn; the accepted ones.

        If cancelled: the conversation ends with its TTL.
        """
        assert self.client is not None, "the checker was not given its client"
        accepted: dict[str, Claim] = {}
        sent, after = len(faults), 0
        session = await self.client.open(type="conversation", target=[drafted.reader])
        try:
            for _ in range(MAX_ROUNDS):
                await session.send(pack(Objections(drafted.source, tuple(faults))))
                envelope = await heard(self.client, session.session_id, after)
                after = envelope.sequence
                mended = amendments(unpack(envelope.text))
                faults, _remarks = await self.look(drafted.source, mended.claims)
                refused = {fault.claim.claim_id for fault in faults}
                accepted |= {c.claim_id: c for c in mended.claims if c.claim_id not in refused}
                if not faults:
                    break
            await session.send(pack(Settled(drafted.source, len(accepted), sent - len(accepted))))
        finally:
            await session.close()
        return accepted


def amendments(answer: Message) -> Amendments:
    """A reader's answer to objections; raises `NoAnswer` for any other."""
    if isinstance(answer, Declined):
        raise NoAnswer(answer.reason)
    if not isinstance(answer, Amendments):
        raise NoAnswer(f"objections were answered with {type(answer).__name__}")
    return answer


@attrs.define
class Editor:
    """Gives out the work; its client leads the sessions, so it has nothing to answer."""

    name: str = "editor"

    async def ask(self, text: str) -> str:
        """Nothing: the answers to its questions are heard where they were asked.

        If cancelled: nothing has happened.
        """
        await trio.lowlevel.checkpoint()
        return ""
