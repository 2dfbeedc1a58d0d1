"""Run by the crash loop: 32 sessions write through a hub's log writer, and every acknowledgement is printed.

`crash_child.py PATH`. A line is `session sequence`, printed once the record and the document beside it are durable.
"""

from __future__ import annotations

import sys

import trio

from agorio.hub.log_writer import LogWriter
from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.protocol import Append, Put

SESSIONS = 32


def body(session: int, sequence: int) -> bytes:
    """What the record holds; the parent knows it too."""
    return b"%d:%d:" % (session, sequence) + b"x" * (sequence * 37 % 600)


async def write(writer: LogWriter, session: int, start: int) -> None:
    sequence = start
    while True:
        append = Append(f"session/{session}", (body(session, sequence + 1),), sequence)
        await writer.write(append, Put(f"count/{session}", b"%d" % (sequence + 1)))
        sequence += 1
        sys.stdout.write(f"{session} {sequence}\n")
        sys.stdout.flush()


async def main() -> None:
    store = DiskKnowledgeStore(sys.argv[1])
    await store.open()
    writer = LogWriter(store)
    async with trio.open_nursery() as nursery:
        print("ready", flush=True)
        nursery.start_soon(writer.run)
        for session in range(SESSIONS):
            nursery.start_soon(write, writer, session, await store.last(f"session/{session}"))


if __name__ == "__main__":
    trio.run(main)
