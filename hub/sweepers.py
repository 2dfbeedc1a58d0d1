"""Sweepers: supervised actors that do a chore at an interval. A failing tick is a crash; the supervisor restarts it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.child import Backoff, Child
from ..actors.sessions.metadata import SessionState
from ..mailbox.errors import AgorioError, InvalidInput, QuarantinedError, StoreError
from .sessions import Sessions

RETRY = 60.0
SOON = 1.0


@attrs.frozen
class _Tick:
    """Do it now."""


class Sweeper(Actor):
    """Runs a chore every so many seconds, the first time after one interval."""

    def __init__(self, chore: Callable[[], Awaitable[Any]], interval: float) -> None:
        self._chore = chore
        self._interval = interval

    async def on_start(self, ctx: Context) -> None:
        """Start the timer. If cancelled: it does not run."""
        ctx.every(self._interval, _Tick())

    async def receive(self, message: Any, ctx: Context) -> Any:
        """Run the chore once. If cancelled: part of it is done, the next tick does the rest."""
        return await self._chore()


def sweeper_child(name: str, chore: Callable[[], Awaitable[Any]], interval: float) -> Child:
    """The spec of a sweeper. Raises `InvalidInput` for an interval that is not positive."""
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval < math.inf:
        raise InvalidInput(f"sweeper {name!r} needs a positive interval in seconds, got {interval!r}", field="interval")
    return Child(
        name,
        lambda: Sweeper(chore, interval),
        grace=1.0,
        capacity=1,
        overflow="drop_newest",
        backoff=Backoff(min=min(interval, 1.0), max=60.0),
        max_restarts=1_000_000,
    )


async def sweep_ttl(sessions: Sessions, now: float) -> int:
    """End what is past its TTL or whose invitations were not answered in time; how many sessions that were.

    If cancelled: the rest is due still.
    """
    await trio.lowlevel.checkpoint()
    ended = 0
    failures: list[Exception] = []
    while (session_id := sessions.deadlines.take_due(now)) is not None:
        try:
            ended += await _end_if_late(sessions, session_id, now)
        except trio.Cancelled:
            sessions.deadlines.add(now, session_id)
            raise
        except Exception as exc:
            exc.add_note(f"in the TTL of session {session_id}")
            failures.append(exc)
            sessions.deadlines.add(now + RETRY, session_id)
    if failures:  # one bad session keeps no other from ending; the sweeper's supervisor reports it
        raise ExceptionGroup("some sessions could not be ended", failures)
    return ended


async def _end_if_late(sessions: Sessions, session_id: str, now: float) -> bool:
    held = sessions.held(session_id)
    if held is None or held.is_terminal:
        return False
    try:
        cell = await sessions.get(session_id)
    except QuarantinedError:  # the session table has reported it
        return False
    except StoreError:  # it could not be read, which may be over at the next sweep
        sessions.deadlines.add(now + SOON, session_id)
        return False
    if cell.live.terminal:
        return False
    setup, is_ending = cell.setup, cell.tail.terminal
    if sessions.clock.time() < now:  # it was set back while the session was read
        sessions.deadlines.add(now + SOON, session_id)
        return False

    def done(error: AgorioError | None) -> None:
        if error is not None:  # the store refused, which may be over at the next sweep
            sessions.deadlines.add(now + SOON, session_id)

    if setup.expires_at is not None and setup.expires_at <= now and not is_ending:
        sessions.close(cell, "ttl_expired", expired=True, done=done)
        return True
    if cell.tail.state is SessionState.PENDING and setup.ack_deadline is not None and setup.ack_deadline <= now:
        sessions.close(cell, "invite_timeout", done=done)
        return True
    if cell.tail.sequence != cell.live.sequence:  # what is under way may be refused, and it is late again
        sessions.deadlines.add(now + SOON, session_id)
    elif setup.expires_at is not None:
        sessions.deadlines.add(setup.expires_at, session_id)
    return False
