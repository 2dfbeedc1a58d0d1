"""What a client asks the hub about agents, sessions and logs, with what never changes kept at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ...mailbox.envelope import Envelope
from ...mailbox.events import EV_TEXT
from ..sessions.identity import Passport, Resume
from ..sessions.metadata import SessionMetadata
from ..sessions.operations import (
    CanSend,
    GetAgent,
    GetResume,
    GetRule,
    GetSession,
    GetSkill,
    ListAgents,
    ListSessions,
    NamesFor,
    ReadWal,
)
from ..sessions.rule import Rule
from .skills import render_skill
from .views import ViewPolicy, ViewRegistry

if TYPE_CHECKING:
    from .connection import Connection

_SESSIONS_KEPT: Final = 1024
_NAMES_KEPT: Final = 65_536


class DirectoryCalls:
    """The reading half of a `HubClient`."""

    views: ViewRegistry

    def __init__(self) -> None:
        self._setups: dict[str, SessionMetadata] = {}
        self._names: dict[str, str] = {}

    async def connect(self) -> Connection:
        """The connection. If cancelled: not connected."""
        raise NotImplementedError

    async def _request(self, operation: Any) -> Any:
        return await (await self.connect()).request(operation)

    # Agents.

    async def get_agent(self, name_or_id: str) -> Passport:
        """An agent's passport. If cancelled: nothing has changed."""
        passport: Passport = await self._request(GetAgent(name_or_id))
        return passport

    get_passport = get_agent

    async def find_agent_id(self, name: str) -> str:
        """The id behind a name. If cancelled: nothing has changed."""
        return (await self.get_agent(name)).agent_id

    async def get_resume(self, name_or_id: str) -> Resume:
        """An agent's résumé. If cancelled: nothing has changed."""
        resume: Resume = await self._request(GetResume(name_or_id))
        return resume

    async def get_rule(self, name_or_id: str) -> Rule:
        """The rule of one of this client's own agents. If cancelled: nothing has changed."""
        rule: Rule = await self._request(GetRule(name_or_id))
        return rule

    async def get_skill(self, name_or_id: str) -> str:
        """An agent's skill, rendered from passport and résumé where none was set. If cancelled: nothing has changed."""
        skill_md: str | None = await self._request(GetSkill(name_or_id))
        if skill_md is not None:
            return skill_md
        return render_skill(await self.get_agent(name_or_id), await self.get_resume(name_or_id))

    async def list_agents(
        self,
        *,
        capability: str | None = None,
        query: str | None = None,
        kind: str | None = None,
        sort_by: str = "name",
        limit: int = 50,
    ) -> tuple[Passport, ...]:
        """Search for agents. If cancelled: nothing has changed."""
        found: tuple[Passport, ...] = await self._request(ListAgents(capability, query, kind, sort_by, limit))
        return found

    async def names(self, agent_ids: Iterable[str]) -> dict[str, str]:
        """Names by id; unknown ids are left out. If cancelled: nothing has changed."""
        wanted = tuple(agent_ids)
        missing = tuple(agent_id for agent_id in wanted if agent_id not in self._names)
        if missing:
            if len(self._names) > _NAMES_KEPT:
                self._names.clear()
            found: dict[str, str] = await self._request(NamesFor(missing))
            self._names.update(found)
            return {agent_id: name for agent_id in wanted if (name := found.get(agent_id) or self._names.get(agent_id))}
        return {agent_id: self._names[agent_id] for agent_id in wanted}

    # Sessions.

    async def get_session(self, session_id: str) -> SessionMetadata:
        """A session as it is now. If cancelled: nothing has changed."""
        metadata: SessionMetadata = await self._request(GetSession(session_id))
        self.remember(metadata)
        return metadata

    async def session_setup(self, session_id: str) -> SessionMetadata:
        """A session as it was when last seen: its type, members, knobs and labels never change.

        If cancelled: nothing has changed.
        """
        known = self._setups.get(session_id)
        return known if known is not None else await self.get_session(session_id)

    def remember(self, metadata: SessionMetadata) -> None:
        """Keep a snapshot for `session_setup`."""
        self._setups[metadata.session_id] = metadata
        if len(self._setups) > _SESSIONS_KEPT:
            del self._setups[next(iter(self._setups))]

    async def list_sessions(
        self, *, agent_id: str | None = None, state: str | None = None, limit: int = 50
    ) -> tuple[SessionMetadata, ...]:
        """The sessions of one or all of this client's agents, newest first. If cancelled: nothing has changed."""
        found: tuple[SessionMetadata, ...] = await self._request(ListSessions(agent_id, state, limit))
        return found

    def own_id(self, name_or_id: str) -> str:
        """The id of one of this client's agents; anything else comes back as it is."""
        return name_or_id

    async def can_send(
        self, session_id: str, agent_id: str, event_type: str = EV_TEXT, *, answers: Envelope | None = None
    ) -> bool:
        """Whether the hub would accept such an envelope of that member, by id or name, now.

        With `answers`, what an agent is about to answer by itself, it is also asked whether agents have answered each
        other often enough (`Rule.limits.automatic_turns`). The turn is given up then.

        If cancelled: nothing has changed.
        """
        cause = None if answers is None else answers.envelope_id
        answer: bool = await self._request(CanSend(session_id, self.own_id(agent_id), event_type, cause))
        return answer

    async def default_view_policy(self, session_id: str, agent_id: str) -> ViewPolicy:
        """The view that the session's type gives its members. If cancelled: nothing has changed."""
        metadata = await self.session_setup(session_id)
        return self.views.get(metadata.manifest.default_view_policy, metadata)

    # Logs.

    async def read_wal(
        self, session_id: str, *, after: int = 0, limit: int | None = None, as_agent: str | None = None
    ) -> list[Envelope]:
        """The log as this client's members of the session may see it, or as one of them may.

        If cancelled: nothing has changed.
        """
        return await self._read_on(ReadWal(session_id, as_agent, after=after, limit=limit))

    async def read_before(
        self, session_id: str, before: int, *, limit: int | None = None, as_agent: str | None = None
    ) -> list[Envelope]:
        """The log before a sequence; with a limit the newest so many. If cancelled: nothing has changed."""
        if limit is None:
            return await self._read_on(ReadWal(session_id, as_agent, before=before))
        return await self._read_back(session_id, before, limit, as_agent)

    async def read_tail(self, session_id: str, limit: int, *, as_agent: str | None = None) -> list[Envelope]:
        """The newest so many envelopes of the log. If cancelled: nothing has changed."""
        metadata = await self.get_session(session_id)
        return await self._read_back(session_id, metadata.last_sequence + 1, limit, as_agent)

    async def _read_on(self, first: ReadWal) -> list[Envelope]:
        """Read forward in the hub's pages; an empty one is the end, unless it is known before."""
        log: list[Envelope] = []
        after, left = first.after, first.limit
        while left is None or left > 0:
            page = await self._request(ReadWal(first.session_id, first.agent_id, after, first.before, left))
            log.extend(page)
            if not page or page[-1].sequence + 1 == first.before:
                break
            after = page[-1].sequence
            left = None if left is None else left - len(page)
        return log

    async def _read_back(self, session_id: str, before: int, limit: int, as_agent: str | None) -> list[Envelope]:
        """Read backward. Sequences have no gaps, so it is known where the newest so many begin; where some of them are
        not for this reader it goes further back, by ever larger steps."""
        log: list[Envelope] = []
        step = limit
        while len(log) < limit and before > 1:
            after = max(0, before - 1 - step)
            log[:0] = await self._read_on(ReadWal(session_id, as_agent, after, before))
            before, step = after + 1, 2 * step
        return log[-limit:]
