"""The registry and its clerk: every change of who is registered is decided, recorded, applied and announced in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.supervisor import Supervisor
from ..actors.sessions.identity import (
    AuthBlock,
    Passport,
    Resume,
    ResumeExample,
    check_passport,
    check_resume,
)
from ..actors.sessions.operations import (
    AddExample,
    Register,
    Registered,
    SetResume,
    SetRule,
    SetSkill,
)
from ..actors.sessions.rule import Rule, check_rule
from ..mailbox.clock import Clock, iso
from ..mailbox.errors import (
    AccessDeniedError,
    ActorCrashed,
    ActorStopped,
    AgorioError,
    ConflictError,
    HubClosedError,
    InvalidInput,
    NameTaken,
    NetworkError,
    NotFoundError,
    QuarantinedError,
)
from ..mailbox.events import (
    AUDIT_KIND_AGENT_ATTACHED,
    AUDIT_KIND_AGENT_REGISTERED,
    AUDIT_KIND_AGENT_UNREGISTERED,
    AUDIT_KIND_RESUME_SET,
    AUDIT_KIND_RULE_SET,
    AUDIT_KIND_SKILL_SET,
)
from .audit import AuditLog, AuditRecord
from .auth import AuthRegistry, unproven
from .directory import Directory, Entry
from .dormant import Dormant
from .governance import Governance
from .inbox import Inbox
from .inbox_actor import inbox_child
from .log_writer import LogWriter
from .loosening import loosened
from .records import StoredAgent, to_bytes, without_claim
from .sessions import Sessions
from .stores.protocol import Put

MAX_SKILL = 262_144


@attrs.frozen
class _Do:
    """One change for the clerk."""

    work: Callable[[], Any]
    """Decides and records; an async callable."""


class Clerk(Actor):
    """Makes the registry's changes one at a time."""

    async def receive(self, message: Any, ctx: Context) -> Any:
        """Make one change. If cancelled: it was made wholly or not at all, as the store says."""
        return await message.work()


class Registry:
    """Registration and the records of identity."""

    def __init__(
        self,
        *,
        directory: Directory,
        sessions: Sessions,
        writer: LogWriter,
        audit: AuditLog,
        clock: Clock,
        auth: AuthRegistry,
        governance: Governance,
        mint: Callable[[], str],
        make_inbox: Callable[[Passport, Rule], Inbox],
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._writer = writer
        self._audit = audit
        self._clock = clock
        self._governance = governance
        self._mint = mint
        self._make_inbox = make_inbox
        self.auth = auth
        self._written = trio.Event()
        self._written.set()
        self.agents: Supervisor | None = None
        self.ask: Callable[[Any], Any] | None = None
        self.owner_gone: Callable[[Entry], None] = lambda entry: None
        self.rule_changed: Callable[[Entry], None] = lambda entry: None

    async def _in_turn(self, work: Callable[[], Any]) -> Any:
        assert self.ask is not None
        try:
            return await self.ask(_Do(lambda: self._after_the_last(work)))
        except ActorStopped:
            raise HubClosedError("the hub is closing; nothing was changed") from None
        except ActorCrashed as crash:  # what has crashed inside is for the operator
            raise NetworkError("the registry failed on this request; look what has become of it") from crash

    async def _after_the_last(self, work: Callable[[], Any]) -> Any:
        """Whoever asked for the last change may have gone before it was durable; it still comes first."""
        await self._written.wait()
        return await work()

    async def _write(self, change: Put, records: Sequence[AuditRecord], apply: Callable[[], None]) -> None:
        """Make a change durable together with its audit records, and apply it in the very step in which it is.

        Whoever waits for it here may be cancelled; what is durable would then be so without effect until a restart.
        """
        written = self._written = trio.Event()
        outcome: list[AgorioError | None] = []

        def done(error: AgorioError | None) -> None:
            if error is None:
                self._audit.chained(*records)
                apply()
                self._audit.announce(*records)
            outcome.append(error)
            written.set()

        self._writer.submit((change, self._audit.change(*records)), done)
        await written.wait()
        if outcome[0] is not None:
            raise outcome[0]

    # Registration.

    async def register(self, op: Register) -> tuple[Registered, Entry]:
        """Register or re-attach an identity. Raises `AuthError`, `NameTaken`, `InvalidInput`, `AccessDeniedError`.

        If cancelled: it is registered wholly or not at all.
        """
        passport = check_passport(op.passport)
        _check_records(op.resume, op.skill_md, op.rule)
        credentials = op.credentials if op.credentials is not None else passport.auth
        # Proof comes before everything else, so that a stranger does not learn which names are taken.
        await self.auth.verify(passport, credentials, self._pinned(passport.name))
        # The scheme that was proven is the one that the identity keeps, whatever the passport says.
        passport = attrs.evolve(passport, auth=AuthBlock(credentials.scheme))
        registered: tuple[Registered, Entry] = await self._in_turn(lambda: self._register(op, passport))
        return registered

    def _pinned(self, name: str) -> str | None:
        stored = self._directory.find(name)
        return None if stored is None else stored.passport.auth.scheme

    async def _register(self, op: Register, passport: Passport) -> tuple[Registered, Entry]:
        if self._pinned(passport.name) not in (None, passport.auth.scheme):
            raise unproven(passport.name)  # somebody else has registered it since the proof, with another scheme
        entry = self._directory.find(passport.name)
        if op.agent_id is not None and (entry is None or entry.agent_id != op.agent_id):
            raise NotFoundError(f"{passport.name!r} is not known as {op.agent_id} any more; register it anew")
        self._governance.check_register(passport, op.rule or (entry.rule if entry else Rule()))
        if entry is None:
            entry = await self._enter(op, passport)
            return _registered(entry, attached=False), entry
        if not op.attach:
            raise _taken(entry)
        await self._reattach(op, entry)
        return _registered(entry, attached=True), entry

    async def _enter(self, op: Register, passport: Passport) -> Entry:
        now = iso(self._clock.time())
        stamped = attrs.evolve(without_claim(passport), agent_id=self._mint(), created_at=now)
        resume = attrs.evolve(op.resume or Resume(), observed={}, last_updated=now, version=1)
        stored = StoredAgent(stamped, resume, op.rule or Rule(), op.skill_md)
        record = self._audit.record(AUDIT_KIND_AGENT_REGISTERED, agent_id=stamped.agent_id, name=stamped.name)
        entered: list[Entry] = []
        put = Put(_key(stamped.agent_id), to_bytes(stored), 0)
        await self._write(put, (record,), lambda: entered.append(self.admit(stored)))
        return entered[0]

    def admit(self, stored: StoredAgent) -> Entry:
        """Give a stored identity its inbox and its actor."""
        inbox = self._make_inbox(stored.passport, stored.rule)
        entry = Entry(stored, inbox)
        self._directory.add(entry)
        assert self.agents is not None
        self.agents.start_soon(inbox_child(_actor_name(entry), inbox))
        return entry

    async def _reattach(self, op: Register, entry: Entry) -> None:
        stored, kinds = entry.stored, []
        # An empty résumé claims nothing; a program that passes one to be taken up again does not mean to erase its own.
        if op.resume is not None and _claims(op.resume) not in (_claims(stored.resume), Resume()):
            stored = attrs.evolve(stored, resume=self._updated(stored.resume, op.resume))
            kinds.append(AUDIT_KIND_RESUME_SET)
        if op.skill_md is not None and op.skill_md != stored.skill_md:
            stored = attrs.evolve(stored, skill_md=op.skill_md)
            kinds.append(AUDIT_KIND_SKILL_SET)
        kept = None if op.rule is None else loosened(stored.rule, op.rule)
        if op.rule is not None and kept is None and _bare(op.rule) != _bare(stored.rule):
            stored = attrs.evolve(stored, rule=attrs.evolve(op.rule, version=stored.rule.version + 1))
            kinds.append(AUDIT_KIND_RULE_SET)
        # A program passes the rule of its first start at every start; one that was tightened since stays as it is.
        note = {} if kept is None else {"rule_kept": kept}
        await self._record(entry, stored, [*kinds, AUDIT_KIND_AGENT_ATTACHED], by=entry.agent_id, **note)

    def _updated(self, old: Resume, new: Resume) -> Resume:
        return attrs.evolve(new, observed=old.observed, version=old.version + 1, last_updated=iso(self._clock.time()))

    def _refuse_loosening(self, old: Rule, new: Rule) -> None:
        field = loosened(old, new)
        if field is not None:
            message = f"an agent cannot loosen its own rule: {field}; ask the hub's operator"
            raise AccessDeniedError(message, field=field)

    async def _record(self, entry: Entry, stored: StoredAgent, kinds: list[str], **fields: Any) -> None:
        records = [
            self._audit.record(kind, agent_id=entry.agent_id, name=entry.name, **_facts(kind, stored), **fields)
            for kind in kinds
        ]
        await self._write(Put(_key(entry.agent_id), to_bytes(stored)), records, lambda: self._replace(entry, stored))

    def _replace(self, entry: Entry, stored: StoredAgent) -> None:
        if stored.resume.observed is not entry.resume.observed:  # a task has ended while this was being written
            stored = attrs.evolve(stored, resume=attrs.evolve(stored.resume, observed=entry.resume.observed))
        rule_changed = stored.rule is not entry.rule
        self._directory.replace(entry, stored)
        if rule_changed:
            self._governance.follow_rate(entry)
            entry.inbox.set_block(stored.rule.inbox)
            self._withdraw(entry)
            self.rule_changed(entry)

    def _withdraw(self, entry: Entry) -> None:
        """A rule has changed: what waits in an inbox and is not allowed any more is not delivered."""
        entry.inbox.withdraw()
        for session_id in entry.sessions:
            held = self._sessions.held(session_id)
            for who in held.participants if held is not None else ():
                other = self._directory.get(who)
                if other is not None:
                    other.inbox.withdraw()

    async def unregister(self, agent_id: str) -> None:
        """Strike an agent off: its mail becomes dead letters, its sessions go on or close without it.

        Raises `NotFoundError`. If cancelled: it is done wholly or not at all.
        """
        self._directory.entry(agent_id)
        await self._in_turn(lambda: self._unregister(agent_id))

    async def _unregister(self, agent_id: str) -> None:
        entry = self._directory.entry(agent_id)
        await self.wake_sessions(entry)
        record = self._audit.record(AUDIT_KIND_AGENT_UNREGISTERED, agent_id=entry.agent_id, name=entry.name)
        await self._write(Put(_key(entry.agent_id), None), (record,), lambda: self._strike_off(entry))

    async def wake_sessions(self, entry: Entry, *, pending_only: bool = False) -> None:
        """Fold the sessions of an agent that have not been touched yet, or those of them that have mail for it.

        If cancelled: some of them are folded.
        """
        for session_id in list(entry.sessions):
            held = self._sessions.held(session_id)
            is_idle = pending_only and held is not None and entry.agent_id not in held.log.expected()
            if isinstance(held, Dormant) and not is_idle:
                with suppress(QuarantinedError):  # it is reported, and has no members to be told
                    await self._sessions.get(session_id)

    def _strike_off(self, entry: Entry) -> None:
        self.owner_gone(entry)
        for session_id in list(entry.sessions):
            cell = self._sessions.resident(session_id)
            if cell is not None and not cell.live.terminal:
                self._sessions.depart(cell, entry.agent_id)
        entry.inbox.empty("unregistered")
        if entry.inbox.connection is not None:
            entry.inbox.connection.unbind(entry, NotFoundError(f"{entry.name!r} was unregistered"))
        self._directory.remove(entry.agent_id)
        assert self.agents is not None
        self.agents.stop_soon(_actor_name(entry))

    # Records.

    async def set_resume(self, op: SetResume) -> Resume:
        """Replace a résumé; the track record stays. Raises `ConflictError`. If cancelled: done wholly or not at all."""
        _check_records(op.resume, None, None)
        resume: Resume = await self._in_turn(lambda: self._set_resume(op))
        return resume

    async def _set_resume(self, op: SetResume) -> Resume:
        entry = self._directory.entry(op.agent_id)
        if op.expected_version is not None and op.expected_version != entry.resume.version:
            raise ConflictError(
                f"the résumé is at version {entry.resume.version}, not {op.expected_version}; read it again",
                version=entry.resume.version,
            )
        resume = self._updated(entry.resume, op.resume)
        await self._record(entry, attrs.evolve(entry.stored, resume=resume), [AUDIT_KIND_RESUME_SET])
        return resume

    async def add_example(self, op: AddExample) -> Resume:
        """Append an example. If cancelled: done wholly or not at all."""
        resume: Resume = await self._in_turn(lambda: self._add_example(op.agent_id, op.example))
        return resume

    async def _add_example(self, agent_id: str, example: ResumeExample) -> Resume:
        entry = self._directory.entry(agent_id)
        longer = attrs.evolve(entry.resume, examples=(*entry.resume.examples, example))
        return await self._set_resume(SetResume(agent_id, check_resume(longer)))

    async def set_skill(self, op: SetSkill) -> None:
        """Replace or remove a skill. If cancelled: done wholly or not at all."""
        _check_records(None, op.skill_md, None)

        async def work() -> None:
            entry = self._directory.entry(op.agent_id)
            stored = attrs.evolve(entry.stored, skill_md=op.skill_md)
            await self._record(entry, stored, [AUDIT_KIND_SKILL_SET])

        await self._in_turn(work)

    async def set_rule(self, op: SetRule, *, operator: bool) -> Rule:
        """Replace a rule; an agent may only tighten its own. If cancelled: done wholly or not at all."""
        check_rule(op.rule)

        async def work() -> Rule:
            entry = self._directory.entry(op.agent_id)
            if op.rule.inbox.overflow == "drop_oldest":
                await self.wake_sessions(entry, pending_only=True)  # the oldest must be there to be dropped
            if not operator:
                self._refuse_loosening(entry.rule, op.rule)
            rule = attrs.evolve(op.rule, version=entry.rule.version + 1)
            by = "operator" if operator else entry.agent_id
            await self._record(entry, attrs.evolve(entry.stored, rule=rule), [AUDIT_KIND_RULE_SET], by=by)
            return rule

        done: Rule = await self._in_turn(work)
        return done


def _check_records(resume: Resume | None, skill_md: str | None, rule: Rule | None) -> None:
    if resume is not None:
        check_resume(resume)
    if rule is not None:
        check_rule(rule)
    if skill_md is not None and (not isinstance(skill_md, str) or len(skill_md) > MAX_SKILL):
        raise InvalidInput(f"skill_md must be markdown of at most {MAX_SKILL} characters", field="skill_md")


def _taken(entry: Entry) -> NameTaken:
    return NameTaken(
        f"the name {entry.name!r} is registered already as {entry.agent_id}; choose another, or pass attach=True",
        name=entry.name,
        agent_id=entry.agent_id,
    )


def _registered(entry: Entry, attached: bool) -> Registered:
    return Registered(entry.agent_id, entry.passport, entry.resume, entry.rule, attached)


def _facts(kind: str, stored: StoredAgent) -> dict[str, Any]:
    """What a change's audit record says of it, beside whose it is."""
    if kind == AUDIT_KIND_RESUME_SET:
        return {"version": stored.resume.version, "source": "tenant"}
    if kind == AUDIT_KIND_RULE_SET:
        return {"version": stored.rule.version}
    return {"removed": stored.skill_md is None} if kind == AUDIT_KIND_SKILL_SET else {}


def _claims(resume: Resume) -> Resume:
    return attrs.evolve(resume, observed={}, version=1, last_updated="")


def _bare(rule: Rule) -> Rule:
    return attrs.evolve(rule, version=1)


def _key(agent_id: str) -> str:
    return f"agent/{agent_id}"


def _actor_name(entry: Entry) -> str:
    return entry.name


__all__ = ["AgorioError", "Clerk", "Registry"]
