"""`agorio log`: one session's envelopes in their order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator

import trio

from ..hub.session import stream_of
from ..hub.stores.protocol import KnowledgeStore, Record
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.events import RESERVED_PREFIX, SESSION_END
from .output import print_raw, print_table, say
from .peek import EVERY, Peek
from .running import DONE, CommandError, run_async
from .stores import PAGE, agent_names, find_session, open_store, reading_on

COLUMNS = ("#", "time", "from", "to", "type", "said")


def run(args: argparse.Namespace) -> int:
    """Print the log."""
    return run_async("log", follow_log if args.follow else print_log, args)


async def print_log(args: argparse.Namespace) -> int:
    """Print the log. If cancelled: nothing has changed."""
    if args.after < 0:
        raise CommandError(f"--after {args.after}: must not be negative")
    async with open_store(args.store) as disk:
        store = reading_on(disk, args.archive)
        session_id = await find_session(store, args.session)
        names = await agent_names(store)
        rows = []
        async for record, envelope in _wanted(store, session_id, args, names):
            if args.json:
                print_raw(record.body)
            else:
                rows.append(_row(envelope, names))
    if not args.json:
        print_table(COLUMNS, rows, whole=("#", "time"))
    return DONE


async def follow_log(args: argparse.Namespace) -> int:
    """Print what is logged, and what comes, until the session ends. If cancelled: nothing has changed."""
    if args.after < 0:
        raise CommandError(f"--after {args.after}: must not be negative")
    peek = Peek(args.store)
    try:
        stream, is_over, names = peek.find_session(args.session), False, peek.names()
        while not is_over:
            for record in peek.news(stream):
                envelope = decode_envelope(record.body)
                is_over = is_over or envelope.event_type in SESSION_END
                if record.sequence > args.after and _fits(envelope, args, names):
                    _print_now(record, envelope, names, as_json=args.json)
            if not is_over:
                await trio.sleep(EVERY)
                names = names if set(names) else peek.names()
    finally:
        peek.close()
    return DONE


def _print_now(record: Record, envelope: Envelope, names: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_raw(record.body)
    else:
        say("  ".join(str(cell) for cell in _row(envelope, names)))
    sys.stdout.flush()


def _fits(envelope: Envelope, args: argparse.Namespace, names: dict[str, str]) -> bool:
    if args.sender is not None and args.sender not in (envelope.sender_id, names.get(envelope.sender_id)):
        return False
    return args.type is None or envelope.event_type in (args.type, f"{RESERVED_PREFIX}{args.type}")


async def _wanted(
    store: KnowledgeStore, session_id: str, args: argparse.Namespace, names: dict[str, str]
) -> AsyncIterator[tuple[Record, Envelope]]:
    after = args.after
    while page := await store.read(stream_of(session_id), after, PAGE):
        for record in page:
            envelope = decode_envelope(record.body)
            if _fits(envelope, args, names):
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
