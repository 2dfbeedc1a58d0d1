"""`SessionLifecycle`: sound session types pass, planted bugs are found, shrunk and told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase

from agorio import EV_TEXT, Envelope, KnowledgeStore, MemoryKnowledgeStore, Rule, TransitionGraph, TurnError
from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.metadata import Manifest, ParticipantSchema
from agorio.testing import InvariantBroken, SessionLifecycle, invariant, lifecycle_settings, rule, run_lifecycle

BID = "bid"


class Auction(SessionAdapter):
    """Bids must rise; the third one is the last."""

    manifest = Manifest("auction", participants=ParticipantSchema(2, None))

    def initial_state(self, setup: Any) -> Any:
        return (0, 0)

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        if envelope.event_data.get("amount", 0) <= state[0]:
            raise TurnError(f"bid more than {state[0]}")

    def fold(self, state: Any, envelope: Envelope) -> Any:
        return (envelope.event_data["amount"], state[1] + 1) if envelope.event_type == BID else state

    def auto_close_reason(self, state: Any) -> str | None:
        return "sold" if state[1] >= 3 else None


class Lenient(Auction):
    """The planted bug: a bid may be as high as the one before."""

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        if envelope.event_data.get("amount", 0) < state[0]:
            raise TurnError(f"bid {state[0]} or more")


class Forgetful(Auction):
    """The planted bug: what it folds is also remembered outside of the state, so a restart finds another state."""

    def __init__(self) -> None:
        self.best = 0

    def fold(self, state: Any, envelope: Envelope) -> Any:
        self.best = max(self.best, envelope.event_data.get("amount", 0))
        return (self.best, state[1] + 1)


class Auctions(SessionLifecycle):
    adapters = (Auction(),)
    session_type = "auction"
    payloads = tuple((BID, {"amount": amount}) for amount in (1, 2, 3))

    @invariant()
    async def bids_rise(self) -> None:
        for session_id in self.sessions:
            log = await self.hub.read_wal(session_id)
            bids = [envelope.event_data["amount"] for envelope in log if envelope.event_type == BID]
            assert bids == sorted(set(bids)), f"{bids} do not rise"


class LenientAuctions(Auctions):
    adapters = (Lenient(),)


class Workflows(SessionLifecycle):
    session_type = "workflow"

    def knobs(self, members: Any) -> dict[str, Any]:
        return {"graph": TransitionGraph.round_robin(list(members), max_turns=4).to_dict()}


@pytest.mark.parametrize("session_type", ["conversation", "consulting", "discussion"])
def test_the_built_in_types_live_well(session_type: str) -> None:
    class Lives(SessionLifecycle):
        pass

    Lives.session_type = session_type
    run_lifecycle(Lives, examples=10, steps=8)
    assert Lives.TestCase.settings.deadline is None


def test_workflows_live_well() -> None:
    run_lifecycle(Workflows, examples=10, steps=8)
    run_lifecycle(Auctions, examples=10, steps=8)
    assert Workflows.adapters == ()


@pytest.mark.slow
def test_a_planted_bug_is_found_and_told() -> None:
    with pytest.raises(AssertionError, match=r"\[1, 1\] do not rise") as failure:
        run_lifecycle(LenientAuctions)
    program = "\n".join(failure.value.__notes__)
    assert "# ann opens a session with bob: done" in program
    assert program.count("says in session 1 bid {'amount': 1}: done") == 2
    assert "restarts" not in program  # what has nothing to do with it is shrunk away
    assert len(program.splitlines()) < 15


@pytest.mark.slow
def test_a_promise_of_the_hub_that_a_session_type_breaks_is_found() -> None:
    class Broken(Auctions):
        adapters = (Forgetful(),)

        async def setup(self) -> None:
            type(self).adapters = (Forgetful(),)
            await super().setup()

    with pytest.raises(InvariantBroken, match=r"is in the log although|the log gives"):
        run_lifecycle(Broken)


def test_rules_agents_and_stores_of_ones_own() -> None:
    class Own(SessionLifecycle):
        names = ("ann", "bob")
        ttl = "1h"
        seen: ClassVar[set[str]] = set()
        stores: ClassVar[list[KnowledgeStore]] = []

        def rule_of(self, name: str) -> Rule | None:
            self.seen.add(f"rule of {name}")
            return Rule()

        def make_store(self) -> KnowledgeStore:
            self.stores.append(MemoryKnowledgeStore())  # no thread: what is drawn must not depend on the machine's pace
            return self.stores[-1]

        async def heard(self, name: str, envelope: Envelope) -> None:
            await super().heard(name, envelope)
            if envelope.event_type == EV_TEXT:
                self.seen.add(f"{name} hears {envelope.text}")

        @rule()
        async def greets(self) -> None:
            await self._say("ann", self.sessions[0], 0)
            self.seen.add("greeted")

        @invariant()
        def everybody_is_known(self) -> None:
            assert {info.name for info in self.hub.agents()} <= set(self.names)

    run_lifecycle(Own, examples=8, steps=8)
    assert {"rule of ann", "rule of bob", "bob hears hello", "greeted"} <= Own.seen


def test_settings_leave_out_what_takes_minutes() -> None:
    chosen = lifecycle_settings(max_examples=7)
    assert (chosen.max_examples, chosen.deadline) == (7, None)
    assert Phase.shrink in chosen.phases
    assert Phase.explain not in chosen.phases


SMALL = Path(__file__).parents[2] / "examples" / "testing_project" / "test_lifecycle.py"


@pytest.mark.slow
def test_forty_lines_find_a_planted_bug(tmp_path: Path) -> None:
    """The state machine of the example, against a session type with a bug, in a process of its own."""
    code = SMALL.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 40
    source = (SMALL.parent / "auction.py").read_text(encoding="utf-8")
    assert "<= state.best" in source
    (tmp_path / "auction.py").write_text(source.replace("<= state.best", "< state.best"), encoding="utf-8")
    (tmp_path / "test_lifecycle.py").write_text(code, encoding="utf-8")
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
        "-o",
        "pythonpath=.",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "do not rise" in done.stdout
    assert "says in session 1 msg.text {'text': '1'}: done" in done.stdout
