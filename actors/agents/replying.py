"""What is left to send when a turn is over, after what the agent has said through its tools. Pure.

Where turns are kept a turn is one envelope: what `say` said and what the agent returns are one reply, and a handoff
that a tool has returned travels with it. Where anybody may speak at any time `say` posts at once, and only what the
final text adds to it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from ...mailbox.envelope import Envelope
from ...mailbox.events import HUB_EVENTS
from ..sessions.adapters.base import SessionAdapter
from ..sessions.adapters.workflow import WorkflowAdapter
from ..sessions.metadata import SessionMetadata
from .routing import Utterance, read_reply, routing_tools, utter
from .turn_context import Said, Turn

Audience = tuple[str, ...] | None


def final_words(
    turn: Turn, reply: Any, metadata: SessionMetadata, adapter: SessionAdapter
) -> tuple[Utterance | None, Audience]:
    """What the turn's end sends and to whom; None where there is nothing to add to what was said."""
    is_workflow = isinstance(adapter, WorkflowAdapter)
    names = routing_tools(metadata.knobs.get("graph")) if is_workflow else frozenset[str]()
    packet = read_reply(reply, (call for call in turn.calls if call is not None), names)
    held = [said for said in turn.said if not said.is_posted]
    if held:
        packet = attrs.evolve(packet, body=_joined(held))
    elif any(said.text.strip() == packet.body.strip() for said in turn.said):
        packet = attrs.evolve(packet, body="")
    utterance = utter(packet, is_workflow=is_workflow)
    audience = held[0].audience if held and held[0].audience is not None else reply_audience(turn)
    return utterance, _with_target(audience, utterance)


def _joined(held: Iterable[Said]) -> str:
    return "\n\n".join(dict.fromkeys(said.text for said in held))


def reply_audience(turn: Turn) -> Audience:
    """Whom a reply is for: who was privately addressed, and who did so; everybody where everybody was."""
    envelope: Envelope = turn.envelope
    if envelope.audience is None or envelope.event_type in HUB_EVENTS:
        return None
    others = (envelope.sender_id, *envelope.audience)
    return tuple(dict.fromkeys(who for who in others if who != turn.client.agent_id)) or None


def _with_target(audience: Audience, utterance: Utterance | None) -> Audience:
    """Whoever is handed the word must hear of it."""
    if audience is None or utterance is None or utterance.target is None:
        return audience
    return (*audience, utterance.target)
