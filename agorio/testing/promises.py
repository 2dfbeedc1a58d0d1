"""How a conformance check says which promise is broken: by one `AssertionError`, whatever went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio


@contextmanager
def checking(check: Callable[..., object], patience: float) -> Iterator[None]:
    """Run one check of one promise, which is the first line of its docstring."""
    promise = (check.__doc__ or check.__name__).strip().split("\n")[0].rstrip(".")
    try:
        with trio.fail_after(patience):
            yield
    except trio.TooSlowError:
        raise AssertionError(f"{promise}: nothing happens within {patience:g} s") from None
    except Exception as exc:
        problem = _first(exc)
        said = str(problem) if isinstance(problem, AssertionError) else f"it raised {problem!r}"
        raise AssertionError(f"{promise}: {said}") from problem


def _first(exc: BaseException) -> BaseException:
    """What went wrong, out of the groups that nurseries put around it."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
