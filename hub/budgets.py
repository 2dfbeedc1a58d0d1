"""Budgets at work: what every agent uses up is counted durably, and whoever goes beyond its rule is parked.

Counts change in the step in which they are reported and are committed at once, together with the audit record of a
parking that follows from them. A parked agent keeps its identity, its connection and its mail; nothing is pushed to it
and it begins nothing, until the operator resumes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from ..actors.sessions.budget import (
    NO_ACCOUNT,
    Account,
    Limits,
    Parking,
    Usage,
    charged,
    counting,
    exceeded,
    refreshed,
)
from ..mailbox.errors import AgorioError, ConflictError
from ..mailbox.events import AUDIT_KIND_AGENT_PARKED, AUDIT_KIND_AGENT_RESUMED
from .audit import AuditRecord
from .directory import Entry
from .records import from_bytes, to_bytes
from .session import SessionCell
from .stores.protocol import Put

if TYPE_CHECKING:
    from .services import Services

AGENTS = "budget/"
SESSIONS = "spent/"
PAGE = 1024
Done = Callable[[AgorioError | None], None]
_log = logging.getLogger("agorio.hub")


@attrs.frozen
class BudgetReport:
    """What one agent has used up, in all or in one session."""

    agent_id: str
    """Its id."""
    name: str
    """Its name."""
    session_id: str | None
    """In which session; None is in all."""
    total: Usage
    """Ever."""
    counting: Usage
    """What counts against the limits now."""
    parked: Parking | None
    """Why it gets no mail; None where it does."""


class Budgets:
    """The accounts of all agents."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.total_parked = 0
        self._spent: dict[str, dict[str, Account]] = {}  # of sessions that have not ended, by session and agent
        self._open: set[str] = set()

    # Counting.

    def failed_turn(
        self, entry: Entry, session_id: str, *, envelope_id: str = "", sequence: int = 0, restarts: int = 0
    ) -> None:
        """A turn has failed, which may have cost the agent's actor. Each attempt counts once, however often told."""
        delivery = entry.inbox.desk.out_of(session_id, sequence=sequence, envelope_id=envelope_id)
        if delivery is not None and delivery.failed != delivery.attempt:
            delivery.failed = delivery.attempt
            cell = self._services.sessions.resident(session_id)
            self.charge(entry, Usage(restarts=restarts, failed_turns=1), cell)

    def restarted(self, name: str) -> None:
        """The hub's own actor of an agent is started again after a crash."""
        entry = self._services.directory.find(name)
        if entry is not None:
            self.charge(entry, Usage(restarts=1))

    async def report(self, entry: Entry, usage: Usage, cell: SessionCell | None, key: str) -> None:
        """Count what an agent says that it has used; back when that is durable. Raises `StoreError`.

        If cancelled: it is counted all the same.
        """
        written = trio.Event()
        outcome: list[AgorioError | None] = []

        def done(error: AgorioError | None) -> None:
            outcome.append(error)
            written.set()

        self.charge(entry, usage, cell, key, done)
        await written.wait()
        if outcome[0] is not None:
            raise outcome[0]

    def charge(
        self, entry: Entry, usage: Usage, cell: SessionCell | None = None, key: str = "", done: Done | None = None
    ) -> None:
        """Count, judge, and write both down. What is written is the whole account, so writing it again is harmless."""
        block, now = entry.rule.budget, self._services.clock.time()
        is_known = key != "" and key in entry.account.keys
        entry.account = charged(entry.account, usage, now, block.window, key)
        audits = self._judge(entry)
        if cell is not None and cell.live.terminal:
            cell = None  # what is told after the end counts for the agent alone
        if cell is not None:
            spent = self._spent.setdefault(cell.session_id, {})
            before = spent.get(entry.agent_id, NO_ACCOUNT)
            spent[entry.agent_id] = before if is_known else charged(before, usage, now)
            audits += self._judge_session(entry, cell)
        self._write(entry, None if cell is None else cell.session_id, audits, done)

    def judge(self, entry: Entry) -> None:
        """A rule has changed: what was used already may be too much by now."""
        audits = self._judge(entry)
        if audits:
            self._write(entry, None, audits)
        for session_id in list(entry.sessions):
            cell = self._services.sessions.resident(session_id)
            if cell is not None and (audits := self._judge_session(entry, cell)):
                self._write(entry, session_id, audits)

    def _judge(self, entry: Entry) -> list[AuditRecord]:
        block = entry.rule.budget
        used = counting(entry.account, self._services.clock.time(), block.window)
        parking = self._parking(entry.account, block, used, "budget")
        if parking is None:
            return []
        entry.account = attrs.evolve(entry.account, parked=parking)
        return [self._park(entry, parking, None)]

    def _judge_session(self, entry: Entry, cell: SessionCell) -> list[AuditRecord]:
        account = self._account(entry, cell.session_id)
        used = counting(account, self._services.clock.time())
        parking = self._parking(account, entry.rule.budget.per_session, used, "budget.per_session")
        if parking is None:
            return []
        self._set(entry, cell.session_id, attrs.evolve(account, parked=parking))
        return [self._park(entry, parking, cell.session_id)]

    def _parking(self, account: Account, limits: Limits, used: Usage, prefix: str) -> Parking | None:
        """Why the account is to be parked now; None where it need not, or is already."""
        beyond = None if account.parked is not None else exceeded(limits, used, prefix)
        return None if beyond is None else Parking(self._services.clock.time(), *beyond)

    def _park(self, entry: Entry, parking: Parking, session_id: str | None) -> AuditRecord:
        self.total_parked += 1
        entry.inbox.park(session_id)
        return self._services.audit.record(
            AUDIT_KIND_AGENT_PARKED,
            agent_id=entry.agent_id,
            name=entry.name,
            session_id=session_id,
            limit=parking.limit,
            reason=parking.reason,
        )

    # The store.

    def _write(self, entry: Entry, session_id: str | None, audits: list[AuditRecord], done: Done | None = None) -> None:
        changes = self._changes(entry, session_id)
        audit = self._services.audit

        def written(error: AgorioError | None) -> None:
            if error is None:
                audit.committed(*audits)
            else:
                self._write_later(entry, changes, audits, error)
            if done is not None:
                done(error)

        self._services.writer.submit((*changes, audit.change(*audits)) if audits else changes, written)

    def _changes(self, entry: Entry, session_id: str | None) -> tuple[Put, ...]:
        if entry.agent_id not in self._services.directory:
            return ()  # struck off meanwhile
        changes = (Put(AGENTS + entry.agent_id, to_bytes(entry.account)),)
        if session_id is None:
            return changes
        return (*changes, Put(_key(session_id, entry.agent_id), to_bytes(self._account(entry, session_id))))

    def _write_later(
        self, entry: Entry, changes: tuple[Put, ...], audits: list[AuditRecord], error: AgorioError
    ) -> None:
        """The store has refused, which may be over in a moment; what was counted is still counted here."""
        _log.warning("the usage of %s could not be written: %s", entry.name, error)
        for change in changes:
            self._services.writer.put_lazily(change.key, partial(self._body_of, entry, change))
        for record in audits:
            self._services.audit.write(**{name: value for name, value in record.items() if name != "at"})

    def _body_of(self, entry: Entry, change: Put) -> bytes:
        """What is to be written by now."""
        if change.key.startswith(AGENTS):
            return to_bytes(entry.account)
        session_id = change.key.removeprefix(SESSIONS).partition("/")[0]
        return to_bytes(self._account(entry, session_id)) if session_id in self._spent else change.body or b""

    async def recover(self) -> None:
        """Take up the accounts of the registered agents and of their open sessions. If cancelled: part of them."""
        await self._each(AGENTS, self._recover_agent)
        if await self._services.store.scan(SESSIONS, limit=1):
            self._open = await self._open_sessions()
            await self._each(SESSIONS, self._recover_session)
            self._open = set()

    async def _open_sessions(self) -> set[str]:
        """Sessions with work left, whether or not they are in memory yet."""
        found, after = set[str](), ""
        while page := await self._services.store.scan("open/", after, PAGE):
            after = page[-1].key
            found.update(document.key.removeprefix("open/") for document in page)
        return found

    async def _each(self, prefix: str, take: Callable[[str, Account], None]) -> None:
        after, store = "", self._services.store
        while page := await store.scan(prefix, after, PAGE):
            after = page[-1].key
            for document in page:
                try:
                    take(document.key.removeprefix(prefix), from_bytes(document.body, Account))
                except AgorioError as error:
                    _log.warning("%s is set aside: %s", document.key, error)
                    self._services.quarantined[document.key] = str(error)

    def _recover_agent(self, agent_id: str, account: Account) -> None:
        entry = self._services.directory.get(agent_id)
        if entry is not None:
            entry.account = account
            if account.parked is not None:
                entry.inbox.park(None)

    def _recover_session(self, key: str, account: Account) -> None:
        session_id, _, agent_id = key.partition("/")
        cell, entry = self._services.sessions.resident(session_id), self._services.directory.get(agent_id)
        if session_id not in self._open or entry is None or (cell is not None and cell.live.terminal):
            return
        self._set(entry, session_id, account)
        if account.parked is not None:
            entry.inbox.park(session_id)

    def gone(self, entry: Entry) -> None:
        """An agent was struck off; its id never comes again."""
        self._services.writer.submit((Put(AGENTS + entry.agent_id, None),), lambda error: None)

    # The operator.

    def look(self, entry: Entry, session_id: str | None = None) -> BudgetReport:
        """What an agent has used up; of a session only while that has not ended."""
        account, window = self._account(entry, session_id), entry.rule.budget.window if session_id is None else None
        used = counting(account, self._services.clock.time(), window)
        return BudgetReport(entry.agent_id, entry.name, session_id, account.total, used, account.parked)

    async def park(self, entry: Entry, reason: str) -> BudgetReport:
        """Park an agent by hand; one that is parked stays so. If cancelled: it may be parked."""
        if entry.account.parked is None:
            parking = Parking(self._services.clock.time(), "", reason)
            entry.account = attrs.evolve(entry.account, parked=parking)
            await self._commit(entry, None, self._park(entry, parking, None), lambda error: None)
        else:
            await trio.lowlevel.checkpoint()
        return self.look(entry)

    async def resume(self, entry: Entry, session_id: str | None, *, reset: bool) -> BudgetReport:
        """Deliver again. Without `reset` what was used goes on counting; raises `ConflictError` where it is too much.

        If cancelled: it may be resumed.
        """
        account = self._account(entry, session_id)
        if account.parked is None:
            await trio.lowlevel.checkpoint()
            return self.look(entry, session_id)
        block = entry.rule.budget
        limits, used = (block if session_id is None else block.per_session), self.look(entry, session_id).counting
        if not reset and (beyond := exceeded(limits, used)) is not None:
            raise ConflictError(f"{beyond[1]}, still: raise the limit, or begin a fresh budget with reset=True")
        fresh = refreshed(account) if reset else attrs.evolve(account, parked=None)
        record = self._services.audit.record(
            AUDIT_KIND_AGENT_RESUMED,
            agent_id=entry.agent_id,
            name=entry.name,
            session_id=session_id,
            by="operator",
            reset=reset,
            used=attrs.asdict(used),
        )
        self._set(entry, session_id, fresh)

        def done(error: AgorioError | None) -> None:
            now = self._account(entry, session_id)
            if error is not None:  # it stays parked, as the store says
                slices = (*account.slices, *now.slices) if reset else now.slices
                self._set(entry, session_id, attrs.evolve(now, slices=slices, parked=account.parked))
            elif now.parked is None:
                entry.inbox.resume(session_id)

        await self._commit(entry, session_id, record, done)
        return self.look(entry, session_id)

    def session_over(self, session_id: str) -> None:
        """A session has ended: nobody is parked in it any more, and its end reaches everybody."""
        for agent_id, account in list(self._spent.get(session_id, {}).items()):
            entry = self._services.directory.get(agent_id)
            if account.parked is not None and entry is not None:
                self._set(entry, session_id, attrs.evolve(account, parked=None))
                entry.inbox.resume(session_id)
                self._write(entry, session_id, [])
        self._spent.pop(session_id, None)

    def _account(self, entry: Entry, session_id: str | None) -> Account:
        if session_id is None:
            return entry.account
        return self._spent.get(session_id, {}).get(entry.agent_id, NO_ACCOUNT)

    def _set(self, entry: Entry, session_id: str | None, account: Account) -> None:
        if session_id is None:
            entry.account = account
        else:
            self._spent.setdefault(session_id, {})[entry.agent_id] = account

    async def _commit(self, entry: Entry, session_id: str | None, record: AuditRecord, then: Done) -> None:
        """Write the account and the record; `then` runs in the step in which they are durable, or are refused."""
        written = trio.Event()
        outcome: list[AgorioError | None] = []
        audit = self._services.audit

        def done(error: AgorioError | None) -> None:
            if error is None:
                audit.chained(record)
            then(error)
            if error is None:
                audit.announce(record)
            outcome.append(error)
            written.set()

        self._services.writer.submit((*self._changes(entry, session_id), audit.change(record)), done)
        await written.wait()
        if outcome[0] is not None:
            raise outcome[0]


def _key(session_id: str, agent_id: str) -> str:
    return f"{SESSIONS}{session_id}/{agent_id}"
