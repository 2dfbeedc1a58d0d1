"""What a restart costs: opening a store full of open sessions, and the first touch of a long one.

`python benchmarks/recovery.py [--quick]`. The stores are written by the session rules and the store alone, as a hub
that was closed leaves them; opening happens in a process of its own. Memory is what that process has more than before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from common import Row, resident, show

from agorio import EV_TEXT, DiskKnowledgeStore, Envelope, Hub, Passport
from agorio.actors.sessions.adapters.conversation import ConversationAdapter
from agorio.actors.sessions.judging import Invite, Post, step
from agorio.actors.sessions.lifecycle import Live, begin
from agorio.actors.sessions.metadata import SessionSetup
from agorio.hub.dormant import Mail, bookmark_of, outline_of
from agorio.hub.records import StoredAgent, StoredSession, to_bytes
from agorio.hub.session_log import SessionLog
from agorio.hub.snapshots import saved_of
from agorio.hub.stores.protocol import Append, Change, Put
from agorio.mailbox.codec import encode_envelope
from agorio.mailbox.events import EV_SESSION_INVITE_ACK
from agorio.mailbox.ids import IdGenerator

TEXT = "x" * 100
SESSIONS, EACH, LONG = 10_000, 100, 100_000
AGENTS = 100
DAY = 86_400.0
ADAPTER = ConversationAdapter()
_ids = IdGenerator(time.time_ns, lambda bits: 0)


@attrs.define
class Talk:
    """One open conversation under construction."""

    live: Live
    """Its fold."""
    log: SessionLog = attrs.field(factory=SessionLog)
    """Who has handled what."""

    def bodies(self, length: int) -> Iterator[bytes]:
        """Its envelopes for the log."""
        ann, bob = self.live.setup.participants
        ack = Envelope(self.live.setup.session_id, bob, None, EV_SESSION_INVITE_ACK)
        yield from self._step(Invite())
        yield from self._step(Post(ack))
        while self.live.sequence < length:
            sender = bob if self.live.sequence % 2 else ann
            yield from self._step(Post(Envelope(self.live.setup.session_id, sender, None, EV_TEXT, {"text": TEXT})))

    def _step(self, command: Invite | Post) -> Iterator[bytes]:
        result = step(self.live, ADAPTER, command, time.time(), _ids)
        self.live = result.live
        yield from map(encode_envelope, result.envelopes)


def talk_of(ann: str, bob: str) -> Talk:
    """A conversation of two agents that has just begun."""
    now = time.time()
    setup = SessionSetup(
        _ids(), ADAPTER.manifest, ann, (ann, bob), now, now + DAY, expectations=ADAPTER.manifest.expectations
    )
    return Talk(begin(setup, ADAPTER))


def documents_of(talk: Talk, pending: int) -> list[Change]:
    """What a hub keeps of a session beside its log; the newest envelopes are not handled yet."""
    session_id = talk.live.setup.session_id
    talk.log.take_up({"*": [talk.live.sequence - pending]})
    waiting = {talk.live.setup.participants[0]: (pending, 0)} if pending else {}
    for agent_id in waiting:
        talk.log.expect(agent_id, pending)
    return [
        Put(f"session/{session_id}", to_bytes(StoredSession(talk.live.setup))),
        Put(f"open/{session_id}", outline_of(talk.live.setup).to_bytes()),
        Put(
            f"cursor/{session_id}",
            bookmark_of(talk.live, talk.log, time.time() + DAY, _ids(), Mail(waiting)).to_bytes(),
        ),
    ]


async def fill(path: Path, sessions: int, each: int, *, pending: int = 0, snapshot: bool = False) -> str:
    """Write a store; the last session's id."""
    store = DiskKnowledgeStore(path, durability="relaxed")
    await store.open()
    agents = [StoredAgent(Passport(f"agent-{number}", agent_id=_ids())) for number in range(AGENTS)]
    await store.commit([Put(f"agent/{one.passport.agent_id}", to_bytes(one)) for one in agents])
    ids = [one.passport.agent_id for one in agents]
    changes: list[Change] = []
    talk = talk_of(ids[0], ids[1])
    for number in range(sessions):
        talk = talk_of(ids[number % AGENTS], ids[(number + 1) % AGENTS])
        stream = f"session/{talk.live.setup.session_id}"
        changes.append(Append(stream, tuple(talk.bodies(each))))
        changes += documents_of(talk, pending)
        if snapshot and (saved := saved_of(talk.live, ADAPTER, _ids(), 0)) is not None:
            changes.append(Put(f"snapshot/{talk.live.setup.session_id}", to_bytes(saved)))
        if len(changes) > 500:
            await store.commit(changes)
            changes = []
    await store.commit(changes)
    await store.close()
    return talk.live.setup.session_id


async def use(path: Path, session_id: str) -> None:
    """Open a hub on the store; print seconds, resident bytes, and the seconds of a session's first touch."""
    before = resident()
    begin_at, worked_at = time.perf_counter(), time.process_time()
    async with Hub.open(DiskKnowledgeStore(path), ttl_sweep_interval=0, expectation_sweep_interval=0) as hub:
        opened, worked = time.perf_counter() - begin_at, time.process_time() - worked_at
        held = resident() - before
        begin_at = time.perf_counter()
        await hub.get_session(session_id)
        touched = time.perf_counter() - begin_at
        pending = hub.statistics().current_pending
    print(opened, held, touched, pending, worked)


async def measure(path: Path, session_id: str) -> list[float]:
    """`use` in a process of its own."""
    command = [sys.executable, "-P", __file__, "--use", str(path), session_id]
    done = await trio.run_process(command, capture_stdout=True)
    return [float(word) for word in done.stdout.split()]


async def opening(folder: Path, sessions: int, pending: int) -> list[Row]:
    """A store of open sessions."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name, "hub.db")
        session_id = await fill(path, sessions, EACH, pending=pending)
        opened, held, touched, found, worked = await measure(path, session_id)
    assert found == sessions * pending, f"{found:.0f} deliveries are pending"
    what = f"{sessions:,} open sessions, {sessions * EACH:,} envelopes, {pending} pending in each"
    return [
        Row(f"opening {what}", opened, None, "s", False, "2"),
        Row("of it processor time, both threads", worked, None, "s", False),
        Row("memory that it takes", held / 1e6, None, "MB", False, "200"),
        Row(f"first touch of a session of {EACH}", touched * 1e3, None, "ms", False),
    ]


async def long_session(folder: Path, length: int) -> list[Row]:
    """The first touch of one long session, without and with a snapshot."""
    seen = []
    for snapshot in (False, True):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            path = Path(name, "hub.db")
            session_id = await fill(path, 1, length, snapshot=snapshot)
            seen.append((await measure(path, session_id))[2] * 1e3)
    return [
        Row(f"first touch of a session of {length:,}, without a snapshot", seen[0], None, "ms", False),
        Row(f"first touch of a session of {length:,}, with one", seen[1], None, "ms", False, "10"),
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(description="What a restart costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, rough figures")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--folder", type=Path, default=Path("."), help="on which disk")
    parser.add_argument("--use", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.use is not None:
        await use(Path(arguments.use[0]), arguments.use[1])
        return
    scale = 10 if arguments.quick else 1
    rows: list[Row] = []
    for pending in (0, 1):
        rows += await opening(arguments.folder, SESSIONS // scale, pending)
    rows += await long_session(arguments.folder, LONG // scale)
    show("Recovery", rows, as_json=arguments.json)


if __name__ == "__main__":
    trio.run(main)
