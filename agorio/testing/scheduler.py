"""Runs that repeat bit for bit from a seed. The only file that touches what trio keeps private.

trio runs the tasks that are ready in a random order, on purpose. Two private names of its run loop make that order a
function of a seed: a flag that sorts each batch before shuffling it, and the generator that shuffles. trio's own tests
and Hypothesis' use the same two. A trio without them is refused with a clear message: a run that only seems to repeat
is worse than none.

Three things of ours would otherwise differ between runs as well: an actor's time slice, measured in real time, the
numbers of clients, counted per process, and the jitter with which a lost connection is made again.
"""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import trio
import trio.testing

from ..actors.agents import hub_client, resuming_link
from ..actors.runtime import cell

T = TypeVar("T")
ABORT, WAITING = "_attempt_abort", "_abort_func"
FLAG, CHANCE = "_ALLOW_DETERMINISTIC_SCHEDULING", "_r"


class NoSeededScheduler(RuntimeError):
    """This trio cannot be made to repeat a run. Use a trio from 0.31 to 0.35, or another agorio."""


def trio_internals() -> Any:
    """trio's run loop module, if it has the two names. Raises `NoSeededScheduler`."""
    try:
        loop = importlib.import_module("trio._core._run")
    except ImportError:
        loop = None
    if isinstance(getattr(loop, FLAG, None), bool) and isinstance(getattr(loop, CHANCE, None), random.Random):
        return loop
    raise NoSeededScheduler(
        f"trio {trio.__version__} has no {FLAG} and {CHANCE} in trio._core._run any more, so that a simulation could "
        "not be repeated; it is known to work with trio 0.31 to 0.35"
    )


@contextmanager
def seeded_scheduler(seed: int | str) -> Iterator[None]:
    """Inside the block `trio.run` schedules tasks in an order that depends on the seed alone."""
    loop = trio_internals()
    chance: random.Random = getattr(loop, CHANCE)
    was_allowed, before = getattr(loop, FLAG), chance.getstate()
    setattr(loop, FLAG, True)
    chance.seed(f"{seed}/scheduler")
    try:
        with _no_real_time(), _numbers_from_one(), _seeded_links(seed):
            yield
    finally:
        chance.setstate(before)
        setattr(loop, FLAG, was_allowed)


@contextmanager
def _no_real_time() -> Iterator[None]:
    """An actor's slice ends after a millisecond of real time; here only the count of messages ends it."""
    name = "perf_counter"
    before = getattr(cell, name)
    setattr(cell, name, trio.current_time)
    try:
        yield
    finally:
        setattr(cell, name, before)


@contextmanager
def _numbers_from_one() -> Iterator[None]:
    name = "_numbers"
    before = getattr(hub_client, name)
    setattr(hub_client, name, itertools.count(1))
    try:
        yield
    finally:
        setattr(hub_client, name, before)


@contextmanager
def _seeded_links(seed: int | str) -> Iterator[None]:
    """Links that make their connections good draw keys and pauses from the seed, each from a generator of its own."""
    name, numbers = "random", itertools.count(1)
    before = getattr(resuming_link, name)
    setattr(resuming_link, name, SimpleNamespace(Random=lambda: random.Random(f"{seed}/links/{next(numbers)}")))
    try:
        yield
    finally:
        setattr(resuming_link, name, before)


def run_seeded(
    main: Callable[..., Awaitable[T]],
    *args: Any,
    seed: int | str,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """`trio.run` in virtual time and in an order that depends on the seed alone. Raises `NoSeededScheduler`."""
    with seeded_scheduler(seed):
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(main, *args, clock=clock, instruments=list(instruments))


class Deadlock(BaseException):
    """Every task waits for another one, for ever. It ends a run that nothing else could end, shields or not."""


def free_all() -> list[str]:
    """Wake every task that waits on its own account, with `Deadlock`; where each of them was."""
    found: list[str] = []
    root = trio.lowlevel.current_root_task()
    for task in _descendants(root) if root is not None else ():
        if getattr(task, WAITING) is not None:
            if not any(nursery.child_tasks for nursery in task.child_nurseries):
                found.append(f"{task.name} in {_place(task)}")
            getattr(task, ABORT)(_raise_deadlock)  # what a cancellation does, past every shield
    return found


def _raise_deadlock() -> NoReturn:
    raise Deadlock


def _descendants(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """The user's tasks below `task`: trio's own stand beside the main one, whose nursery is the root's first."""
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    for child in sorted(children, key=lambda child: child.name):
        if task.parent_nursery is not None or "main" in child.name:
            yield child
            yield from _descendants(child)


def _place(task: trio.lowlevel.Task) -> str:
    frames = [f"{frame.f_code.co_name}:{line}" for frame, line in task.iter_await_frames()]
    return " > ".join(frames[-4:])
