"""Which sessions there are: those with work left, then those that have ended."""

from __future__ import annotations

from contextlib import suppress

from ..actors.sessions.metadata import SessionMetadata
from ..mailbox.errors import AgorioError, InvalidInput, QuarantinedError
from .dormant import Dormant
from .records import StoredSession, from_bytes
from .session import SessionCell
from .sessions import Sessions
from .stores.protocol import KnowledgeStore

STATES = ("open", "pending", "active", "closing", "closed", "expired")
ENDED = ("closed", "expired")
PAGE = 1024


async def list_sessions(
    sessions: Sessions, store: KnowledgeStore, members: list[str] | None, state: str | None, limit: int
) -> list[SessionMetadata]:
    """Filter first, then cut: the newest `limit` of all that fit. If cancelled: nothing has changed."""
    if state is not None and state not in STATES:
        raise InvalidInput(f"state={state!r} is unknown; use one of {', '.join(STATES)}", field="state")
    if limit < 0:
        raise InvalidInput(f"limit={limit} must not be negative", field="limit")
    found = {cell.session_id: cell.metadata() for cell in sessions.cells() if _fits(cell, members, state)}
    resting = [one.session_id for one in sessions.dormant() if _rests(one, members, state)]
    for session_id in sorted(resting, reverse=True)[: max(0, limit)]:  # no more of them can be among the newest
        with suppress(QuarantinedError):  # the session table has reported it
            found[session_id] = (await sessions.get(session_id)).metadata()
    if state is None or state in ENDED:
        for session_id in await _ended(sessions, store, members, state, limit):
            if session_id not in found:
                with suppress(QuarantinedError):  # one that cannot be folded hides no other
                    found[session_id] = (await sessions.get(session_id)).metadata()
    return sorted(found.values(), key=lambda m: m.session_id, reverse=True)[: max(0, limit)]


def _fits(cell: SessionCell, members: list[str] | None, state: str | None) -> bool:
    live = cell.live
    if state is not None and not (live.state == state or (state == "open" and not live.terminal)):
        return False
    return members is None or any(who in cell.setup.participants for who in members)


def _rests(dormant: Dormant, members: list[str] | None, state: str | None) -> bool:
    if state is not None and not (dormant.mark.state == state or (state == "open" and not dormant.is_terminal)):
        return False
    return members is None or any(who in dormant.participants for who in members)


async def _ended(
    sessions: Sessions, store: KnowledgeStore, members: list[str] | None, state: str | None, limit: int
) -> list[str]:
    """Ids of ended sessions, newest first, at most `limit`."""
    found: list[str] = []
    after = ""
    while page := await store.scan("session/", after, PAGE):
        after = page[-1].key
        for document in page:
            try:
                stored = from_bytes(document.body, StoredSession)
            except AgorioError as error:
                sessions.quarantined[document.key.partition("/")[2]] = str(error)
                continue
            if stored.state not in ENDED or (state is not None and stored.state != state):
                continue
            if members is None or any(who in stored.setup.participants for who in members):
                found.append(stored.setup.session_id)
    return found[::-1][: max(0, limit)]
