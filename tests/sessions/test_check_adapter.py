"""`check_adapter` passes the house's own session types and catches each promise that is broken."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from agorio.actors.sessions.adapters.base import SessionAdapter, Speaker, is_text, require_text, wrong_turn
from agorio.actors.sessions.adapters.check import check_adapter
from agorio.actors.sessions.adapters.consulting import ConsultingAdapter
from agorio.actors.sessions.adapters.conversation import ConversationAdapter
from agorio.actors.sessions.metadata import Manifest, ParticipantSchema, SessionSetup
from agorio.mailbox.envelope import Envelope


class Keyword(SessionAdapter):
    """A free talk that a word ends."""

    manifest = Manifest("keyword", participants=ParticipantSchema(2, None), knobs=("word",))

    def initial_state(self, setup: SessionSetup) -> Any:
        return (setup.knobs.get("word", "bye"), False)

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        require_text(envelope)

    def fold(self, state: Any, envelope: Envelope) -> Any:
        word, over = state
        return (word, over or (is_text(envelope.event_type) and word in envelope.text))

    def auto_close_reason(self, state: Any) -> str | None:
        return "keyword" if state[1] else None


@pytest.mark.parametrize("adapter", [SessionAdapter, ConsultingAdapter, ConversationAdapter, Keyword])
def test_sound_adapters_pass(adapter: type[SessionAdapter]) -> None:
    made = adapter()
    if adapter is SessionAdapter:
        made.manifest = Manifest("free")
    check_adapter(made)


def test_knobs_and_events_reach_the_adapter() -> None:
    check_adapter(Keyword(), knobs={"word": "now"}, events=[("ag2.msg.text", {"text": "now"})])
    check_adapter(Keyword(), knobs=lambda members: {"word": members[0]})
    with pytest.raises(AssertionError, match=r"not in manifest\.knobs"):
        check_adapter(Keyword(), knobs={"wird": "now"})


def test_the_same_seed_finds_the_same_fault() -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(AssertionError) as caught:
            check_adapter(Raises(), seed=7)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "seed 7" in messages[0]


class Raises(Keyword):
    def fold(self, state: Any, envelope: Envelope) -> Any:
        return state if envelope.event_data.get("text") != "hello again" else 1 / 0


class Changes(Keyword):
    def initial_state(self, setup: SessionSetup) -> Any:
        return ([], False)

    def fold(self, state: Any, envelope: Envelope) -> Any:
        state[0].append(envelope.envelope_id)
        return state


class MutableState(Keyword):
    def initial_state(self, setup: SessionSetup) -> Any:
        return ["bye", False]


@attrs.define
class Loose:
    """A state that can be written to."""

    turns: int = 0


class LooseState(Keyword):
    def initial_state(self, setup: SessionSetup) -> Any:
        return Loose()

    def fold(self, state: Any, envelope: Envelope) -> Any:
        return Loose(state.turns + 1)

    def auto_close_reason(self, state: Any) -> str | None:
        return None


class Remembers(Keyword):
    count = 0

    def fold(self, state: Any, envelope: Envelope) -> Any:
        self.count += 1
        return (str(self.count), False)


class Judges(Keyword):
    def validate_send(self, state: Any, envelope: Envelope) -> None:
        raise KeyError("text")


class Unequal(Keyword):
    def initial_state(self, setup: SessionSetup) -> Any:
        return (object(), False)


class Contradicts(Keyword):
    def expected_next(self, state: Any) -> tuple[str, ...]:
        return ("agent0",)


class Refuses(Keyword):
    def expected_next(self, state: Any) -> tuple[str, ...]:
        return ("agent0",)

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        raise wrong_turn("session", envelope.sender_id, ())


class ExpectsStrangers(Keyword):
    def expected_next(self, state: Any) -> tuple[str, ...]:
        return ("nobody",)


class Mumbles(Keyword):
    def render(self, envelope: Envelope) -> str:
        return None  # type: ignore[return-value]


class ClosesWithoutReason(Keyword):
    def auto_close_reason(self, state: Any) -> str | None:
        return ""


class Versionless(Keyword):
    manifest = Manifest("keyword", 0)


class NoSeats(Keyword):
    manifest = Manifest("keyword", participants=ParticipantSchema(3, 2))


@pytest.mark.parametrize(
    ("adapter", "problem"),
    [
        (Raises, "fold raised ZeroDivisionError"),
        (Changes, "fold changed the state|two states"),
        (MutableState, "a list, which anybody can change"),
        (LooseState, "Loose is not frozen"),
        (Remembers, "two states for one envelope"),
        (Judges, "validate_send raised KeyError"),
        (Unequal, "two states for one setup"),
        (Contradicts, "admits a text by agent1"),
        (Refuses, "expects agent0 and refuses it"),
        (ExpectsStrangers, "who do not take part"),
        (Mumbles, "render gives no text"),
        (ClosesWithoutReason, "auto_close_reason gave ''"),
        (Versionless, "versions start at 1"),
        (NoSeats, "is below min"),
    ],
)
def test_a_broken_promise_is_named(adapter: type[SessionAdapter], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_adapter(adapter())


def test_a_state_may_be_any_frozen_value() -> None:
    class Counts(Keyword):
        def initial_state(self, setup: SessionSetup) -> Any:
            return Speaker()

        def fold(self, state: Any, envelope: Envelope) -> Any:
            return Speaker(state.turns + 1, envelope.sender_id)

        def auto_close_reason(self, state: Any) -> str | None:
            return None

    check_adapter(Counts(), runs=3)
