"""Seeds of the mixed scenario, and that a seed means the same run everywhere."""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from agorio.testing import InvariantBroken, Limits, Outcome, Tally, World, explore, minimise, simulate
from agorio.testing.mixed import mixed
from agorio.testing.nemesis import KINDS
from agorio.testing.phases import Scenario
from agorio.testing.simulation import build_parser, limits_of, load_scenario, main
from tests.simulation.coverage import FAULTS, RARE
from tests.simulation.mutations import MUTATIONS

CHUNK = 25
CHUNKS = 12
SHORT = Limits(steps=20)
# The seeds of the table in docs/simulation.md: each of them has found a bug.
FOUND = (9, 21, 24, 103, 117, 184, 186, 194, 1044, 1054, 1076, 1180, 1247, 20097, 50238, 50341)
FOUND_SHORT = (40201,)


@functools.cache
def chunk(number: int) -> Tally:
    return explore(mixed, range(number * CHUNK, (number + 1) * CHUNK), SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CHUNKS))
def test_no_seed_breaks_a_promise(number: int, record_property: Callable[[str, object], None]) -> None:
    tally = chunk(number)
    record_property("seeds", tally.seeds)
    record_property("faults", dict(tally.faults))
    for failing in tally.failing:
        failing.check()


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    simulate(mixed, seed).check()


@pytest.mark.parametrize("seed", FOUND_SHORT)
def test_what_a_short_run_has_found_is_not_found_again(seed: int) -> None:
    simulate(mixed, seed, SHORT).check()


@pytest.mark.slow
def test_every_kind_of_fault_and_every_rare_path_is_reached() -> None:
    faults: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    for number in range(CHUNKS):
        faults += chunk(number).faults
        reached += chunk(number).reached
        if faults.keys() >= FAULTS and reached.keys() >= RARE:
            return  # a process that runs only some of the chunks need not run them all for this
    raise AssertionError(f"never met: {sorted(FAULTS - faults.keys())} and {sorted(RARE - reached.keys())}")


def test_a_seed_is_a_run() -> None:
    first, other, again = (simulate(mixed, seed) for seed in (3, 4, 3))
    assert (first.digest, first.steps, first.faults) == (again.digest, again.steps, again.faults)
    assert first.digest != other.digest


def digests(hash_seed: str) -> str:
    command = [sys.executable, "-P", "-m", "agorio.testing.simulation", "--seeds", "4", "--steps", "15", "--digest"]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if "real time" not in line)


def test_a_seed_is_the_same_run_in_another_process() -> None:
    assert digests("1") == digests("2") == digests("random")


LOSER = """
import trio

async def loser(world):
    member = world.add("ann")
    await member.wait_up()
    world.count("cut", "here")
    world.count("cut", "there")
    if sum(world.faults.values()) >= 2:
        world.ledger.problem("one_turn_at_a_time", "it was ordered")
        world.note("the last straw")
    await trio.sleep(1)
"""


@pytest.fixture
def loser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """A scenario of a user's own, which breaks a promise, in a module that another process can import as well."""
    (tmp_path / "my_scenarios.py").write_text(LOSER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_scenarios", raising=False)
    return load_scenario("my_scenarios:loser")


@pytest.mark.parametrize("seed", [7, "a text", "-3"])
def test_a_failing_seed_says_how_to_see_it_again(loser: Scenario, seed: int | str) -> None:
    outcome = simulate(loser, seed)
    assert outcome.broken is not None
    with pytest.raises(InvariantBroken, match="replay it with: python -P -m agorio"):
        outcome.check()
    python, *arguments = shlex.split(outcome.command)
    assert python == "python"
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert outcome.trace[-1] in done.stdout
    assert f"breaks {outcome.broken}" in done.stdout


@pytest.mark.usefixtures("loser")
def test_the_command_line_stops_at_the_first_failure_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    name = "my_scenarios:loser"
    assert main(["--start", "7", "--seeds", "3", "--scenario", name]) == 1
    assert "1 seeds, 1 failing" in capsys.readouterr().out
    assert main(["--start", "7", "--seeds", "3", "--scenario", name, "--keep-going"]) == 1
    assert "3 seeds, 3 failing" in capsys.readouterr().out
    assert main(["--seeds", "2", "--steps", "3", "--digest"]) == 0
    assert "2 seeds, 0 failing" in capsys.readouterr().out


def test_a_failing_run_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS["open_sessions_counted"](monkeypatch)
    failing = next(outcome for seed in range(20) if (outcome := simulate(mixed, seed)).broken is not None)
    smallest = minimise(mixed, failing, tries=25)
    assert smallest.broken is not None
    assert failing.broken is not None
    assert smallest.broken.name == failing.broken.name
    assert smallest.limits.steps is not None
    assert sum(smallest.faults.values()) <= sum(failing.faults.values())
    assert replayed(smallest.command).digest == smallest.digest


def replayed(command: str) -> Outcome:
    """What the printed command does, within this process and its mutation."""
    args = build_parser().parse_args(shlex.split(command)[4:])
    return simulate(load_scenario(args.scenario), args.start, limits_of(args))


def test_limits_leave_things_out() -> None:
    calm = simulate(mixed, 5, Limits(without=KINDS))
    assert calm.faults == {}
    few = simulate(mixed, 5, Limits(faults=3, agents=2, steps=4))
    assert sum(count for kind, count in few.faults.items() if kind != "slow_store") <= 6


def test_a_network_that_stands_still_is_found_out() -> None:
    async def waits_for_ever(world: World) -> None:
        with trio.CancelScope(shield=True):
            world.scope.cancel()
            await trio.sleep_forever()

    outcome = simulate(waits_for_ever, 0)
    assert outcome.broken is not None
    assert "nobody moves any more" in str(outcome.broken)
