"""The state machine is public: `agorio.testing.state_machine`."""

from __future__ import annotations

from agorio.testing.state_machine import TrioStateMachine, initialize, invariant, rule

__all__ = ["TrioStateMachine", "initialize", "invariant", "rule"]
