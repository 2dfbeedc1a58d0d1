"""What is known of an open session that nobody has touched since the hub was opened: two small documents, no fold.

The outline is written when a session is opened and never changes. The bookmark says where the session stands: it is
written lazily, so it may be older than the log. Then its sequence is below the log's, and the session is folded at once
instead: neither is ever trusted over the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import msgspec

from ..actors.sessions.expectations import EVALUATORS, seconds_of
from ..actors.sessions.lifecycle import Live
from ..actors.sessions.metadata import TERMINAL, SessionSetup, SessionState
from ..mailbox.errors import AgorioError, QuarantinedError
from .session import SessionCell
from .session_log import Cursors, SessionLog

Waiting = dict[str, tuple[int, int]]
Attempts = dict[str, dict[int, int]]
Woken = Callable[[SessionCell | None, AgorioError | None], None]


@attrs.frozen
class Outline:
    """What was fixed when the session was opened, as far as it must be known without reading its setup."""

    participants: tuple[str, ...]
    """The members' ids, the creator first."""
    expires_at: float | None = None
    """Seconds since 1970 at which its TTL ends."""
    least: float | None = None
    """The shortest of its expectations in seconds; None where it has none."""
    is_custom: bool = False
    """Whether it has expectations of the program's own, which a program may come to know later."""
    type: tuple[str, int] | None = None
    """Its session type and that one's version; None where an older hub has not noted it."""

    def to_bytes(self) -> bytes:
        """As JSON; ten thousand of them may lie in a store in memory."""
        kind = [] if self.type is None else ["/".join(map(str, self.type))]
        return msgspec.json.encode([self.expires_at, self.least, self.is_custom, *kind, *self.participants])


def outline_of(setup: SessionSetup) -> Outline:
    """The outline of a session."""
    seconds = [seconds_of(one) for one in setup.expectations if one.name in EVALUATORS]
    is_custom = len(seconds) < len(setup.expectations)
    kind = (setup.manifest.type, setup.manifest.version)
    return Outline(setup.participants, setup.expires_at, min(seconds, default=None), is_custom, kind)


def outline_from_bytes(body: bytes) -> Outline | None:
    """A stored outline; None where there is none that can be read, as in a store of an older hub."""
    try:
        expires_at, least, is_custom, *participants = msgspec.json.decode(body, type=list[float | str | bool | None])
    except (msgspec.MsgspecError, ValueError):
        return None
    if isinstance(expires_at, str) or isinstance(least, str) or not participants:
        return None
    name, slash, version = str(participants[0]).rpartition("/")  # an id has no slash
    kind = (name, int(version)) if slash and version.isdecimal() else None
    members = tuple(map(str, participants[1:] if slash else participants))
    return Outline(members, expires_at, least, bool(is_custom), kind)


@attrs.frozen
class Mail:
    """The deliveries of a session that are not handled."""

    waiting: Waiting = attrs.field(factory=dict)
    """Per member how many wait for it: those that take a slot of its inbox, and those that do not."""
    attempts: Attempts = attrs.field(factory=dict)
    """Per member how often a delivery of which sequence has gone out, where that was more than once."""
    is_urgent: bool = False
    """Whether one of them has a time to live, so that it must not wait in the store unread."""


@attrs.frozen
class Bookmark:
    """Where a session stands, who has handled what, and what is due."""

    cursors: Cursors
    """As in `SessionLog`."""
    sequence: int = 0
    """The newest envelope's; what the bookmark says holds for a log that ends there."""
    newest_id: str = ""
    """An id above those of all its envelopes, so that the next hub mints none below it."""
    state: SessionState = SessionState.PENDING
    """Where it is in its life."""
    is_quiet: bool = False
    """Whether everybody has handled everything."""
    due: float | None = None
    """No expectation fires before this instant; None where nobody is waited for."""
    tasks: int = 0
    """How many tasks are running."""
    departed: tuple[str, ...] = ()
    """Members that were unregistered."""
    mail: Mail = Mail()
    """What waits."""

    @property
    def is_terminal(self) -> bool:
        """Whether the session has ended for good."""
        return self.state in TERMINAL

    def to_bytes(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


def bookmark_of(live: Live, log: SessionLog, due: float | None, newest_id: str, mail: Mail) -> Bookmark:
    """The bookmark of a session in memory."""
    return Bookmark(
        cursors=log.cursors(),
        sequence=live.sequence,
        newest_id=newest_id,
        state=live.state,
        is_quiet=not log.unsettled,
        due=None if due is None or math.isinf(due) else due,
        tasks=len(live.tasks),
        departed=live.departed,
        mail=mail,
    )


def bookmark_from_bytes(body: bytes) -> Bookmark:
    """A stored bookmark; of an older hub it is the bare cursors, and of sequence 0. Raises `QuarantinedError`."""
    try:
        return msgspec.json.decode(body, type=Bookmark)
    except msgspec.MsgspecError:
        try:
            return Bookmark(msgspec.json.decode(body, type=Cursors))
        except msgspec.MsgspecError as exc:
            raise QuarantinedError(f"a stored bookmark is unreadable: {exc}") from exc


@attrs.define(eq=False)
class Dormant:
    """An open session, or an ended one with mail that is not handled, that is not folded."""

    session_id: str
    """The session."""
    participants: tuple[str, ...]
    """The members' ids, the creator first."""
    mark: Bookmark
    """Where it stands; its cursors are out of date as soon as somebody handles something."""
    log: SessionLog
    """Who has handled what."""
    unread: Waiting = attrs.field(factory=dict)
    """Mail that is still in the store only, though it takes its slots: who has how much of it."""
    waiting: list[Woken] = attrs.field(factory=list)
    """Whoever waits for the fold."""

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.mark.is_terminal

    @property
    def settled(self) -> bool:
        """Whether it has ended and everybody has handled everything."""
        return self.is_terminal and not self.log.unsettled

    def bookmark(self, mail: Mail, newest_id: str) -> Bookmark:
        """The bookmark as of now: only receipts can have come, and only for mail that is not unread."""
        return attrs.evolve(
            self.mark,
            newest_id=newest_id,
            cursors=self.log.cursors(),
            is_quiet=not self.log.unsettled,
            mail=self.mark.mail if self.unread else mail,
        )
