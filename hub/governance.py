"""The gate before the fact: access, session types, rates, inboxes, caps and delegation depth, judged in one place.

`Arbiter` is the extension point: the rule-based decisions come first, then every gate of the hub's one arbiter is
asked. A gate returns None to allow or the error that refuses; one that fails refuses as well, and is reported. Nothing
is taken (no token, no slot) unless all allow.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ..actors.sessions.identity import Passport
from ..actors.sessions.metadata import SessionSetup
from ..actors.sessions.rule import ANYBODY, Rule, matches
from ..mailbox.clock import Clock
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, InboxFull, NetworkError, ParkedError, RateLimited
from ..mailbox.rate import TokenBucket
from .directory import Entry, may_talk
from .inbox import Inbox
from .loosening import burst_of, loosened

_log = logging.getLogger("agorio.hub")


class Arbiter:
    """Decides before the fact; subclass it and override the gates that matter. All are synchronous and quick.

    A gate returns None to allow, or the `NetworkError` that the caller gets; raising one does the same.
    """

    def authorize_register(self, passport: Passport, rule: Rule) -> NetworkError | None:
        """May this identity register? Called at registration and re-attachment."""
        return None

    def authorize_session(self, creator: Passport, setup: SessionSetup) -> NetworkError | None:
        """May this session be opened? Called before the first invitation."""
        return None

    def authorize_send(self, envelope: Envelope, sender: Passport, recipients: Sequence[str]) -> NetworkError | None:
        """May this envelope be logged? Called for every one that a member sends, invitation answers apart."""
        return None

    def authorize_delivery(self, envelope: Envelope, recipient: Passport) -> NetworkError | None:
        """May this recipient get it? Called for each of them before it is logged; a refusal refuses the send."""
        return None

    def authorize_close(self, session_id: str, agent: Passport) -> NetworkError | None:
        """May this member close the session? The operator is not asked."""
        return None


@attrs.define
class Grant:
    """What an admitted envelope holds: slots in inboxes, a token. It is used up by delivery or given back."""

    slots: dict[Inbox, bool] = attrs.field(factory=dict)
    """Recipients' inboxes, and whether a slot was taken in each."""
    bucket: TokenBucket | None = None
    """The sender's bucket, where a token was taken."""

    def give_back(self) -> None:
        """The envelope was refused after all."""
        self.give_back_slots()
        if self.bucket is not None:
            self.bucket.give_back()
            self.bucket = None

    def give_back_slots(self) -> None:
        """Slots that delivery has not used: their agents are gone."""
        for inbox, reserved in self.slots.items():
            if reserved:
                inbox.give_back()
        self.slots.clear()


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
        self.failed: Callable[[str], None] = lambda report: None

    def check_send(self, envelope: Envelope, sender: Entry, recipients: list[Entry], counted: bool) -> Grant:
        """Admit an envelope or raise its refusal; `MustWait` where the only obstacle is a full `block` inbox."""
        self.check_parked(sender, envelope)
        if envelope.depth:
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
            grant.bucket = self.take_token(sender)
        except RateLimited:
            grant.give_back()
            raise
        return grant

    def check_parked(self, sender: Entry, envelope: Envelope | None = None) -> None:
        """Refuse what a parked agent begins; what it has in hand it may still answer. Raises `ParkedError`."""
        parked, desk = sender.account.parked, sender.inbox.desk
        if parked is None and (envelope is None or envelope.session_id not in desk.parked):
            return
        answered = envelope.causation_id if envelope is not None else None
        if envelope is not None and answered and desk.out_of(envelope.session_id, envelope_id=answered) is not None:
            return
        raise ParkedError(
            f"{sender.name!r} is parked{f' ({parked.reason})' if parked else ' in this session'}; "
            f"the hub's operator resumes it with resume_agent({sender.name!r})",
            agent=sender.name,
            limit=parked.limit if parked else "budget.per_session",
        )

    def _ask_arbiter(self, envelope: Envelope, sender: Entry, recipients: list[Entry]) -> None:
        self._ask(self.arbiter.authorize_send, envelope, sender.passport, [r.agent_id for r in recipients])
        for recipient in recipients:
            self._ask(self.arbiter.authorize_delivery, envelope, recipient.passport)

    def _ask(self, gate: Callable[..., Any], *args: Any) -> None:
        refusal = self.refusal(gate, *args)
        if refusal is not None:
            raise refusal

    def refusal(self, gate: Callable[..., Any], *args: Any) -> NetworkError | None:
        """Put a question to the arbiter. It is foreign code: where it fails, the answer is no."""
        try:
            answer = gate(*args)
        except NetworkError as error:
            return error
        except Exception as exc:
            _log.exception("the arbiter failed in %s", gate.__name__)
            return self._failure(gate.__name__, f"raised {type(exc).__name__}")
        if answer is None or isinstance(answer, NetworkError):
            return answer
        if inspect.iscoroutine(answer):
            answer.close()
        return self._failure(gate.__name__, f"returned a {type(answer).__name__}; a gate returns None or an error")

    def _failure(self, gate: str, what: str) -> AccessDeniedError:
        self.failed(f"arbiter: {gate} {what}")
        return AccessDeniedError(f"the hub's arbiter could not decide ({gate} {what}), so the answer is no", gate=gate)

    def _reserve(self, recipients: list[Entry], grant: Grant) -> None:
        for recipient in recipients:
            inbox = recipient.inbox
            try:
                grant.slots[inbox] = inbox.reserve()
            except InboxFull:
                grant.give_back()
                if inbox.overflow == "block":
                    raise MustWait(inbox) from None
                raise inbox.full_error() from None

    def take_token(self, sender: Entry) -> TokenBucket | None:
        """Take a token of the sender's rate, where it has one. Raises `RateLimited`."""
        block = sender.rule.rate
        if not block.envelopes_per_minute:
            return None
        now = self.clock.time()
        if sender.bucket is None:
            sender.bucket = TokenBucket(block.envelopes_per_minute, burst_of(block), now)
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
        self.check_parked(creator)
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
        self._ask(self.arbiter.authorize_session, creator.passport, setup)

    def check_register(self, passport: Passport, rule: Rule) -> None:
        """Admit a registration or re-attachment, or raise its refusal."""
        self._ask(self.arbiter.authorize_register, passport, rule)

    def check_close(self, session_id: str, agent: Entry) -> None:
        """Admit a member's closing of its session, or raise its refusal."""
        self._ask(self.arbiter.authorize_close, session_id, agent.passport)

    def follow_rate(self, entry: Entry) -> None:
        """A rule has changed: its rate holds from now on, without a fresh burst."""
        block = entry.rule.rate
        if not block.envelopes_per_minute:
            entry.bucket = None
        elif entry.bucket is not None:
            entry.bucket.retune(block.envelopes_per_minute, burst_of(block))

    def _check_invitee(self, kind: str, creator: Entry, invitee: Entry) -> None:
        reason = may_talk(creator, invitee)
        if reason is not None:
            raise AccessDeniedError(reason, recipient=invitee.name)
        accepted = invitee.rule.access.session_types.accept
        if accepted != ANYBODY and not matches(accepted, kind):
            raise AccessDeniedError(f"access.session_types.accept of {invitee.name!r} does not allow {kind!r}")


__all__ = ["Arbiter", "Governance", "Grant", "MustWait", "loosened"]
