"""A session's log as a file of its own, and step by step. `comparison.py` runs it again under other rules.

A log is exported as JSON Lines: a first line with what was fixed at opening, then one envelope a line. Replaying needs
no hub, since a session is a fold of its log: the pure session rules run here as they run there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.lifecycle import Live, begin, fold
from ..actors.sessions.metadata import SessionSetup
from ..hub.hub import Hub
from ..hub.records import StoredAgent, StoredSession, converter, from_bytes
from ..hub.session import stream_of
from ..hub.stores.protocol import KnowledgeStore
from ..mailbox.clock import parse_iso
from ..mailbox.codec import decode_envelope, encode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, BadFrame, NotFoundError, ProtocolError
from ..mailbox.events import HUB_EVENTS, LIFECYCLE_EVENTS

SHOWN = 100
FORMAT = "agorio-session"


@attrs.frozen
class Recorded:
    """A session as it was exported."""

    setup: SessionSetup
    """What was fixed at opening."""
    names: dict[str, str]
    """Names of its members by id, as far as they were known."""
    log: tuple[Envelope, ...]
    """Its envelopes in order."""

    def name(self, agent_id: str) -> str:
        """A member's name, or its id."""
        return self.names.get(agent_id, agent_id)


# Export and import.


async def export_session(source: Hub | KnowledgeStore, session_id: str) -> str:
    """A session's log as JSON Lines. Raises `NotFoundError`. If cancelled: nothing has changed."""
    return write_log(await record_session(source, session_id))


async def record_session(source: Hub | KnowledgeStore, session_id: str) -> Recorded:
    """A session as its store has it. Raises `NotFoundError`. If cancelled: nothing has changed."""
    store = source._open_services().store if isinstance(source, Hub) else source
    document = await store.get(f"session/{session_id}")
    if document is None:
        raise NotFoundError(f"there is no session {session_id!r} in this store", session=session_id)
    setup = from_bytes(document.body, StoredSession).setup
    names = {who: name for who in setup.participants if (name := await _name(store, who))}
    records = await store.read(stream_of(session_id))
    return Recorded(setup, names, tuple(decode_envelope(record.body) for record in records))


async def _name(store: KnowledgeStore, agent_id: str) -> str | None:
    document = await store.get(f"agent/{agent_id}")
    return None if document is None else from_bytes(document.body, StoredAgent).passport.name


def write_log(recorded: Recorded) -> str:
    """The text that `read_log` reads."""
    head = {"format": FORMAT, "version": 1, "setup": converter.unstructure(recorded.setup), "names": recorded.names}
    lines = [json.dumps(head, ensure_ascii=False), *(encode_envelope(one).decode() for one in recorded.log)]
    return "\n".join(lines) + "\n"


def read_log(text: str) -> Recorded:
    """The session that a text holds. Raises `BadFrame` for anything else."""
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        head = json.loads(lines[0])
        if head["format"] != FORMAT:
            raise BadFrame(f"a session's log begins with the format {FORMAT!r}, this one with {head['format']!r}")
        setup = converter.structure(head["setup"], SessionSetup)
        return Recorded(setup, dict(head["names"]), tuple(decode_envelope(line.encode()) for line in lines[1:]))
    except AgorioError:
        raise
    except Exception as exc:
        raise BadFrame(f"no exported session: {exc!r}") from exc


# Step by step.


def replay(recorded: Recorded, adapter: SessionAdapter) -> Iterator[tuple[Envelope, Live]]:
    """Each envelope with the state after it. Raises `ProtocolError` where the rules cannot fold it."""
    live = begin(recorded.setup, adapter)
    for envelope in recorded.log:
        live = follow(live, adapter, envelope)
        yield envelope, live


def follow(live: Live, adapter: SessionAdapter, envelope: Envelope) -> Live:
    """The state after one recorded envelope. Raises `ProtocolError` where the session type cannot fold it."""
    try:
        return fold(live, adapter, envelope)
    except AgorioError:
        raise
    except Exception as exc:  # a session type may be anybody's code
        kind = type(adapter).__name__
        raise ProtocolError(f"{kind} cannot fold step {envelope.sequence}, {envelope.event_type}: {exc!r}") from exc


def describe(recorded: Recorded, adapter: SessionAdapter) -> Iterator[str]:
    """A line for each envelope: when, who, what, and how the session stands after it."""
    yield headline(recorded)
    for envelope, live in replay(recorded, adapter):
        since = max(0.0, parse_iso(envelope.created_at) - recorded.setup.created_at)  # stamps are whole microseconds
        how = standing(recorded, live, adapter)
        yield f"{envelope.sequence:4} {since:+10.3f}s  {said(recorded, envelope)}  [{how}]"


def headline(recorded: Recorded) -> str:
    """Which session it is."""
    setup = recorded.setup
    return f"session {setup.session_id}: {setup.manifest.type} of {', '.join(map(recorded.name, setup.participants))}"


def standing(recorded: Recorded, live: Live, adapter: SessionAdapter) -> str:
    """How a session stands: its state, and whose turn it is or why it has ended."""
    if live.state == "active":
        return f"{live.state}{turn(recorded, adapter.expected_next(live.adapter_state))}"
    return f"{live.state} as {live.close_reason}" if live.close_reason else str(live.state)


def turn(recorded: Recorded, expected: tuple[str, ...] | None) -> str:
    """Whose turn it is, as the end of a sentence; empty where anybody may speak."""
    return "" if expected is None else f", next: {' or '.join(map(recorded.name, expected)) or 'nobody'}"


def said(recorded: Recorded, envelope: Envelope) -> str:
    """One envelope in words: who, to whom, what."""
    who = "hub" if envelope.event_type in HUB_EVENTS else recorded.name(envelope.sender_id)
    whom = "" if envelope.audience is None else f" to {', '.join(map(recorded.name, envelope.audience)) or 'nobody'}"
    return f"{who}{whom}: {_what(envelope)}"


def _what(envelope: Envelope) -> str:
    kind, data = envelope.event_type.removeprefix("ag2."), envelope.event_data
    if envelope.text:
        return json.dumps(envelope.text, ensure_ascii=False)
    if envelope.event_type in LIFECYCLE_EVENTS:
        reason = data.get("reason")
        return f"{kind} ({reason})" if isinstance(reason, str) and reason else kind
    text = json.dumps(_plain(data), ensure_ascii=False) if data else ""
    return f"{kind} {text[:SHOWN]}{'...' * (len(text) > SHOWN)}".rstrip()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
