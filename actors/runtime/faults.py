"""What an exception that leaves an incarnation means: pure functions over exceptions and groups of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...mailbox.errors import ActorError, NetworkError, Refuse, RestartLimitExceeded


def split(exc: BaseException) -> tuple[Exception | None, BaseException | None]:
    """The ordinary part of `exc`, which is one crash however many errors it groups, and the rest, which is not ours.

    The rest is KeyboardInterrupt, SystemExit or the Cancelled of somebody else's scope: it must be raised on.
    """
    if isinstance(exc, BaseExceptionGroup):
        ordinary, rest = exc.split(Exception)
        return (None if ordinary is None else _as_exception(sole(ordinary))), (None if rest is None else sole(rest))
    return (exc, None) if isinstance(exc, Exception) else (None, exc)


def sole(exc: BaseException) -> BaseException:
    """`exc` without the groups around it that hold nothing else."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def refusal_in(exc: Exception) -> Exception | None:
    """The refusal that `exc` is, or the only one that it groups: an answer and not a crash. None for all else."""
    leaf = sole(exc)
    return leaf if isinstance(leaf, Refuse | NetworkError) else None


def both(first: BaseException, second: BaseException, message: str) -> BaseException:
    """One exception for two, neither lost."""
    return BaseExceptionGroup(message, [first, second])


def describe(exc: BaseException) -> str:
    """`exc` in one line, for reasons and messages."""
    return repr(sole(exc))


def _as_exception(exc: BaseException) -> Exception:
    assert isinstance(exc, Exception)
    return exc


@contextmanager
def unwrapped() -> Iterator[None]:
    """Take off the group that our own nursery puts around a single error; groups of the user's own stay."""
    try:
        yield
    except BaseExceptionGroup as group:
        principal = _principal(group)
        if principal is None:
            raise
        if len(group.exceptions) > 1:
            raise principal from principal.__cause__
        context = principal.__context__
        try:
            raise principal
        finally:
            principal.__context__ = context  # raising it here would name our group as its context


def _principal(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The one error to raise for `group`: its only one, or the escalation whose victims all others are.

    A block that asks an actor while the tree gives up gets `ActorStopped`; it is kept as the escalation's context.
    """
    if len(group.exceptions) == 1:
        return group.exceptions[0]
    if all(isinstance(exc, ActorError) for exc in group.exceptions):
        return next((exc for exc in group.exceptions if isinstance(exc, RestartLimitExceeded)), None)
    return None
