"""Expectations: what must happen in time, judged without reading the log again.

Every envelope is folded into a small `Activity`: since when whom is waited for. An evaluator reads from it who is being
waited for, `due` makes of that the next instant at which the expectation fires, and the hub keeps those instants in a
heap: a sweep costs what is due, not what exists. A firing is known by the expectation and by the envelope that started
the wait; so the same wait never fires twice, not after a restart either, and the next wait arms it anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import attrs

from ...mailbox.clock import parse_duration
from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput
from ...mailbox.events import (
    EV_EXPECTATION_VIOLATED,
    EV_SESSION_CLOSED,
    EV_SESSION_EXPIRED,
    EV_SESSION_OPENED,
    EV_TURN_SKIPPED,
    INVITE_ANSWERS,
    LIFECYCLE_EVENTS,
)
from ...mailbox.frozen import EMPTY, FrozenDict
from .adapters.base import is_content, is_text
from .adapters.turns import read_skip
from .metadata import Expectation, SessionSetup, SessionState

REACTIONS = ("audit", "warn", "hide", "auto_close")
DEFAULT_SECONDS: Mapping[str, float] = {
    "acks_within": 30.0,
    "reply_within": 600.0,
    "max_silence": 3600.0,
    "turn_within": 120.0,
}


@attrs.frozen
class Mark:
    """Where a wait began."""

    at: float
    """Seconds since 1970."""
    sequence: int = 0
    """The envelope that began it; 0 is the opening."""


@attrs.frozen
class Debt:
    """A text that waits for an answer."""

    debtor: str
    """Who was asked."""
    creditor: str
    """Who asked."""
    since: Mark
    """The oldest text that is unanswered."""


@attrs.frozen
class Activity:
    """What expectations need to know of a session, folded from its log."""

    members: tuple[str, ...]
    """The participants."""
    created: Mark
    """When the invitations went out."""
    opened: Mark
    """When it became active; before, the same."""
    state: SessionState = SessionState.PENDING
    """Where it is in its life."""
    pending: tuple[str, ...] = ()
    """Invitees that have not answered."""
    content: Mark = Mark(0.0)
    """The newest thing said, or the moment since which something could be."""
    spoke: FrozenDict = EMPTY
    """Member to the `Mark` of the newest thing that it said."""
    debts: tuple[Debt, ...] = ()
    """Texts without an answer; kept only where an expectation asks for them."""
    tracks_debts: bool = True
    """Whether they are kept."""
    expected: tuple[str, ...] | None = None
    """Whose turn it is; None where anybody may speak."""
    turn: Mark = Mark(0.0)
    """Since when."""
    fired: FrozenDict = EMPTY
    """Expectation and violator to the sequence of the newest wait that has fired."""


@attrs.frozen
class Waiting:
    """Somebody who is being waited for."""

    who: str
    """The member; empty where it is the session as a whole."""
    since: Mark
    """Since when."""


@attrs.frozen
class Due:
    """The next firing of one expectation."""

    index: int
    """The expectation's place in the session's list."""
    expectation: Expectation
    """The expectation."""
    at: float
    """When it fires, in seconds since 1970."""
    violators: tuple[str, ...]
    """Whom it names; empty where it is the session as a whole."""
    sequence: int
    """The envelope that began the wait."""

    @property
    def key(self) -> str:
        """What tells this firing from all others of the session; `mark_fired` takes it."""
        return json.dumps([self.index, self.sequence, *self.violators], separators=(",", ":"))

    def data(self) -> dict[str, Any]:
        """The payload of an `EV_EXPECTATION_VIOLATED`."""
        waited = seconds_of(self.expectation)
        return {
            "expectation": self.expectation.name,
            "on_violation": self.expectation.on_violation,
            "violators": list(self.violators),
            "detail": f"{self.expectation.name}: nothing within {waited:g} s",
            "key": self.key,
        }


Evaluator = Callable[[Expectation, Activity, SessionSetup], Iterable[Waiting]]


def start_activity(setup: SessionSetup) -> Activity:
    """The activity of a session that has just been opened."""
    created = Mark(setup.created_at)
    debts_unused = {"acks_within", "max_silence", "turn_within"}
    return Activity(
        members=setup.participants,
        created=created,
        opened=created,
        pending=setup.invitees,
        content=created,
        turn=created,
        tracks_debts=any(expectation.name not in debts_unused for expectation in setup.expectations),
    )


def fold_activity(
    activity: Activity, envelope: Envelope, at: float, expected_next: tuple[str, ...] | None = None
) -> Activity:
    """The activity after a logged envelope of time `at`, after which it is the turn of `expected_next`."""
    event = envelope.event_type
    if event in INVITE_ANSWERS:
        return attrs.evolve(activity, pending=tuple(who for who in activity.pending if who != envelope.sender_id))
    if event == EV_EXPECTATION_VIOLATED:
        key = envelope.event_data.get("key")
        return mark_fired(activity, key) if isinstance(key, str) else activity
    if event in (EV_SESSION_CLOSED, EV_SESSION_EXPIRED):
        ended = SessionState.EXPIRED if event == EV_SESSION_EXPIRED else SessionState.CLOSED
        return attrs.evolve(activity, state=ended, pending=(), debts=())
    mark = Mark(at, envelope.sequence)
    if event == EV_SESSION_OPENED:
        active = attrs.evolve(activity, state=SessionState.ACTIVE, opened=mark, content=mark)
        return attrs.evolve(active, expected=expected_next, turn=mark)
    return _fold_turn(_fold_content(activity, envelope, mark), envelope, mark, expected_next, activity.expected)


def _fold_content(activity: Activity, envelope: Envelope, mark: Mark) -> Activity:
    event, sender = envelope.event_type, envelope.sender_id
    if event == EV_TURN_SKIPPED:
        skipped, for_good = read_skip(envelope)
        kept = tuple(debt for debt in activity.debts if skipped not in (debt.debtor, debt.creditor))
        return attrs.evolve(activity, debts=kept) if for_good else activity
    if event in LIFECYCLE_EVENTS or not is_content(event):
        return activity
    said = attrs.evolve(activity, content=mark, spoke=FrozenDict({**activity.spoke, sender: mark}))
    if not (activity.tracks_debts and is_text(event)):
        return said
    audience = activity.members if envelope.audience is None else envelope.audience
    return attrs.evolve(said, debts=_owe(activity.debts, sender, audience, mark))


def _owe(debts: tuple[Debt, ...], sender: str, audience: Iterable[str], mark: Mark) -> tuple[Debt, ...]:
    """A text settles what its sender owed its readers. One that settled nothing is a question: its readers owe a reply.

    An answer asks for none itself, or two that talk would owe each other for ever.
    """
    readers = [reader for reader in audience if reader != sender]
    kept = tuple(debt for debt in debts if debt.debtor != sender or debt.creditor not in readers)
    if len(kept) < len(debts):
        return kept
    owing = {debt.debtor for debt in kept if debt.creditor == sender}
    return (*kept, *(Debt(reader, sender, mark) for reader in readers if reader not in owing))


def _fold_turn(
    activity: Activity,
    envelope: Envelope,
    mark: Mark,
    expected_next: tuple[str, ...] | None,
    before: tuple[str, ...] | None,
) -> Activity:
    """A turn begins where one was taken or passed over, also when the same member is next again."""
    ended = is_text(envelope.event_type) or (
        envelope.event_type == EV_TURN_SKIPPED and read_skip(envelope)[0] in (before or ())
    )
    if not ended and expected_next == before:
        return activity
    return attrs.evolve(activity, expected=expected_next, turn=mark)


def acks_within(expectation: Expectation, activity: Activity, setup: SessionSetup) -> Iterable[Waiting]:
    """Invitees that have not answered while the session cannot start without them."""
    if activity.state is not SessionState.PENDING:
        return ()
    return [Waiting(who, activity.created) for who in activity.pending]


def reply_within(expectation: Expectation, activity: Activity, setup: SessionSetup) -> Iterable[Waiting]:
    """Members that owe an answer; where turns are kept, only those whose turn it is, and from then on."""
    if activity.state is not SessionState.ACTIVE:
        return ()
    if activity.expected is None:
        return [Waiting(debt.debtor, debt.since) for debt in activity.debts]
    turn = activity.turn
    owing = [debt for debt in activity.debts if debt.debtor in activity.expected]
    return [Waiting(debt.debtor, max(debt.since, turn, key=lambda mark: mark.sequence)) for debt in owing]


def max_silence(expectation: Expectation, activity: Activity, setup: SessionSetup) -> Iterable[Waiting]:
    """The session, while nothing is said; with `applies_to`, each of those members that says nothing."""
    if activity.state is not SessionState.ACTIVE:
        return ()
    if expectation.applies_to is None:
        return [Waiting("", activity.content)]
    return [Waiting(who, activity.spoke.get(who, activity.opened)) for who in activity.members]


def turn_within(expectation: Expectation, activity: Activity, setup: SessionSetup) -> Iterable[Waiting]:
    """Whoever's turn it is."""
    if activity.state is not SessionState.ACTIVE:
        return ()
    return [Waiting(who, activity.turn) for who in activity.expected or ()]


EVALUATORS: Mapping[str, Evaluator] = {
    "acks_within": acks_within,
    "reply_within": reply_within,
    "max_silence": max_silence,
    "turn_within": turn_within,
}


def seconds_of(expectation: Expectation) -> float:
    """How long the expectation waits: its parameter `seconds`, a number or a text such as `"10m"`, or the default."""
    value = expectation.params.get("seconds", DEFAULT_SECONDS.get(expectation.name))
    seconds = parse_duration(value, f"expectation {expectation.name}: params.seconds")
    if seconds is None:
        raise InvalidInput(f"expectation {expectation.name} needs params={{'seconds': ...}}", field="params.seconds")
    return seconds


def due(
    expectation: Expectation,
    index: int,
    activity: Activity,
    setup: SessionSetup,
    evaluators: Mapping[str, Evaluator] = EVALUATORS,
) -> Due | None:
    """The next firing of the expectation at `index`, in the past if it is overdue; None while nobody is waited for."""
    waits = [
        waiting
        for waiting in evaluators[expectation.name](expectation, activity, setup)
        if _concerns(expectation, waiting.who, setup) and not _has_fired(activity, index, waiting)
    ]
    if not waits:
        return None
    first = min((waiting.since for waiting in waits), key=lambda mark: (mark.at, mark.sequence))
    violators = dict.fromkeys(waiting.who for waiting in waits if waiting.since == first and waiting.who)
    return Due(index, expectation, first.at + seconds_of(expectation), tuple(violators), first.sequence)


def _concerns(expectation: Expectation, who: str, setup: SessionSetup) -> bool:
    named = expectation.applies_to
    return named is None or not who or who in named or setup.role_of(who) in named


def _has_fired(activity: Activity, index: int, waiting: Waiting) -> bool:
    fired = activity.fired.get(f"{index}:{waiting.who}")
    return fired is not None and fired >= waiting.since.sequence


def next_due(activity: Activity, setup: SessionSetup, evaluators: Mapping[str, Evaluator] = EVALUATORS) -> Due | None:
    """The session's next firing: what the hub's heap holds for it."""
    found = [due(expectation, index, activity, setup, evaluators) for index, expectation in _known(setup, evaluators)]
    return min((one for one in found if one is not None), key=lambda one: (one.at, one.index), default=None)


def overdue(
    activity: Activity, setup: SessionSetup, now: float, evaluators: Mapping[str, Evaluator] = EVALUATORS
) -> tuple[Due, ...]:
    """Every firing whose time has come, in order of time; the hub reacts to each and marks it as fired."""
    found: list[Due] = []
    while (one := next_due(activity, setup, evaluators)) is not None and one.at <= now:
        found.append(one)
        activity = mark_fired(activity, one.key)
    return tuple(found)


def _known(setup: SessionSetup, evaluators: Mapping[str, Evaluator]) -> Iterable[tuple[int, Expectation]]:
    """A session restored where a custom evaluator is not registered goes on without it."""
    return [(index, one) for index, one in enumerate(setup.expectations) if one.name in evaluators]


def mark_fired(activity: Activity, key: str) -> Activity:
    """The activity after the firing of that key; a key that says nothing changes nothing."""
    try:
        index, sequence, *violators = json.loads(key)
        sequence = int(sequence)
    except (ValueError, TypeError):
        return activity
    return with_fired(activity, {f"{index}:{who}": sequence for who in violators or [""]})


def with_fired(activity: Activity, fired: Mapping[str, int]) -> Activity:
    """The activity after these firings, by expectation and violator the newest wait of each."""
    newest = {key: max(sequence, activity.fired.get(key, 0)) for key, sequence in fired.items()}
    return attrs.evolve(activity, fired=FrozenDict({**activity.fired, **newest})) if newest else activity


def check_expectations(
    expectations: Iterable[Expectation],
    evaluators: Collection[str] = tuple(EVALUATORS),
    reactions: Collection[str] = REACTIONS,
    members: Collection[str] | None = None,
) -> None:
    """Refuse what would silently never fire: unknown names, parameters, times, and in `applies_to` unknown members.

    `members` holds the roles and ids that `applies_to` may name; None leaves that unchecked.
    """
    for expectation in expectations:
        _check_known("name", expectation.name, evaluators)
        _check_known("on_violation", expectation.on_violation, reactions)
        if expectation.name in EVALUATORS:
            for param in expectation.params:
                _check_known("params", param, ("seconds",))
        seconds_of(expectation)
        for who in expectation.applies_to or () if members is not None else ():
            _check_known("applies_to", who, members or ())


def _check_known(field: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InvalidInput(f"expectation {field}={value!r} is unknown; there are: {', '.join(known)}", field=field)
