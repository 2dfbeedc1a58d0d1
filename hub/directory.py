"""The directory: who is registered, by id, by name and by capability.

Plain tables; the registry's clerk writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from ..actors.sessions.budget import NO_ACCOUNT, Account
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.rule import ANYBODY, Rule, matches
from ..mailbox.errors import NotFoundError
from ..mailbox.rate import TokenBucket
from .inbox import Inbox
from .records import StoredAgent

SORTS = ("name", "created_at", "track_record")


class Entry:
    """One registered agent as the hub holds it."""

    __slots__ = ("account", "bucket", "denied_for", "inbox", "open_sessions", "open_tasks", "sessions", "stored")

    def __init__(self, stored: StoredAgent, inbox: Inbox) -> None:
        self.stored = stored
        self.inbox = inbox
        self.account: Account = NO_ACCOUNT
        self.bucket: TokenBucket | None = None
        self.sessions: dict[str, None] = {}
        self.open_sessions = 0
        self.open_tasks = 0
        self.denied_for = ""

    @property
    def agent_id(self) -> str:
        """The hub's id for it."""
        return self.stored.passport.agent_id

    @property
    def name(self) -> str:
        """Its name."""
        return self.stored.passport.name

    @property
    def passport(self) -> Passport:
        """Who it is."""
        return self.stored.passport

    @property
    def resume(self) -> Resume:
        """What it claims and has shown."""
        return self.stored.resume

    @property
    def rule(self) -> Rule:
        """Its governance."""
        return self.stored.rule

    def capabilities(self) -> set[str]:
        """What it claims or has shown."""
        return {*self.resume.claimed_capabilities, *self.resume.observed}

    def track_record(self, capability: str | None) -> tuple[int, float]:
        """Completed tasks and, lower is better, the negated median latency; of one capability or of all."""
        stats = [s for name, s in self.resume.observed.items() if capability in (None, name)]
        latency = [s.p50_latency_ms for s in stats if s.p50_latency_ms is not None]
        return sum(s.completed for s in stats), -min(latency, default=float("inf"))


class Directory:
    """Registered agents by id and by name, with an index of capabilities."""

    def __init__(self) -> None:
        self._by_id: dict[str, Entry] = {}
        self._ids: dict[str, str] = {}
        self._capable: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._by_id.values()))

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._by_id

    def get(self, agent_id: str) -> Entry | None:
        """The entry of an id, or None."""
        return self._by_id.get(agent_id)

    def shared(self, agent_id: str) -> str:
        """The one text of this id that everybody holds, where it is known: it may stand in thousands of sessions."""
        entry = self._by_id.get(agent_id)
        return agent_id if entry is None else entry.agent_id

    def entry(self, name_or_id: str) -> Entry:
        """The entry of an id or a name; an exact id wins. Raises `NotFoundError`."""
        entry = self._by_id.get(name_or_id) or self._by_id.get(self._ids.get(name_or_id, ""))
        if entry is None:
            raise NotFoundError(f"no agent {name_or_id!r} is registered; list_agents() shows who is", agent=name_or_id)
        return entry

    def find(self, name: str) -> Entry | None:
        """The entry of a name, or None."""
        return self._by_id.get(self._ids.get(name, ""))

    def add(self, entry: Entry) -> None:
        """Enter a new agent."""
        self._by_id[entry.agent_id] = entry
        self._ids[entry.name] = entry.agent_id
        self._index(entry.agent_id, entry.capabilities())

    def remove(self, agent_id: str) -> Entry:
        """Strike an agent off."""
        entry = self._by_id.pop(agent_id)
        del self._ids[entry.name]
        self._unindex(agent_id, entry.capabilities())
        return entry

    def replace(self, entry: Entry, stored: StoredAgent) -> None:
        """Give an entry its changed records."""
        before = entry.capabilities()
        entry.stored = stored
        after = entry.capabilities()
        if before != after:
            self._unindex(entry.agent_id, before - after)
            self._index(entry.agent_id, after - before)

    def _index(self, agent_id: str, capabilities: Iterable[str]) -> None:
        for capability in capabilities:
            self._capable.setdefault(capability, {})[agent_id] = None

    def _unindex(self, agent_id: str, capabilities: Iterable[str]) -> None:
        for capability in capabilities:
            holders = self._capable.get(capability, {})
            holders.pop(agent_id, None)
            if not holders:
                self._capable.pop(capability, None)

    def names(self, agent_ids: Iterable[str]) -> dict[str, str]:
        """Id to name; unknown ids are left out."""
        return {key: self._by_id[key].name for key in agent_ids if key in self._by_id}

    def search(
        self, *, capability: str | None, query: str | None, kind: str | None, sort_by: str, limit: int
    ) -> list[Entry]:
        """Filter, then sort, then cut: the best `limit` of all that fit."""
        entries = self._candidates(capability)
        words = query.lower().split() if query else []
        found = [e for e in entries if (kind is None or e.passport.kind == kind) and _contains(e, words)]
        if sort_by == "track_record":
            found.sort(key=lambda e: (e.track_record(capability), e.name), reverse=True)
        else:
            found.sort(key=lambda e: (e.passport.created_at, e.name) if sort_by == "created_at" else (e.name, ""))
        return found[: max(0, limit)]

    def _candidates(self, capability: str | None) -> list[Entry]:
        if capability is None:
            return list(self._by_id.values())
        return [self._by_id[agent_id] for agent_id in self._capable.get(capability, ())]


def _contains(entry: Entry, words: list[str]) -> bool:
    if not words:
        return True
    resume = entry.resume
    parts = (entry.name, resume.summary, *resume.claimed_capabilities, *resume.domains, entry.stored.skill_md or "")
    text = "\n".join(parts).lower()
    return all(word in text for word in words)


def may_talk(sender: Entry, recipient: Entry) -> str | None:
    """None if both rules allow it, else which field of whose rule forbids it."""
    outbound, inbound = sender.rule.access.outbound_to, recipient.rule.access.inbound_from
    if outbound != ANYBODY and not matches(outbound, recipient.name):
        return f"access.outbound_to of {sender.name!r} does not allow {recipient.name!r}"
    if inbound != ANYBODY and not matches(inbound, sender.name):
        return f"access.inbound_from of {recipient.name!r} does not allow {sender.name!r}"
    return None


@attrs.frozen
class AgentInfo:
    """What the operator sees of an agent."""

    name: str
    """Its name."""
    agent_id: str
    """Its id."""
    kind: str
    """Its kind."""
    connected: bool
    """Whether a connection holds it now."""
    pending: int
    """Deliveries that hold a slot of its inbox."""
    max_pending: int | None
    """The inbox's cap."""
    open_sessions: int
    """Open sessions that it created."""
    parked: str | None = None
    """Why it gets no mail; None where it does."""
    parked_in: tuple[str, ...] = ()
    """Sessions in which it gets none."""
