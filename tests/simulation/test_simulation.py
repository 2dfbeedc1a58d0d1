"""Seeds of the mixed scenario, and that a seed means the same run everywhere."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import Counter

import pytest
import trio

from agorio.testing import InvariantBroken, Limits, Outcome, Tally, World, explore, minimise, simulate
from agorio.testing.mixed import mixed
from agorio.testing.nemesis import KINDS
from agorio.testing.simulation import build_parser, load_scenario, main
from tests.simulation.mutations import MUTATIONS

CHUNK = 30
CHUNKS = 8
# The seeds of the table in docs/testing.md: each of them has found a bug.
FOUND = (9, 21, 24, 103, 117, 186)
RARE = {
    "accepted",
    "crash",
    "dead_letter",
    "duplicate",
    "hub_failure",
    "receipt_nack",
    "reconnect",
    "redelivery",
    "refused_access_denied",
    "refused_inbox_full",
    "refused_not_a_member",
    "refused_not_your_turn",
    "refused_rate_limited",
    "refused_session_closed",
    "refused_store_error",
    "restart",
}


@functools.cache
def chunk(number: int) -> Tally:
    return explore(mixed, range(number * CHUNK, (number + 1) * CHUNK))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CHUNKS))
def test_no_seed_breaks_a_promise(number: int) -> None:
    for failing in chunk(number).failing:
        failing.check()


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    simulate(mixed, seed).check()


@pytest.mark.slow
def test_every_kind_of_fault_and_every_rare_path_was_reached() -> None:
    faults: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    for number in range(CHUNKS):
        faults += chunk(number).faults
        reached += chunk(number).reached
    torn = {"torn_commit_kept", "torn_commit_lost"}
    assert (set(KINDS) - {"torn_commit"} | torn) - set(faults) == set()
    assert set(reached) >= RARE


def test_a_seed_is_a_run() -> None:
    first, other, again = (simulate(mixed, seed) for seed in (3, 4, 3))
    assert (first.digest, first.steps, first.faults) == (again.digest, again.steps, again.faults)
    assert first.digest != other.digest


def digests(hash_seed: str) -> str:
    command = [sys.executable, "-P", "-m", "agorio.testing.simulation", "--seeds", "6", "--start", "40", "--digest"]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if "real time" not in line)


def test_a_seed_is_the_same_run_in_another_process() -> None:
    assert digests("1") == digests("2") == digests("random")


async def loser(world: World) -> None:
    """A scenario that breaks a promise once two faults have happened."""
    member = world.add("ann")
    await member.wait_up()
    world.count("cut", "here")
    world.count("cut", "there")
    if sum(world.faults.values()) >= 2:
        world.ledger.problem("one_turn_at_a_time", "it was ordered")
        world.note("the last straw")
    await trio.sleep(1)


def test_a_failing_seed_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{loser.__module__}:loser"
    outcome = simulate(loser, 7)
    assert outcome.broken is not None
    assert outcome.command == f"python -P -m agorio.testing.simulation --start 7 --seeds 1 --scenario {name}"
    with pytest.raises(InvariantBroken, match="replay it with: python -P -m agorio"):
        outcome.check()
    assert main(["--start", "7", "--seeds", "3", "--scenario", name]) == 1
    assert "one_turn_at_a_time: it was ordered" in capsys.readouterr().out


def test_a_failing_run_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS["open_sessions_counted"](monkeypatch)
    failing = next(outcome for seed in range(20) if (outcome := simulate(mixed, seed)).broken is not None)
    smallest = minimise(mixed, failing)
    assert smallest.broken is not None
    assert failing.broken is not None
    assert smallest.broken.name == failing.broken.name
    assert smallest.limits.steps is not None
    assert sum(smallest.faults.values()) <= sum(failing.faults.values())
    assert replayed(smallest.command).digest == smallest.digest


def replayed(command: str) -> Outcome:
    """What the printed command does."""
    args = build_parser().parse_args(command.split()[4:])
    without = tuple(kind for kind in args.without.split(",") if kind)
    limits = Limits(without, args.faults, args.agents, args.steps)
    return simulate(load_scenario(args.scenario), args.start, limits)


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
