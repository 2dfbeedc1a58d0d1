"""The test kit: clocks, scripted agents, faulty links and stores, conformance checks, simulation.

Names are loaded when first used: the simulation and the state machine bring Hypothesis and half of the package along,
which a test that wants a scripted agent need not pay for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..actors.sessions.adapters.check import check_adapter
    from ..hub.stores.check import check_store
    from .agents import EchoAgent, Heard, ScriptedAgent, ScriptExhausted
    from .clock import MockClock, run_in_virtual_time
    from .faulty_link import FaultyLink
    from .faulty_store import FaultyStore
    from .invariants import InvariantBroken, check_invariants
    from .network import TestNetwork, open_test_hub
    from .scheduler import run_seeded
    from .simulation import Outcome, explore, minimise, simulate
    from .state_machine import TrioStateMachine
    from .world import Limits, World

_HOMES = {
    "EchoAgent": ".agents",
    "FaultyLink": ".faulty_link",
    "FaultyStore": ".faulty_store",
    "Heard": ".agents",
    "InvariantBroken": ".invariants",
    "Limits": ".world",
    "MockClock": ".clock",
    "Outcome": ".simulation",
    "ScriptExhausted": ".agents",
    "ScriptedAgent": ".agents",
    "TestNetwork": ".network",
    "TrioStateMachine": ".state_machine",
    "World": ".world",
    "check_adapter": "..actors.sessions.adapters.check",
    "check_invariants": ".invariants",
    "check_store": "..hub.stores.check",
    "explore": ".simulation",
    "minimise": ".simulation",
    "open_test_hub": ".network",
    "run_in_virtual_time": ".clock",
    "run_seeded": ".scheduler",
    "simulate": ".simulation",
}

__all__ = [
    "EchoAgent",
    "FaultyLink",
    "FaultyStore",
    "Heard",
    "InvariantBroken",
    "Limits",
    "MockClock",
    "Outcome",
    "ScriptExhausted",
    "ScriptedAgent",
    "TestNetwork",
    "TrioStateMachine",
    "World",
    "check_adapter",
    "check_invariants",
    "check_store",
    "explore",
    "minimise",
    "open_test_hub",
    "run_in_virtual_time",
    "run_seeded",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
