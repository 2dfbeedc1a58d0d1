"""A session's log step by step, and again under other rules to see what would have come differently.

A log is exported as JSON Lines: a first line with what was fixed at opening, then one envelope a line. Replaying needs
no hub, since a session is a fold of its log: the pure session rules run here as they run there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count

import attrs

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.lifecycle import Close, Command, Invite, Live, Note, Post, begin, fold, recipients, step
from ..actors.sessions.metadata import SessionSetup
from ..actors.sessions.rule import AccessBlock, Rule, matches
from ..hub.hub import Hub
from ..hub.records import StoredAgent, converter, from_bytes
from ..hub.session import stream_of
from ..hub.sessions import StoredSession
from ..hub.stores.protocol import KnowledgeStore
from ..mailbox.clock import parse_iso
from ..mailbox.codec import decode_envelope, encode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, AgorioError, BadFrame, NotFoundError
from ..mailbox.events import (
    EV_SESSION_INVITE,
    EV_SESSION_OPENED,
    EV_TURN_PASSED,
    HUB_EVENTS,
    LIFECYCLE_EVENTS,
    SESSION_END,
    TASK_EVENTS,
)

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


@attrs.frozen
class Difference:
    """Where another run parts from the recorded one."""

    sequence: int
    """The recorded envelope; 0 where it is about the session as a whole."""
    what: str
    """In words."""


# Export and import.


async def export_session(source: Hub | KnowledgeStore, session_id: str) -> str:
    """A session's log as JSON Lines. Raises `NotFoundError`. If cancelled: nothing has changed."""
    store = source._open_services().store if isinstance(source, Hub) else source
    document = await store.get(f"session/{session_id}")
    if document is None:
        raise NotFoundError(f"there is no session {session_id!r} in this store", session=session_id)
    setup = from_bytes(document.body, StoredSession).setup
    names = {who: name for who in setup.participants if (name := await _name(store, who))}
    records = await store.read(stream_of(session_id))
    return write_log(Recorded(setup, names, tuple(decode_envelope(record.body) for record in records)))


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
        live = fold(live, adapter, envelope)
        yield envelope, live


def describe(recorded: Recorded, adapter: SessionAdapter) -> Iterator[str]:
    """A line for each envelope: when, who, what, and how the session stands after it."""
    setup = recorded.setup
    members = ", ".join(recorded.name(who) for who in setup.participants)
    yield f"session {setup.session_id}: {setup.manifest.type} of {members}"
    for envelope, live in replay(recorded, adapter):
        since = parse_iso(envelope.created_at) - setup.created_at
        expected = adapter.expected_next(live.adapter_state) if live.state == "active" else None
        following = "" if expected is None else f", next: {' or '.join(map(recorded.name, expected)) or 'nobody'}"
        yield f"{envelope.sequence:4} {since:+10.3f}s  {_said(recorded, envelope)}  [{live.state}{following}]"


def _said(recorded: Recorded, envelope: Envelope) -> str:
    who = "hub" if envelope.event_type in HUB_EVENTS else recorded.name(envelope.sender_id)
    whom = "" if envelope.audience is None else f" to {', '.join(map(recorded.name, envelope.audience)) or 'nobody'}"
    what = json.dumps(envelope.text, ensure_ascii=False) if envelope.text else envelope.event_type.removeprefix("ag2.")
    reason = envelope.event_data.get("reason")
    return f"{who}{whom}: {what}" + (f" ({reason})" if isinstance(reason, str) and reason else "")


# Again, under other rules.


def compare(
    recorded: Recorded, before: SessionAdapter, after: SessionAdapter, rules: Mapping[str, Rule] | None = None
) -> list[Difference]:
    """Put to `after` what members said under `before`: what it would have refused, added or left out, and the end.

    `rules` are access rules by member's name that were not in force then.
    """
    run = _Rerun(recorded, before, after, rules or {})
    for envelope in recorded.log:
        run.put(envelope)
    return run.finish()


class _Rerun:
    """The recorded session and another one, side by side."""

    def __init__(
        self, recorded: Recorded, before: SessionAdapter, after: SessionAdapter, rules: Mapping[str, Rule]
    ) -> None:
        self._recorded = recorded
        self._before = before
        self._after = after
        self._rules = rules
        self._old = begin(recorded.setup, before)
        self._new = begin(recorded.setup, after)
        self._found: list[Difference] = []
        self._ids = count(1)
        self._command(Invite(), None)

    def put(self, envelope: Envelope) -> None:
        """Let both sessions live through one recorded envelope."""
        command = self._command_of(envelope)
        if command is not None and not self._new.terminal:
            self._command(command, envelope)
        elif command is not None and envelope.event_type not in LIFECYCLE_EVENTS:
            self._note(envelope, f"is not said any more: the session has ended as {self._new.close_reason}")
        self._old = fold(self._old, self._before, envelope)
        self._compare_turns(envelope)

    def _command_of(self, envelope: Envelope) -> Command | None:
        """What led to the envelope; None for what follows from the rules by itself."""
        kind, data = envelope.event_type, envelope.event_data
        if kind not in HUB_EVENTS:
            return Post(envelope) if kind not in TASK_EVENTS else None
        if kind in SESSION_END:
            follows = self._before.auto_close_reason(self._old.adapter_state) == data.get("reason")
            return None if follows else Close(str(data.get("reason")), str(data.get("by") or ""))
        return (
            None
            if kind in (EV_SESSION_INVITE, EV_SESSION_OPENED, EV_TURN_PASSED)
            else Note(kind, dict(data), envelope.audience)
        )

    def _command(self, command: Command, envelope: Envelope | None) -> None:
        now = self._recorded.setup.created_at if envelope is None else parse_iso(envelope.created_at)
        try:
            if isinstance(command, Post):
                self._check_access(command.envelope)
            self._new = step(self._new, self._after, command, now, lambda: f"{next(self._ids):032x}").live
        except AgorioError as refusal:
            if envelope is not None:
                self._note(envelope, f"would be refused: {refusal}")

    def _check_access(self, envelope: Envelope) -> None:
        sender = self._recorded.name(envelope.sender_id)
        for who in recipients(self._recorded.setup, envelope):
            name = self._recorded.name(who)
            outbound, inbound = self._access(sender).outbound_to, self._access(name).inbound_from
            if not matches(outbound, name) or not matches(inbound, sender):
                raise AccessDeniedError(f"the rules do not let {sender!r} talk to {name!r}")

    def _access(self, name: str) -> AccessBlock:
        return self._rules.get(name, Rule()).access

    def _compare_turns(self, envelope: Envelope) -> None:
        if self._old.state == self._new.state == "active":
            old = self._before.expected_next(self._old.adapter_state)
            new = self._after.expected_next(self._new.adapter_state)
            if old != new:
                self._note(envelope, f"is followed by {self._turn(new)} instead of {self._turn(old)}")

    def _turn(self, expected: tuple[str, ...] | None) -> str:
        return "anybody" if expected is None else " or ".join(map(self._recorded.name, expected)) or "nobody"

    def _note(self, envelope: Envelope, what: str) -> None:
        self._found.append(Difference(envelope.sequence, f"{_said(self._recorded, envelope)} {what}"))

    def finish(self) -> list[Difference]:
        """What was found, the end included."""
        old, new = self._old, self._new
        if (old.state, old.close_reason) != (new.state, new.close_reason):
            self._found.append(Difference(0, f"the session is {_end(new)} in the end instead of {_end(old)}"))
        return self._found


def _end(live: Live) -> str:
    return f"{live.state} ({live.close_reason})" if live.close_reason else str(live.state)
