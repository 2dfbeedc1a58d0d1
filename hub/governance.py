"""The gate before the fact: access, session types, rates, inboxes, caps and delegation depth, judged in one place.

`Arbiter` is the extension point: the rule-based decisions come first, then every gate of the hub's one arbiter is asked.
A gate returns None to allow or the error that refuses. Nothing is taken (no token, no slot) unless all allow.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..actors.sessions.identity import Passport
from ..actors.sessions.metadata import SessionSetup
from ..actors.sessions.rule import ANYBODY, Rule, matches
from ..mailbox.clock import Clock
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, InboxFull, NetworkError, RateLimited
from ..mailbox.rate import TokenBucket
from .directory import Entry, may_talk
from .inbox import Inbox


class Arbiter:
    """Decides before the fact; subclass it and override the gates that matter. All are synchronous and quick."""

    def authorize_register(self, passport: Passport, rule: Rule) -> NetworkError | None:
        """May this identity register? Called at registration and re-attachment."""
        return None

    def authorize_session(self, creator: Passport, setup: SessionSetup) -> NetworkError | None:
        """May this session be opened? Called before the first invitation."""
        return None

    def authorize_send(self, envelope: Envelope, sender: Passport, recipients: Sequence[str]) -> NetworkError | None:
        """May this envelope be logged? Called for every one that a member sends."""
        return None

    def authorize_delivery(self, envelope: Envelope, recipient: Passport) -> NetworkError | None:
        """May this recipient get it? Called for each of them before it is logged; a refusal refuses the send."""
        return None

    def authorize_close(self, session_id: str, agent: Passport) -> NetworkError | None:
        """May this member close the session?"""
        return None


@attrs.define
class Grant:
    """What an admitted envelope holds: slots in inboxes, a token. It is used up by delivery or given back."""

    slots: list[tuple[Inbox, bool]] = attrs.field(factory=list)
    """Recipients' inboxes, and whether a slot was taken in each."""
    bucket: TokenBucket | None = None
    """The sender's bucket, where a token was taken."""

    def give_back(self) -> None:
        """The envelope was refused after all."""
        for inbox, reserved in self.slots:
            if reserved:
                inbox.give_back()
        self.slots.clear()
        if self.bucket is not None:
            self.bucket.give_back()
            self.bucket = None


class MustWait(Exception):
    """An inbox under `block` is full: try again when it has room."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self.inbox = inbox


class Governance:
    """Judges openings and sends by the rules of everybody involved."""

    def __init__(self, clock: Clock, arbiter: Arbiter) -> None:
        self.clock = clock
        self.arbiter = arbiter
        self._plain = type(arbiter) is Arbiter

    def check_send(self, envelope: Envelope, sender: Entry, recipients: list[Entry], counted: bool) -> Grant:
        """Admit an envelope or raise its refusal; `MustWait` where the only obstacle is a full `block` inbox."""
        self._check_depth(envelope.depth, sender)
        for recipient in recipients:
            reason = may_talk(sender, recipient)
            if reason is not None:
                raise AccessDeniedError(f"{reason}; nobody got the envelope", recipient=recipient.name)
        if not self._plain:
            self._ask_arbiter(envelope, sender, recipients)
        grant = Grant()
        if counted:
            self._reserve(recipients, grant)
        try:
            grant.bucket = self._take_token(sender)
        except RateLimited:
            grant.give_back()
            raise
        return grant

    def _ask_arbiter(self, envelope: Envelope, sender: Entry, recipients: list[Entry]) -> None:
        allow(self.arbiter.authorize_send(envelope, sender.passport, [r.agent_id for r in recipients]))
        for recipient in recipients:
            allow(self.arbiter.authorize_delivery(envelope, recipient.passport))

    def _reserve(self, recipients: list[Entry], grant: Grant) -> None:
        for recipient in recipients:
            inbox = recipient.inbox
            try:
                grant.slots.append((inbox, inbox.reserve()))
            except InboxFull:
                grant.give_back()
                if inbox.overflow == "block":
                    raise MustWait(inbox) from None
                raise inbox.full_error() from None

    def _take_token(self, sender: Entry) -> TokenBucket | None:
        block = sender.rule.rate
        if not block.envelopes_per_minute:
            return None
        now = self.clock.time()
        if sender.bucket is None:
            burst = block.burst or block.envelopes_per_minute / 60.0
            sender.bucket = TokenBucket(block.envelopes_per_minute, burst, now)
        wait = sender.bucket.take(now)
        if wait > 0:
            raise RateLimited(
                f"{sender.name!r} has used up its rate of {block.envelopes_per_minute:g} envelopes a minute "
                f"(rate.envelopes_per_minute); retry in {wait:.3f} s",
                retry_after=wait,
            )
        return sender.bucket

    def _check_depth(self, depth: int, sender: Entry) -> None:
        cap = sender.rule.limits.delegation_depth
        if cap and depth > cap:
            raise AccessDeniedError(
                f"delegation depth {depth} is beyond limits.delegation_depth={cap} of {sender.name!r}", depth=depth
            )

    def check_open(self, setup: SessionSetup, creator: Entry, invitees: list[Entry]) -> None:
        """Admit an opening or raise its refusal."""
        kind = setup.manifest.type
        limits, types = creator.rule.limits, creator.rule.access.session_types
        self._check_depth(setup.depth, creator)
        if types.initiate != ANYBODY and not matches(types.initiate, kind):
            raise AccessDeniedError(f"access.session_types.initiate of {creator.name!r} does not allow {kind!r}")
        if limits.max_concurrent_sessions and creator.open_sessions >= limits.max_concurrent_sessions:
            raise AccessDeniedError(
                f"{creator.name!r} has {creator.open_sessions} open sessions, as many as "
                f"limits.max_concurrent_sessions allows; close one first"
            )
        for invitee in invitees:
            self._check_invitee(kind, creator, invitee)
        allow(self.arbiter.authorize_session(creator.passport, setup))

    def _check_invitee(self, kind: str, creator: Entry, invitee: Entry) -> None:
        reason = may_talk(creator, invitee)
        if reason is not None:
            raise AccessDeniedError(reason, recipient=invitee.name)
        accepted = invitee.rule.access.session_types.accept
        if accepted != ANYBODY and not matches(accepted, kind):
            raise AccessDeniedError(f"access.session_types.accept of {invitee.name!r} does not allow {kind!r}")


def allow(refusal: NetworkError | None) -> None:
    """Raise an arbiter's refusal."""
    if refusal is not None:
        raise refusal


def loosened(old: Rule, new: Rule) -> str | None:
    """Which field of `new` grants more than `old`, or None: an agent may only tighten its own rule."""
    pairs = (
        ("access.inbound_from", old.access.inbound_from, new.access.inbound_from),
        ("access.outbound_to", old.access.outbound_to, new.access.outbound_to),
        ("access.session_types.initiate", old.access.session_types.initiate, new.access.session_types.initiate),
        ("access.session_types.accept", old.access.session_types.accept, new.access.session_types.accept),
    )
    for field, before, after in pairs:
        if before != ANYBODY and not set(after) <= set(before):
            return field
    for field, before_cap, after_cap in _caps(old, new):
        if before_cap and (not after_cap or after_cap > before_cap):
            return field
    return None


def _caps(old: Rule, new: Rule) -> list[tuple[str, float | None, float | None]]:
    return [
        ("limits.delegation_depth", old.limits.delegation_depth, new.limits.delegation_depth),
        (
            "limits.max_concurrent_sessions",
            old.limits.max_concurrent_sessions,
            new.limits.max_concurrent_sessions,
        ),
        ("limits.max_concurrent_tasks", old.limits.max_concurrent_tasks, new.limits.max_concurrent_tasks),
        ("rate.envelopes_per_minute", old.rate.envelopes_per_minute, new.rate.envelopes_per_minute),
        ("rate.burst", old.rate.burst, new.rate.burst),
        ("inbox.max_pending", old.inbox.max_pending, new.inbox.max_pending),
    ]
