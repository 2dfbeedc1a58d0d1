"""`agorio sessions`: what a store holds, newest first."""

from __future__ import annotations

import argparse
from typing import Any

import attrs

from ..hub.records import StoredSession, from_bytes
from ..hub.session import stream_of
from ..hub.stores.protocol import KnowledgeStore
from ..mailbox.clock import iso
from ..mailbox.codec import decode_envelope
from ..mailbox.errors import AgorioError, NotFoundError
from ..mailbox.events import SESSION_END
from .output import print_json, print_table
from .running import DONE, WRONG, complain, run_async
from .stores import Folder, agent_names, documents, open_store

COLUMNS = ("session", "type", "state", "log", "created", "participants", "reason")


@attrs.frozen
class Row:
    """One session of the list."""

    session: str
    """Its id."""
    type: str
    """Its type."""
    state: str
    """Where it is in its life."""
    participants: tuple[str, ...]
    """Names, the creator's first; an id where the agent is gone."""
    log: int
    """Envelopes in its log."""
    created: str
    """ISO-8601 time."""
    reason: str
    """Why it has ended."""


def run(args: argparse.Namespace) -> int:
    """List the sessions."""
    return run_async("sessions", list_sessions, args)


async def list_sessions(args: argparse.Namespace) -> int:
    """List the sessions; 1 where some are unreadable. If cancelled: nothing has changed."""
    rows: list[Row] = []
    unreadable = 0
    async with open_store(args.store) as store:
        names = await agent_names(store)
        folder, member = Folder(store), _member(args.agent, names)
        async for document in documents(store, "session/"):
            try:
                stored = from_bytes(document.body, StoredSession)
                if member is None or member in stored.setup.participants:
                    rows.append(await _row(folder, stored, names))
            except AgorioError as error:
                unreadable += 1
                complain("sessions", f"{document.key}: {error}")
        unreadable += sum(damage.name.startswith("session/") for damage in await store.damaged())
    _show([row for row in reversed(rows) if fits(row.state, args.state)], as_json=args.json)
    return WRONG if unreadable else DONE


def _member(agent: str | None, names: dict[str, str]) -> str | None:
    """The id of an agent given by name or id; one that has left is known by its id only."""
    ids = {name: agent_id for agent_id, name in names.items()}
    if agent is None or agent in names:
        return agent
    if agent in ids:
        return ids[agent]
    if len(agent) < 32:
        raise NotFoundError(f"no agent {agent!r} is registered; one that has left is found by its id")
    return agent


async def _row(folder: Folder, stored: StoredSession, names: dict[str, str]) -> Row:
    setup, store = stored.setup, folder.store
    state: str = stored.state
    if state == "open" and folder.knows(stored):
        state = (await folder.fold(stored)).state.value
    last = await store.last(stream_of(setup.session_id))
    return Row(
        session=setup.session_id,
        type=setup.manifest.type,
        state=state,
        participants=tuple(names.get(who, who) for who in setup.participants),
        log=last,
        created=iso(setup.created_at),
        reason="" if stored.state == "open" else await _reason(store, setup.session_id, last),
    )


async def _reason(store: KnowledgeStore, session_id: str, last: int) -> str:
    """What the end of the log says about the end of the session."""
    for record in reversed(await store.read(stream_of(session_id), max(0, last - 8))):
        envelope = decode_envelope(record.body)
        if envelope.event_type in SESSION_END:
            return str(envelope.event_data.get("reason", ""))
    return ""


def fits(state: str, wanted: str | None) -> bool:
    """Whether a session in `state` is wanted; `open` is every state but the last two."""
    return wanted in (None, state) or (wanted == "open" and state not in ("closed", "expired"))


def _show(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(attrs.asdict(row))
        return
    cells: list[list[Any]] = [[getattr(row, name) for name in COLUMNS] for row in rows]
    for line in cells:
        line[4] = line[4][:19].replace("T", " ")
        line[5] = ", ".join(line[5])
    print_table(COLUMNS, cells, whole=("session",))
