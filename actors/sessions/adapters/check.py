"""`check_adapter`: whether a session type keeps the promises that the hub builds on.

It plays random sessions from a seed, with good and bad payloads from everybody, and needs no test library. Folding must
be repeatable, or a restart would find another session than the one that was live.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from ....mailbox.envelope import Envelope
from ....mailbox.errors import NetworkError, TurnError
from ....mailbox.events import (
    EV_CONTEXT_SET,
    EV_HANDOFF,
    EV_PACKET,
    EV_TASK_PROGRESS,
    EV_TEXT,
    EV_TURN_SKIPPED,
)
from ....mailbox.frozen import EMPTY, FrozenDict, FrozenList, freeze_payload
from ..metadata import Manifest, SessionSetup
from .base import SessionAdapter

Knobs = Mapping[str, Any] | Callable[[tuple[str, ...]], Mapping[str, Any]]
T = TypeVar("T")
Event = tuple[str, Mapping[str, Any]]
_MUTABLE = (dict, list, set, bytearray)
_BAD: tuple[Any, ...] = (None, 7, "x", [], ["x", 1], {}, {"x": None})


def check_adapter(
    adapter: SessionAdapter,
    *,
    knobs: Knobs = EMPTY,
    events: Iterable[Event] = (),
    seed: int = 0,
    runs: int = 25,
    length: int = 40,
) -> None:
    """Raise `AssertionError`, saying what is wrong, unless the adapter is fit for a hub.

    `knobs` opens the sessions, or makes the knobs from the participants' ids; `events` are payloads to try beside the
    usual ones.
    """
    _check_manifest(adapter.manifest)
    chance = _Dice(seed)
    for run in range(runs):
        setup = _setup(adapter.manifest, knobs, chance)
        adapter.validate_create(setup)
        _Play(adapter, setup, chance, tuple(events), f"run {run} of seed {seed}").play(length)


class _Dice:
    """Repeatable choices from a seed: a linear congruential generator, since the session rules import no randomness."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def roll(self, sides: int) -> int:
        """A number from 0 to below `sides`."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % sides

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.roll(len(options))]


def _require(kept: bool, problem: str) -> None:
    """`assert` would be left out under `python -O`, and every adapter would pass."""
    if not kept:
        raise AssertionError(problem)


def _check_manifest(manifest: Manifest) -> None:
    _require(isinstance(manifest, Manifest), f"manifest is a {type(manifest).__name__}, not a Manifest")
    seats = manifest.participants
    _require(manifest.type != "", "manifest.type is empty")
    _require(manifest.version >= 1, f"manifest.version is {manifest.version}; versions start at 1")
    _require(seats.min >= 1, f"participants.min is {seats.min}; the creator always takes part")
    _require(seats.max is None or seats.max >= seats.min, f"participants.max {seats.max} is below min {seats.min}")
    _require(len(set(manifest.knobs)) == len(manifest.knobs), f"manifest.knobs {manifest.knobs} name one twice")


def _setup(manifest: Manifest, knobs: Knobs, chance: _Dice) -> SessionSetup:
    seats = manifest.participants
    most = seats.min + 2 if seats.max is None else min(seats.max, seats.min + 2)
    members = tuple(f"agent{number}" for number in range(seats.min + chance.roll(most - seats.min + 1)))
    given = knobs(members) if callable(knobs) else knobs
    unknown = set(given) - set(manifest.knobs)
    _require(not unknown, f"knobs {sorted(unknown)} are not in manifest.knobs")
    return SessionSetup("session", manifest, members[0], members, 0.0, None, knobs=freeze_payload(given))


@attrs.define
class _Play:
    """One random session."""

    adapter: SessionAdapter
    setup: SessionSetup
    chance: _Dice
    events: tuple[Event, ...]
    where: str
    state: Any = None
    log: list[Envelope] = attrs.Factory(list)

    def play(self, length: int) -> None:
        self.state = self.adapter.initial_state(self.setup)
        self._same(self.state, self.adapter.initial_state(self.setup), "initial_state gives two states for one setup")
        for _ in range(length):
            self._check_state()
            if self.adapter.auto_close_reason(self.state) is not None:
                break
            self._check_turns()
            self._try(self._random_envelope())
        self._check_replay()

    def _envelope(self, sender: str, event_type: str, data: Mapping[str, Any]) -> Envelope:
        number = len(self.log) + 1
        return Envelope("session", sender, None, event_type, data, envelope_id=f"e{number:06d}", sequence=number)

    def _random_envelope(self) -> Envelope:
        """Mostly from whoever's turn it is, or a random session would hardly move."""
        expected = self.adapter.expected_next(self.state)
        members = expected if expected and self.chance.roll(10) < 7 else self.setup.participants
        sender = self.chance.choice(members)
        event_type, data = self.chance.choice((*_usual_events(self.setup.participants, self.chance), *self.events))
        if event_type == EV_TURN_SKIPPED:
            return self._envelope(self.setup.creator_id, event_type, {**data, "agent_id": sender})
        return self._envelope(sender, event_type, data)

    def _try(self, envelope: Envelope) -> None:
        # The hub judges neither its own notices nor those about tasks.
        if envelope.event_type not in (EV_TURN_SKIPPED, EV_TASK_PROGRESS) and self._refusal(envelope) is not None:
            return
        before = pickle.dumps(self.state)
        after = self._fold(self.state, envelope)
        _require(pickle.dumps(self.state) == before, self._say("fold changed the state that it was given", envelope))
        self._same(after, self._fold(self.state, envelope), "fold gives two states for one envelope", envelope)
        self._same(after, self._fold(pickle.loads(before), envelope), "fold depends on more than the state", envelope)
        rendered = self.adapter.render(envelope)
        _require(isinstance(rendered, str), self._say("render gives no text", envelope))
        self.state = after
        self.log.append(envelope)

    def _fold(self, state: Any, envelope: Envelope) -> Any:
        try:
            return self.adapter.fold(state, envelope)
        except Exception as exc:
            raise AssertionError(self._say(f"fold raised {exc!r} for what was admitted", envelope)) from exc

    def _refusal(self, envelope: Envelope) -> NetworkError | None:
        before = pickle.dumps(self.state)
        refusal = self._judgement(envelope)
        _require(pickle.dumps(self.state) == before, self._say("validate_send changed the state", envelope))
        return refusal

    def _judgement(self, envelope: Envelope) -> NetworkError | None:
        try:
            self.adapter.validate_send(self.state, envelope)
        except NetworkError as exc:
            return exc
        except Exception as exc:
            raise AssertionError(self._say(f"validate_send raised {exc!r}, no refusal of a hub", envelope)) from exc
        return None

    def _check_state(self) -> None:
        kind = type(self.state)
        mutable = isinstance(self.state, _MUTABLE) and not isinstance(self.state, FrozenDict | FrozenList)
        _require(not mutable, self._say(f"the state is a {kind.__name__}, which anybody can change"))
        if attrs.has(kind) and attrs.fields(kind):
            _require(_is_frozen(self.state), self._say(f"{kind.__name__} is not frozen; use attrs.frozen"))
        self._same(self.state, pickle.loads(pickle.dumps(self.state)), "the state does not equal its own copy")
        self._check_saved()
        reason = self.adapter.auto_close_reason(self.state)
        _require(
            reason is None or (isinstance(reason, str) and reason != ""),
            self._say(f"auto_close_reason gave {reason!r}"),
        )

    def _check_saved(self) -> None:
        """A snapshot of the state, through the JSON that a store keeps, is the state."""
        saved = self.adapter.save_state(self.state)
        if saved is not None:
            loaded = self.adapter.load_state(self.setup, json.loads(json.dumps(saved)))
            self._same(self.state, loaded, "the state is not what was saved of it")

    def _check_turns(self) -> None:
        """Whoever is expected may speak, and nobody else."""
        expected = self.adapter.expected_next(self.state)
        if expected is None:
            return
        strangers = set(expected) - set(self.setup.participants)
        _require(not strangers, self._say(f"expected_next names {sorted(strangers)}, who do not take part"))
        for member in self.setup.participants:
            refusal = self._refusal(self._envelope(member, EV_TEXT, {"text": "hello"}))
            if member in expected:
                _require(not isinstance(refusal, TurnError), self._say(f"expects {member} and refuses it: {refusal}"))
            else:
                _require(refusal is not None, self._say(f"expects {expected} and admits a text by {member}"))

    def _check_replay(self) -> None:
        state = self.adapter.initial_state(self.setup)
        for envelope in self.log:
            state = self._fold(state, envelope)
        self._same(state, self.state, "folding the whole log gives another state than the steps did")

    def _same(self, left: Any, right: Any, problem: str, envelope: Envelope | None = None) -> None:
        _require(left == right, self._say(f"{problem}: {left!r} and {right!r}", envelope))

    def _say(self, problem: str, envelope: Envelope | None = None) -> str:
        about = f" (at {envelope.event_type} {dict(envelope.event_data)} by {envelope.sender_id})" if envelope else ""
        return f"{self.adapter.manifest.type}: {problem}{about}; {self.where}, after {len(self.log)} envelopes"


def _is_frozen(state: Any) -> bool:
    name = attrs.fields(type(state))[0].name
    try:
        setattr(pickle.loads(pickle.dumps(state)), name, None)
    except AttributeError:
        return True
    return False


def _usual_events(members: tuple[str, ...], chance: _Dice) -> tuple[Event, ...]:
    """What members and the hub say, and what members should not say."""
    bad = chance.choice(_BAD)
    someone = chance.choice((*members, "nobody"))
    reason = chance.choice(("silent", "failed", "gone"))
    return (
        (EV_TEXT, {"text": "hello"}),
        (EV_TEXT, {"text": "hello again"}),
        (EV_TEXT, {"text": bad}),
        (EV_HANDOFF, {"target": someone, "text": "over to you"}),
        (EV_HANDOFF, {"target": bad}),
        (EV_PACKET, {"body": "hello"}),
        (EV_PACKET, {"routing": {"kind": "handoff", "target": someone, "tool": "t"}, "body": "hello"}),
        (EV_PACKET, {"routing": bad, "context_updates": {"set": bad}}),
        (EV_PACKET, {"context_updates": {"set": {"x": 1}, "delete": ["y"]}}),
        (EV_CONTEXT_SET, {"key": "x", "value": bad}),
        (EV_CONTEXT_SET, {"set": bad, "delete": bad}),
        (EV_TASK_PROGRESS, {"note": "half way"}),
        (EV_TURN_SKIPPED, {"reason": reason}),
        ("app.note", {"any": bad}),
    )
