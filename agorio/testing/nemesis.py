"""What goes wrong in a simulation, how often, and when it stops.

Each seed draws which kinds it has at all: a run in which everything fails all the time finds less than many runs in
which a few things do.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..actors.runtime.cell import Cell
from ..actors.runtime.coordinator import Coordinator

if TYPE_CHECKING:
    from .world import World

FRAMES = ("cut", "drop", "duplicate", "reorder", "half_open", "stall")
STORE = ("refused_commit", "slow_store", "torn_commit", "full_store", "read_error")
SUDDEN = ("cut", "half_open", "crash", "power", "restart", "full_store", "clock")
AGENTS = ("agent_error",)
WIRES = ("torn_frame",)
KINDS = tuple(dict.fromkeys((*FRAMES, *STORE, *SUDDEN, *AGENTS, *WIRES)))
JUMPS = (-3600.0, -1.0, 0.5, 30.0, 600.0)


class SimulatedCrash(Exception):
    """An actor crashes, since the seed says so."""


@attrs.frozen
class Limits:
    """What a run is cut down to while a failure is made smaller; the defaults cut nothing."""

    without: tuple[str, ...] = ()
    """Kinds of faults that are left out."""
    faults: int | None = None
    """No more faults after so many."""
    agents: int | None = None
    """At most so many agents."""
    steps: int | None = None
    """At most so many steps of the scenario."""

    def arguments(self) -> str:
        """As the command line takes them."""
        parts = [f"--without {','.join(self.without)}"] if self.without else []
        for name in ("faults", "agents", "steps"):
            value = getattr(self, name)
            parts += [f"--{name} {value}"] if value is not None else []
        return " ".join(parts)


@attrs.frozen
class Faults:
    """Which faults a run has, and how often."""

    kinds: frozenset[str] = frozenset()
    """The kinds that are switched on."""
    per_frame: float = 0.0
    """Probability per frame of each fault of links."""
    per_commit: float = 0.0
    """Probability per operation of each fault of the store."""
    interval: float = 3.0
    """Seconds between sudden faults, on average."""

    def link(self) -> dict[str, Any]:
        """Arguments for a `FaultyLink`."""
        odds = {kind: self.per_frame if kind in self.kinds else 0.0 for kind in FRAMES}
        return {**odds, "delay": (0.0, 0.02), "stall_seconds": 2.0}

    def wire(self) -> dict[str, Any]:
        """Arguments for a `FaultyWire`."""
        odds = {kind: self.per_frame if kind in self.kinds else 0.0 for kind in ("half_open", "stall")}
        torn = self.per_frame if "torn_frame" in self.kinds else 0.0
        return {**odds, "torn": torn, "delay": (0.0, 0.02), "stall_seconds": 2.0}

    def store(self) -> dict[str, Any]:
        """Arguments for a `FaultyStore`."""
        p = self.per_commit
        return {
            "refuse": p if "refused_commit" in self.kinds else 0.0,
            "slow": (0.0, 0.3) if "slow_store" in self.kinds else (0.0, 0.001),
            "tear": p / 2 if "torn_commit" in self.kinds else 0.0,
            "read_errors": p / 4 if "read_error" in self.kinds else 0.0,
        }


def draw_faults(rng: random.Random, without: Collection[str]) -> Faults:
    """The faults of a seed, those in `without` left out. Leaving one out shifts no other."""
    drawn = [kind for kind in KINDS if rng.random() < 0.5]
    per_frame, per_commit, interval = rng.choice((0.002, 0.01)), rng.choice((0.01, 0.05)), rng.choice((1.0, 3.0, 8.0))
    return Faults(frozenset(drawn) - frozenset(without), per_frame, per_commit, interval)


async def haunt(world: World) -> None:
    """Bring on sudden faults, one after the other, until cancelled."""
    faults, rng = world.faults_drawn, world.chance.of("nemesis")
    kinds = [kind for kind in SUDDEN if kind in faults.kinds]
    while kinds:
        await trio.sleep(rng.expovariate(1 / faults.interval))
        if world.is_calm:
            return
        await strike(world, rng.choice(kinds), rng)


async def strike(world: World, kind: str, rng: random.Random) -> None:
    """One sudden fault now."""
    members = list(world.members.values())
    if kind == "cut" and members:
        rng.choice(members).link.cut_all()
    elif kind == "half_open" and members:
        rng.choice(members).link.half_open_all()
    elif kind == "crash":
        world.crash_in(rng.randint(1, 60))
    elif kind == "power":
        world.cut_power()
    elif kind == "restart":
        world.restart_hub()
    elif kind == "clock":
        world.jump(rng.choice(JUMPS))
    elif kind == "full_store":
        await world.fill_store(rng.uniform(0.1, 3.0))


def actor_of(task: trio.lowlevel.Task | None, roots: Collection[Coordinator]) -> Cell | None:
    """The actor in whose incarnation a task runs, or None."""
    cells = {cell.task: cell for root in roots for cell in _cells(root) if cell.task is not None}
    while task is not None:
        if task in cells:
            return cells[task]
        nursery = task.parent_nursery
        task = nursery.parent_task if nursery is not None else None
    return None


def _cells(node: Coordinator) -> list[Cell]:
    found: list[Cell] = []
    for child in node._nodes.values():
        if isinstance(child, Cell):
            found.append(child)
        elif isinstance(child, Coordinator):
            found += _cells(child)
    return found


def crash(cell: Cell) -> bool:
    """Crash the actor at the checkpoint where it is: a task of its own nursery raises. False where it is ending."""
    nursery = cell.nursery
    if nursery is None or cell.stopping or nursery.cancel_scope.cancel_called:
        return False
    try:
        nursery.start_soon(_crash, cell.path)
    except RuntimeError:
        return False  # its nursery is closing
    return True


async def _crash(path: str) -> None:
    raise SimulatedCrash(f"{path} crashes, since the seed says so")
