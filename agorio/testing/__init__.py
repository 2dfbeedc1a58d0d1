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
    from .assertions import assert_audit, assert_lines, assert_transcript, find_audit, read_transcript
    from .clock import MockClock, run_in_virtual_time
    from .comparison import Difference, compare
    from .faulty_link import FaultyLink
    from .faulty_store import FaultyStore
    from .invariants import INVARIANTS, Invariant, InvariantBroken, check_invariants, check_now
    from .ledger import Ledger
    from .lifecycle import SessionLifecycle, lifecycle_settings, run_lifecycle
    from .link_check import check_link
    from .mailbox_check import check_mailbox
    from .members import Member
    from .nemesis import Limits
    from .network import TestNetwork, open_test_hub
    from .replay import Recorded, describe, export_session, read_log, record_session, write_log
    from .scheduler import NoSeededScheduler, run_seeded
    from .simulation import Outcome, Tally, explore, minimise, simulate
    from .state_machine import TrioStateMachine, initialize, invariant, rule
    from .waiting import wait_all_idle, wait_until
    from .world import World

_HOMES = {
    "Difference": ".comparison",
    "EchoAgent": ".agents",
    "FaultyLink": ".faulty_link",
    "FaultyStore": ".faulty_store",
    "Heard": ".agents",
    "INVARIANTS": ".invariants",
    "Invariant": ".invariants",
    "InvariantBroken": ".invariants",
    "Ledger": ".ledger",
    "Limits": ".nemesis",
    "Member": ".members",
    "MockClock": ".clock",
    "NoSeededScheduler": ".scheduler",
    "Outcome": ".simulation",
    "Recorded": ".replay",
    "ScriptExhausted": ".agents",
    "ScriptedAgent": ".agents",
    "SessionLifecycle": ".lifecycle",
    "Tally": ".simulation",
    "TestNetwork": ".network",
    "TrioStateMachine": ".state_machine",
    "World": ".world",
    "assert_audit": ".assertions",
    "assert_lines": ".assertions",
    "assert_transcript": ".assertions",
    "check_adapter": "..actors.sessions.adapters.check",
    "check_invariants": ".invariants",
    "check_link": ".link_check",
    "check_mailbox": ".mailbox_check",
    "check_now": ".invariants",
    "check_store": "..hub.stores.check",
    "compare": ".comparison",
    "describe": ".replay",
    "explore": ".simulation",
    "export_session": ".replay",
    "find_audit": ".assertions",
    "initialize": ".state_machine",
    "invariant": ".state_machine",
    "lifecycle_settings": ".lifecycle",
    "minimise": ".simulation",
    "open_test_hub": ".network",
    "read_log": ".replay",
    "read_transcript": ".assertions",
    "record_session": ".replay",
    "rule": ".state_machine",
    "run_in_virtual_time": ".clock",
    "run_lifecycle": ".lifecycle",
    "run_seeded": ".scheduler",
    "simulate": ".simulation",
    "wait_all_idle": ".waiting",
    "wait_until": ".waiting",
    "write_log": ".replay",
}

__all__ = [
    "INVARIANTS",
    "Difference",
    "EchoAgent",
    "FaultyLink",
    "FaultyStore",
    "Heard",
    "Invariant",
    "InvariantBroken",
    "Ledger",
    "Limits",
    "Member",
    "MockClock",
    "NoSeededScheduler",
    "Outcome",
    "Recorded",
    "ScriptExhausted",
    "ScriptedAgent",
    "SessionLifecycle",
    "Tally",
    "TestNetwork",
    "TrioStateMachine",
    "World",
    "assert_audit",
    "assert_lines",
    "assert_transcript",
    "check_adapter",
    "check_invariants",
    "check_link",
    "check_mailbox",
    "check_now",
    "check_store",
    "compare",
    "describe",
    "explore",
    "export_session",
    "find_audit",
    "initialize",
    "invariant",
    "lifecycle_settings",
    "minimise",
    "open_test_hub",
    "read_log",
    "read_transcript",
    "record_session",
    "rule",
    "run_in_virtual_time",
    "run_lifecycle",
    "run_seeded",
    "simulate",
    "wait_all_idle",
    "wait_until",
    "write_log",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
