"""Deterministic simulation: `simulate(scenario, seed)` plays a whole network in one process, from one number.

Scheduling, time, chance, ids and faults all come from the seed, so the same seed gives the same run, here and in any
other process: `Outcome.digest` says so. First come the faults, then a time without any, in which everything that was
begun must end; the hub is held to its invariants whenever it comes to rest, and to all of them at the end and again
after a clean restart.

`python -P -m agorio.testing.simulation --seeds 1000` runs seeds and prints what they have met.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import shlex
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import attrs
import trio

from .invariants import INVARIANTS, InvariantBroken
from .mixed import mixed
from .nemesis import Limits
from .phases import Scenario, play
from .scheduler import Deadlock, free_all, run_seeded
from .world import World

STILL = 100  # rounds without a step: no deadline is left to wait for
DEFAULT = "agorio.testing.mixed:mixed"
KIND_OF = {"torn_commit_lost": "torn_commit", "torn_commit_kept": "torn_commit"}  # two ways in which one kind ends


@attrs.frozen
class Outcome:
    """How one seed went."""

    seed: int | str
    """The seed."""
    scenario: str
    """`module:function` of the scenario."""
    limits: Limits
    """What the run was cut down to."""
    digest: str
    """A hash over everything that has happened; the same for the same seed."""
    broken: InvariantBroken | None
    """The first promise that was broken, or None."""
    problems: tuple[InvariantBroken, ...] = attrs.field(repr=False)
    """All that were found broken with it."""
    faults: dict[str, int]
    """Faults that were put in, by kind."""
    reached: dict[str, int]
    """Rare paths that were taken, and how often."""
    invariants: tuple[str, ...]
    """What the hub was held to."""
    looks: int
    """How often it came to rest and was looked at."""
    steps: int
    """Steps of the scheduler."""
    virtual_seconds: float
    """How long it took on the virtual clock."""
    trace: tuple[str, ...] = attrs.field(default=(), repr=False)
    """The newest lines of what happened."""

    @property
    def command(self) -> str:
        """What plays this run again."""
        seed = f"--start {self.seed} --seeds 1" if isinstance(self.seed, int) else f"--seed={shlex.quote(self.seed)}"
        parts = ["python -P -m agorio.testing.simulation", seed, self.limits.arguments()]
        scenario = "" if self.scenario == DEFAULT else f"--scenario {self.scenario}"
        return " ".join(part for part in (*parts, scenario) if part)

    def report(self, lines: int = 30) -> str:
        """What broke, after what, and how to see it again."""
        tail = "\n".join(f"  {line}" for line in self.trace[-lines:])
        more = "".join(f"\n  and {problem}" for problem in self.problems[1:6])
        head = f"seed {self.seed} breaks {self.broken}{more}\nreplay it with: {self.command}"
        return f"{head}\nthe newest events:\n{tail}"

    def check(self) -> Outcome:
        """Raise `InvariantBroken` with the whole report if a promise was broken."""
        if self.broken is not None:
            raise InvariantBroken(self.broken.name, f"{self.broken.problem}\n{self.report()}")
        return self


class _Watcher(trio.abc.Instrument):
    """Looks at the world whenever everything in it is at rest, and counts steps."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ready = self._idle = 0

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self._ready += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._ready -= 1
        self._idle = 0
        self._world.step(task)

    def before_io_wait(self, timeout: float) -> None:
        if self._ready:  # under an autojump clock the timeout says nothing
            return
        self._idle += 1
        if self._idle < STILL:
            self._world.look()
        else:
            self._world.fail(InvariantBroken("everything_settles", f"nobody moves any more: {'; '.join(free_all())}"))


def simulate(scenario: Scenario = mixed, seed: int | str = 0, limits: Limits | None = None) -> Outcome:
    """Play one seed. Raises `NoSeededScheduler` where trio cannot be made to repeat a run."""
    world = World(seed, limits)
    ended = [0.0]

    async def main() -> None:
        try:
            await play(world, scenario)
        finally:
            ended[0] = trio.current_time()

    try:
        _run(main, seed, _Watcher(world))
    except* Deadlock:
        assert world.broken is not None, "whoever wakes everybody says why"
    return Outcome(
        seed=seed,
        scenario=f"{scenario.__module__}:{getattr(scenario, '__qualname__', type(scenario).__name__)}",
        limits=world.limits,
        digest=world.trace.digest,
        broken=world.broken,
        problems=tuple(world.problems),
        faults=dict(sorted(world.all_faults().items())),
        reached=dict(sorted(world.ledger.reached.items())),
        invariants=tuple(INVARIANTS),
        looks=world.total_looks,
        steps=world.total_steps,
        virtual_seconds=ended[0],
        trace=tuple(world.trace.lines),
    )


def _run(main: Callable[[], Awaitable[None]], seed: int | str, watcher: _Watcher) -> None:
    was_disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # crashes are on purpose here; what counts is in the outcome
    try:
        run_seeded(main, seed=seed, instruments=[watcher])
    except BaseException as error:
        error.add_note(f"in seed {seed}")
        raise
    finally:
        logging.disable(was_disabled)


def minimise(scenario: Scenario, failing: Outcome, tries: int = 60) -> Outcome:
    """A smaller run of the same seed that breaks the same promise: fewer faults, agents and steps."""
    assert failing.broken is not None, "there is nothing to make smaller"
    best = failing
    for limits in _smaller(failing):
        tries -= 1
        if tries < 0:
            break
        smaller = simulate(scenario, failing.seed, _merged(best.limits, limits))
        if smaller.broken is not None and smaller.broken.name == failing.broken.name:
            best = smaller
    return best


def _smaller(failing: Outcome) -> Iterator[Limits]:
    """What to try, the most telling first. Each is merged into the best so far."""
    for kind in dict.fromkeys(KIND_OF.get(kind, kind) for kind in failing.faults):
        yield Limits(without=(kind,))
    total = sum(failing.faults.values())
    for faults in sorted({0, 1, 2, 3, total // 4, total // 2}, reverse=True):
        if faults < total:
            yield Limits(faults=faults)
    for steps in (20, 10, 5, 3, 2, 1):
        yield Limits(steps=steps)
    for agents in (4, 3, 2):
        yield Limits(agents=agents)


def _merged(one: Limits, other: Limits) -> Limits:
    without = tuple(sorted({*one.without, *other.without}))
    least = {name: _least(getattr(one, name), getattr(other, name)) for name in ("faults", "agents", "steps")}
    return Limits(without, **least)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


@attrs.define
class Tally:
    """What many seeds have met."""

    seeds: int = 0
    """How many."""
    failing: list[Outcome] = attrs.field(factory=list)
    """Those that broke a promise."""
    faults: Counter[str] = attrs.field(factory=Counter)
    """Faults by kind."""
    reached: Counter[str] = attrs.field(factory=Counter)
    """Rare paths."""
    looks: int = 0
    """Looks at a hub at rest."""
    steps: int = 0
    """Steps of the scheduler."""
    virtual_seconds: float = 0.0
    """Time on the virtual clock."""

    def add(self, outcome: Outcome) -> None:
        """Count one seed in."""
        self.seeds += 1
        self.faults.update(outcome.faults)
        self.reached.update(outcome.reached)
        self.looks += outcome.looks
        self.steps += outcome.steps
        self.virtual_seconds += outcome.virtual_seconds
        if outcome.broken is not None:
            self.failing.append(outcome)

    def lines(self) -> Iterator[str]:
        """A table for people."""
        yield f"{self.seeds} seeds, {len(self.failing)} failing; {self.steps} steps, {self.looks} looks at rest,"
        yield f"{self.virtual_seconds:.0f} virtual seconds; {len(INVARIANTS)} invariants"
        yield "faults:  " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        yield "reached: " + ", ".join(f"{path} {count}" for path, count in sorted(self.reached.items()))


def explore(scenario: Scenario, seeds: Iterable[int | str], limits: Limits | None = None) -> Tally:
    """Play many seeds."""
    tally = Tally()
    for seed in seeds:
        tally.add(simulate(scenario, seed, limits))
    return tally


def load_scenario(name: str) -> Scenario:
    """The scenario that `module:function` names."""
    module, _, function = name.partition(":")
    scenario: Scenario = getattr(importlib.import_module(module), function)
    return scenario


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -P -m agorio.testing.simulation", description="Run seeds.")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--seed", help="this one only, which may be any text")
    parser.add_argument("--scenario", default=DEFAULT, help="module:function")
    parser.add_argument("--without", default="", help="kinds of faults to leave out, with commas")
    parser.add_argument("--faults", type=int, help="no more faults after so many")
    parser.add_argument("--agents", type=int, help="at most so many agents")
    parser.add_argument("--steps", type=int, help="at most so many steps of the scenario")
    parser.add_argument("--digest", action="store_true", help="print each seed's digest")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failing seed")
    return parser


def limits_of(args: argparse.Namespace) -> Limits:
    """What the arguments cut a run down to."""
    without = tuple(kind for kind in args.without.split(",") if kind)
    return Limits(without, args.faults, args.agents, args.steps)


def main(argv: Sequence[str] | None = None) -> int:
    """Run seeds and say what they met; 1 if one of them broke a promise."""
    args = build_parser().parse_args(argv)
    limits, tally, begun = limits_of(args), Tally(), time.perf_counter()
    scenario = load_scenario(args.scenario)
    seeds: Iterable[int | str] = range(args.start, args.start + args.seeds) if args.seed is None else (args.seed,)
    for seed in seeds:
        outcome = simulate(scenario, seed, limits)
        tally.add(outcome)
        if args.digest:
            print(seed, outcome.digest, outcome.steps)
        if outcome.broken is not None:
            print(outcome.report())
            if not args.keep_going:
                smallest = minimise(scenario, outcome) if limits == Limits() else outcome
                print(*(["made smaller:", smallest.report()] if smallest is not outcome else []), sep="\n")
                break
    print(*tally.lines(), f"{time.perf_counter() - begun:.1f} s of real time", sep="\n")
    return 1 if tally.failing else 0


if __name__ == "__main__":
    sys.exit(main())
