"""`agorio log`: one session's envelopes in their order."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator

from ..hub.session import stream_of
from ..hub.stores.protocol import KnowledgeStore, Record
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.events import RESERVED_PREFIX
from .output import print_raw, print_table
from .running import DONE, CommandError, run_async
from .stores import PAGE, agent_names, find_session, open_store

COLUMNS = ("#", "time", "from", "to", "type", "said")


def run(args: argparse.Namespace) -> int:
    """Print the log."""
    return run_async("log", print_log, args)


async def print_log(args: argparse.Namespace) -> int:
    """Print the log. If cancelled: nothing has changed."""
    if args.after < 0:
        raise CommandError(f"--after {args.after}: must not be negative")
    async with open_store(args.store) as store:
        session_id = await find_session(store, args.session)
        names = await agent_names(store)
        rows = []
        async for record, envelope in _wanted(store, session_id, args):
            if args.json:
                print_raw(record.body)
            else:
                rows.append(_row(envelope, names))
    if not args.json:
        print_table(COLUMNS, rows, whole=("#", "time"))
    return DONE


async def _wanted(
    store: KnowledgeStore, session_id: str, args: argparse.Namespace
) -> AsyncIterator[tuple[Record, Envelope]]:
    after, kinds = args.after, (args.type, f"{RESERVED_PREFIX}{args.type}")
    while page := await store.read(stream_of(session_id), after, PAGE):
        for record in page:
            envelope = decode_envelope(record.body)
            if args.type is None or envelope.event_type in kinds:
                yield record, envelope
        after = page[-1].sequence


def _row(envelope: Envelope, names: dict[str, str]) -> list[object]:
    audience = "all" if envelope.audience is None else ", ".join(names.get(who, who) for who in envelope.audience)
    said = envelope.text or ", ".join(f"{key}={value}" for key, value in envelope.event_data.items())
    return [
        envelope.sequence,
        envelope.created_at[11:19],
        names.get(envelope.sender_id, envelope.sender_id[-8:]),
        audience,
        envelope.event_type.removeprefix(RESERVED_PREFIX),
        said,
    ]
