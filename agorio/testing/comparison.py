"""A recorded session once more, under another session type or other rules: where would it have come differently?

What members said is put to the new rules as it was said and when it was said; nobody is asked again. What the rules
themselves brought about (skipped turns apart) follows from the new ones. What was refused then is not in a log, so
nothing is found that would be allowed now.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import attrs

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.judging import Close, Command, Invite, Note, Post, step
from ..actors.sessions.lifecycle import Live, begin, recipients
from ..actors.sessions.metadata import SessionSetup, SessionState
from ..actors.sessions.rule import Rule, matches
from ..hub.loosening import burst_of
from ..mailbox.clock import parse_duration, parse_iso
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, AgorioError, InvalidInput, RateLimited
from ..mailbox.events import (
    EV_SESSION_EXPIRED,
    EV_SESSION_INVITE,
    EV_SESSION_OPENED,
    EV_TURN_DUE,
    HUB_EVENTS,
    LIFECYCLE_EVENTS,
    SESSION_END,
    TASK_EVENTS,
)
from ..mailbox.rate import TokenBucket
from .replay import Recorded, follow, said, standing

ACCEPTED = "accepted"
# Ends that the hub decides on for reasons of its own; any other end without a member's name follows from the type.
HUBS_OWN = ("invite_rejected", "invite_timeout", "open_cancelled", "participant_gone", "expectation_violated")


@attrs.frozen
class Difference:
    """One step at which the other run parts from the recorded one."""

    sequence: int
    """The recorded envelope; 0 is the opening, and the length of the log plus one what comes after its end."""
    said: str
    """What was said, by whom."""
    before: str
    """What came of it then."""
    after: str
    """What comes of it under the new rules."""

    def __str__(self) -> str:
        return f"step {self.sequence}, {self.said}: {self.before} then, {self.after} now"


def compare(
    recorded: Recorded,
    before: SessionAdapter | None,
    after: SessionAdapter,
    rules: Mapping[str, Rule] | None = None,
) -> list[Difference]:
    """Put to `after` what members said under `before`, step by step: what would have come differently, in order.

    Without `before`, where the old session type is not at hand, turns are not compared. `rules` are rules by member's
    name that were not in force then: access, session types, depth, rate and session TTL are judged; inboxes and numbers
    of sessions, which depend on other sessions, are not.
    """
    run = _Rerun(recorded, before, after, rules or {})
    if run.opens():
        for envelope in recorded.log:
            run.put(envelope)
        run.finish()
    return run.found


class _Rerun:
    """The recorded session and another one, side by side."""

    def __init__(
        self, recorded: Recorded, before: SessionAdapter | None, after: SessionAdapter, rules: Mapping[str, Rule]
    ) -> None:
        self.found: list[Difference] = []
        self._recorded = recorded
        self._is_known = before is not None
        self._before = before or SessionAdapter()
        self._after = after
        self._gate = _Gate(recorded, after, rules)
        self._setup = self._gate.setup()
        self._old = begin(recorded.setup, self._before)
        self._new: Live
        self._ids = count(1)
        self._last = ("", "")

    def opens(self) -> bool:
        """Whether the session comes to be at all."""
        try:
            self._gate.check_open()
            self._after.validate_create(self._setup)
            self._new = begin(self._setup, self._after)
            self._step(Invite(), self._recorded.setup.created_at)
        except AgorioError as refusal:
            self._note(0, "the opening", "opened", _refused(refusal))
            return False
        return True

    def put(self, envelope: Envelope) -> None:
        """Let both sessions live through one recorded envelope."""
        now = parse_iso(envelope.created_at)
        self._expire(now)
        outcome = self._judge(envelope, now)
        self._old = follow(self._old, self._before, envelope)
        if outcome != ACCEPTED:
            self._note(envelope.sequence, said(self._recorded, envelope), ACCEPTED, outcome)
        else:
            self._compare_standings(envelope)

    def finish(self) -> None:
        """The log is over; the end of it, where that is another one."""
        old, new = self._standings()
        ends = self._old.terminal or self._new.terminal
        if ends and old != new and (old, new) != self._last:
            self._note(len(self._recorded.log) + 1, "the end", old, new)

    # One step.

    def _judge(self, envelope: Envelope, now: float) -> str:
        command = self._command_of(envelope)
        try:
            if isinstance(command, Post) and envelope.event_type not in LIFECYCLE_EVENTS:
                self._gate.check_send(envelope, now)
            if command is not None:
                self._step(command, now)
        except AgorioError as refusal:
            return _refused(refusal)
        return ACCEPTED

    def _step(self, command: Command, now: float) -> None:
        self._new = step(self._new, self._after, command, now, lambda: f"{next(self._ids):032x}").live

    def _expire(self, now: float) -> None:
        expires_at = self._setup.expires_at
        if expires_at is not None and now >= expires_at:
            self._step(Close("ttl_expired", expired=True), now)

    def _command_of(self, envelope: Envelope) -> Command | None:
        """What led to the envelope; None for what follows from the rules by itself."""
        kind, data = envelope.event_type, envelope.event_data
        if kind not in HUB_EVENTS:
            return Post(envelope) if kind not in TASK_EVENTS else None
        if kind in (EV_SESSION_INVITE, EV_SESSION_OPENED, EV_SESSION_EXPIRED, EV_TURN_DUE):
            return None
        if kind in SESSION_END:
            reason, by = str(data.get("reason")), str(data.get("by") or "")
            return None if self._followed(reason, by) else Close(reason, by)
        return None if self._new.terminal else Note(kind, dict(data), envelope.audience)

    def _followed(self, reason: str, by: str) -> bool:
        """Whether the session type itself has closed the session."""
        if self._is_known:
            return self._before.auto_close_reason(self._old.adapter_state) == reason
        return not by and reason not in HUBS_OWN

    # What is compared.

    def _compare_standings(self, envelope: Envelope) -> None:
        """Compare state, end and turn, unless the old session is about to open or close: its next envelope says so."""
        if self._old.state == SessionState.PENDING:
            return
        if not self._old.terminal and self._before.auto_close_reason(self._old.adapter_state) is not None:
            return
        now = self._standings()
        if now[0] != now[1] and now != self._last:
            self._note(envelope.sequence, said(self._recorded, envelope), *now)
        self._last = now

    def _standings(self) -> tuple[str, str]:
        if not self._is_known and not self._old.terminal and not self._new.terminal:
            return str(self._old.state), str(self._new.state)
        old = standing(self._recorded, self._old, self._before)
        return old, standing(self._recorded, self._new, self._after)

    def _note(self, sequence: int, what: str, before: str, after: str) -> None:
        self.found.append(Difference(sequence, what, before, after))


def _refused(refusal: AgorioError) -> str:
    return f"refused ({refusal.code}): {refusal}"


class _Gate:
    """The part of governance that looks at one session alone, under rules that are given by name."""

    def __init__(self, recorded: Recorded, adapter: SessionAdapter, rules: Mapping[str, Rule]) -> None:
        self._recorded = recorded
        self._manifest = adapter.manifest if hasattr(adapter, "manifest") else recorded.setup.manifest
        self._rules = rules
        self._buckets: dict[str, TokenBucket] = {}

    def _rule(self, name: str) -> Rule:
        return self._rules.get(name, Rule())

    def setup(self) -> SessionSetup:
        """The setup under the new session type and the creator's new rule.

        A TTL that `open` was given is not recorded as such: a rule that sets another one than usual counts.
        """
        setup = self._recorded.setup
        ttl = self._rule(self._recorded.name(setup.creator_id)).limits.session_ttl_default
        if ttl == Rule().limits.session_ttl_default:
            return attrs.evolve(setup, manifest=self._manifest)
        seconds = parse_duration(ttl if ttl is not None else self._manifest.ttl_default, "limits.session_ttl_default")
        expires_at = None if seconds is None else setup.created_at + seconds
        return attrs.evolve(setup, manifest=self._manifest, expires_at=expires_at)

    def check_open(self) -> None:
        """Raise what refuses the opening."""
        setup, schema = self._recorded.setup, self._manifest.participants
        members = list(map(self._recorded.name, setup.participants))
        if len(members) < schema.min or (schema.max is not None and len(members) > schema.max):
            raise InvalidInput(
                f"{len(members)} take part; the session type takes {schema.min} to {schema.max or 'any'}"
            )
        unknown = [knob for knob in setup.knobs if knob not in self._manifest.knobs]
        if unknown:
            raise InvalidInput(f"the session type has no knob {unknown[0]!r}")
        creator = self._recorded.name(setup.creator_id)
        self._require_type(self._rule(creator).access.session_types.initiate, creator, "initiate")
        self._check_depth(creator, setup.depth)
        for name in members:
            if name != creator:
                self._require_type(self._rule(name).access.session_types.accept, name, "accept")
                self._check_talk(creator, name)

    def _require_type(self, globs: tuple[str, ...], name: str, field: str) -> None:
        if not matches(globs, self._manifest.type):
            kind = self._manifest.type
            raise AccessDeniedError(f"access.session_types.{field} of {name!r} does not allow {kind!r}")

    def check_send(self, envelope: Envelope, now: float) -> None:
        """Raise what refuses a member's envelope."""
        sender = self._recorded.name(envelope.sender_id)
        self._check_depth(sender, envelope.depth)
        for who in recipients(self._recorded.setup, envelope):
            self._check_talk(sender, self._recorded.name(who))
        self._take_token(sender, now)

    def _check_talk(self, sender: str, recipient: str) -> None:
        if not matches(self._rule(sender).access.outbound_to, recipient):
            raise AccessDeniedError(f"access.outbound_to of {sender!r} does not allow {recipient!r}")
        if not matches(self._rule(recipient).access.inbound_from, sender):
            raise AccessDeniedError(f"access.inbound_from of {recipient!r} does not allow {sender!r}")

    def _check_depth(self, name: str, depth: int) -> None:
        cap = self._rule(name).limits.delegation_depth
        if cap and depth > cap:
            raise AccessDeniedError(f"delegation depth {depth} is beyond limits.delegation_depth={cap} of {name!r}")

    def _take_token(self, name: str, now: float) -> None:
        block = self._rule(name).rate
        if not block.envelopes_per_minute:
            return
        if name not in self._buckets:
            self._buckets[name] = TokenBucket(block.envelopes_per_minute, burst_of(block), now)
        wait = self._buckets[name].take(now)
        if wait > 0:
            raise RateLimited(f"{name!r} has used up its rate of {block.envelopes_per_minute:g} envelopes a minute")
