"""The tools `peers`, `sessions` and `context`: what there is, and what was said."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Annotated, Any, Literal

import trio
from msgspec import Meta

from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError, InvalidInput
from ...mailbox.events import EV_CONTEXT_SET, LIFECYCLE_EVENTS
from ..sessions.identity import Passport, Resume
from ..sessions.metadata import SessionMetadata
from ..sessions.operations import ReadContext
from .session import Session
from .tools_scope import Scope, brief

Limit = Annotated[int, Meta(description="At most so many results.", ge=1, le=1000)]
SessionId = Annotated[str | None, Meta(description="Which session; by default the current one.")]


class Look(Scope):
    """Looking around: other agents, own sessions, what was said there."""

    __slots__ = ()

    # Peers.

    async def peers(
        self,
        action: Annotated[Literal["find", "describe"], Meta(description="`find` several, or `describe` one.")] = "find",
        name: Annotated[str | None, Meta(description="For `describe`: whom, by name or id.")] = None,
        query: Annotated[
            str | None, Meta(description="Only those whose name, skill or résumé contains all these words.")
        ] = None,
        capability: Annotated[str | None, Meta(description="Only those that have this capability.")] = None,
        kind: Annotated[Literal["agent", "human", "remote_agent"] | None, Meta(description="Only this kind.")] = None,
        sort_by: Annotated[
            Literal["name", "created_at", "track_record"], Meta(description="`track_record` puts the proven first.")
        ] = "name",
        limit: Limit = 20,
    ) -> Any:
        """Find other agents by capability, words or kind, or describe one of them with its skill.

        If cancelled: nothing has changed.
        """
        hub_client = self.client.hub_client
        if action == "describe":
            return await self._describe(name)
        found = await hub_client.list_agents(
            capability=capability, query=query, kind=kind, sort_by=sort_by, limit=limit + 1
        )
        others = [passport for passport in found if passport.agent_id != self.client.agent_id][:limit]
        resumes = await self._resumes(others)
        return [_peer(passport, resumes[passport.agent_id]) for passport in others if passport.agent_id in resumes]

    async def _resumes(self, passports: list[Passport]) -> dict[str, Resume]:
        """Asked for all at once, so that they cost one round trip; who has left meanwhile is left out."""
        resumes: dict[str, Resume] = {}

        async def read(agent_id: str) -> None:
            try:
                resumes[agent_id] = await self.client.hub_client.get_resume(agent_id)
            except LookupError:
                return

        async with trio.open_nursery() as nursery:
            for passport in passports:
                nursery.start_soon(read, passport.agent_id)
        return resumes

    async def _describe(self, name: str | None) -> dict[str, Any]:
        if name is None:
            raise InvalidInput("peers: `describe` needs a name", field="name")
        hub_client = self.client.hub_client
        passport, resume = await hub_client.get_agent(name), await hub_client.get_resume(name)
        return {
            **_peer(passport, resume),
            "owner": passport.owner,
            "model": passport.model,
            "examples": [{"title": example.title, "outcome": example.outcome} for example in resume.examples],
            "skill": await hub_client.get_skill(name),
        }

    # Sessions.

    async def sessions(
        self,
        action: Annotated[Literal["list", "open", "info", "close"], Meta(description="What to do.")] = "list",
        session_id: Annotated[
            str | None, Meta(description="For `info` and `close`: which; by default the current one.")
        ] = None,
        state: Annotated[
            Literal["open", "pending", "active", "closed", "expired"] | None,
            Meta(description="For `list`: only these."),
        ] = None,
        type: Annotated[str, Meta(description="For `open`: the session type.")] = "conversation",
        participants: Annotated[list[str] | None, Meta(description="For `open`: with whom, by name.")] = None,
        message: Annotated[str | None, Meta(description="For `open`: the first thing to say there.")] = None,
        intent: Annotated[str | None, Meta(description="For `open`: what the session is for.")] = None,
        reason: Annotated[str, Meta(description="For `close`: why.")] = "explicit_close",
        limit: Limit = 20,
    ) -> Any:
        """List your sessions, open one, look at one or close one.

        If cancelled: a session may have been opened or closed.
        """
        if action == "list":
            mine = await self.client.hub_client.list_sessions(agent_id=self.client.agent_id, state=state, limit=limit)
            return [brief(metadata, await self.names(metadata)) for metadata in mine]
        if action == "open":
            return await self._open(type, participants or [], message, intent)
        metadata = await self.session(session_id)
        if action == "close":
            metadata = await self.client.close_session(metadata.session_id, reason)
        return await self._info(metadata)

    async def _open(self, type: str, participants: list[str], message: str | None, intent: str | None) -> Any:
        session = await self.client.open(type, participants, intent=intent)
        if message is not None:
            try:
                await session.send(message)
            except AgorioError:
                await session.close("first_message_refused")
                raise
        return await self._info(session.metadata)

    async def _info(self, metadata: SessionMetadata) -> dict[str, Any]:
        names = await self.names(metadata)
        turn = metadata.expected_next
        return {
            **brief(metadata, names),
            "whose_turn": None if turn is None else [names.get(who, who) for who in turn],
            "messages": metadata.last_sequence,
            "expires_at": metadata.expires_at,
            "closed_at": metadata.closed_at,
            "close_reason": metadata.close_reason,
        }

    # Context.

    async def context(
        self,
        action: Annotated[
            Literal["search", "quote", "read", "set", "delete"],
            Meta(description="`search` or `quote` what was said; `read`, `set` or `delete` variables of a workflow."),
        ],
        query: Annotated[str | None, Meta(description="For `search`: words that must all occur.")] = None,
        speaker: Annotated[str | None, Meta(description="For `search` and `quote`: only this member's words.")] = None,
        key: Annotated[str | None, Meta(description="For `read`, `set` and `delete`: the variable.")] = None,
        value: Annotated[Any, Meta(description="For `set`: any JSON value.")] = None,
        session_id: SessionId = None,
        limit: Limit = 10,
    ) -> Any:
        """Search or quote what was said in a session, newest first, or read and change the variables of a workflow.

        If cancelled: a variable may have been changed.
        """
        metadata = await self.session(session_id)
        if action == "read":
            return await self._read(metadata, key)
        if action in ("set", "delete"):
            return await self._change(metadata, action, key, value)
        if action == "search" and not query:
            raise InvalidInput("context: `search` needs a query", field="query")
        return await self._said(metadata, (query or "").lower().split(), speaker, limit)

    async def _said(
        self, metadata: SessionMetadata, words: list[str], speaker: str | None, limit: int
    ) -> list[dict[str, Any]]:
        names = await self.names(metadata)
        render = self.client.hub_client.adapter(metadata.manifest).render
        found: list[dict[str, Any]] = []
        async with aclosing(self.backwards(metadata)) as log:
            async for envelope in log:
                if speaker is not None and speaker not in (envelope.sender_id, names.get(envelope.sender_id)):
                    continue
                text = "" if envelope.event_type in LIFECYCLE_EVENTS else render(envelope)
                if text and all(word in text.lower() for word in words):
                    found.append(_quote(envelope, text, names))
                    if len(found) == limit:
                        break
        return found

    async def _read(self, metadata: SessionMetadata, key: str | None) -> Any:
        variables = await self.client.connection.request(ReadContext(metadata.session_id, self.client.agent_id))
        plain: dict[str, Any] = json.loads(json.dumps(variables))
        return plain if key is None else plain.get(key)

    async def _change(self, metadata: SessionMetadata, action: str, key: str | None, value: Any) -> dict[str, Any]:
        if key is None:
            raise InvalidInput(f"context: `{action}` needs a key", field="key")
        if "context_vars" not in metadata.manifest.knobs:
            raise InvalidInput(f"a session of type {metadata.manifest.type!r} has no variables", field="action")
        data = {"key": key, "value": value} if action == "set" else {"delete": [key]}
        sent = await Session(self.client, metadata).send(data, event_type=EV_CONTEXT_SET)
        return {"envelope_id": sent.envelope_id}


def _quote(envelope: Envelope, text: str, names: dict[str, str]) -> dict[str, Any]:
    return {
        "speaker": names.get(envelope.sender_id, envelope.sender_id),
        "text": text,
        "sequence": envelope.sequence,
        "at": envelope.created_at,
    }


def _peer(passport: Passport, resume: Resume) -> dict[str, Any]:
    return {
        "name": passport.name,
        "agent_id": passport.agent_id,
        "kind": passport.kind,
        "summary": resume.summary,
        "capabilities": list(resume.claimed_capabilities),
        "domains": list(resume.domains),
        "track_record": {
            capability: {"n": stat.n, "completed": stat.completed, "p50_latency_ms": stat.p50_latency_ms}
            for capability, stat in resume.observed.items()
        },
    }
