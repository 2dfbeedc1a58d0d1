"""The two phases of a simulation: faults first, then none.

In the first nothing that was promised may break. In the second everything that was begun must end: uniform faults would
hide a network that never comes to rest by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from .evidence import Evidence
from .invariants import InvariantBroken
from .nemesis import haunt
from .world import SWEEP, World

Scenario = Callable[[World], Awaitable[None]]
HAUNTED = 60.0
PATIENCE = 120.0
# A reply to a full inbox is tried for half a minute, in each of a delivery's five attempts, before it is given up. Two
# agents with full inboxes that answer each other take that long.
ANSWERED = 240.0


async def play(world: World, scenario: Scenario) -> None:
    """Play a scenario in a world, to the end or to the first promise that breaks. If cancelled: it ends."""
    with world.scope:
        async with trio.open_nursery() as world.nursery:
            world.nursery.start_soon(world.keep_hub)
            await world.until(lambda: world.hub is not None, 60)
            await _safety(world, scenario)
            await _liveness(world)
            world.nursery.cancel_scope.cancel()


async def _safety(world: World, scenario: Scenario) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(haunt, world)
        nursery.start_soon(_calm_down, world)
        await scenario(world)
        nursery.cancel_scope.cancel()
    await world.calm()


async def _calm_down(world: World) -> None:
    """The last part of a long scenario is without faults: every question must find its answer."""
    await trio.sleep(HAUNTED)
    await world.calm()
    await trio.sleep(ANSWERED)
    world.fail(InvariantBroken("answers_come", "a question has had no answer four minutes after the last fault"))


async def _liveness(world: World) -> None:
    world.note("calm")
    await world.until(world.at_rest, PATIENCE)
    seen = await _check_settled(world)
    generation = world.generation
    world.close_hub()
    await world.until(lambda: world.generation > generation and world.at_rest(), PATIENCE)
    await _check_settled(world, seen)


async def _check_settled(world: World, before: Evidence | None = None) -> Evidence | None:
    """Give the sweepers their time, then hold the hub to everything."""
    await trio.sleep(3 * SWEEP)
    await world.until(world.at_rest, PATIENCE)
    if world.hub is None:
        world.fail(InvariantBroken("everything_settles", "the hub does not come up"))
        return None
    return await world.check_all(before)
