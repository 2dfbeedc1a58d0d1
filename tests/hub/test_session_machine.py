"""A whole network at random: sessions of every type, failing handlers, absences, restarts, crashes and clock jumps.

After every step the log must tell what the hub holds; at the end everything that was accepted must be accounted for.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import attrs
import trio
from hypothesis import settings
from hypothesis import strategies as st

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.hub_client import HubClient
from agorio.actors.sessions.adapters.registry import default_adapters
from agorio.actors.sessions.graph import TransitionGraph
from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.lifecycle import begin, fold, recipients, snapshot
from agorio.actors.sessions.metadata import SessionMetadata
from agorio.actors.sessions.rule import InboxBlock, RateBlock, Rule
from agorio.hub.hub import Hub
from agorio.hub.inbox import Redelivery
from agorio.hub.records import StoredSession, from_bytes
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import KnowledgeStore
from agorio.mailbox.codec import decode_envelope
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AgorioError
from agorio.mailbox.events import LIFECYCLE_EVENTS, TURN_EVENTS
from agorio.transports.local import LocalLink
from tests.hub.stores import SlowStore, copied
from tests.support.trio_machine import TrioStateMachine, initialize, invariant, rule

NAMES = ("ann", "ben", "cid")
WHO = st.sampled_from(NAMES)
KINDS = ("conversation", "consulting", "discussion", "workflow")
RULES = (
    Rule(),
    Rule(inbox=InboxBlock(2)),
    Rule(inbox=InboxBlock(1, "drop_oldest")),
    Rule(inbox=InboxBlock(1, "drop_newest")),
    Rule(rate=RateBlock(6, burst=2)),
)
ATTEMPTS = 3
WORDS = st.sampled_from(["say", "say", "say", "slow", "fail 1", "fail 9"])
LINES = st.tuples(WHO, st.integers(0, 5), WORDS, st.booleans(), st.integers(1, 2))


@attrs.define
class Member:
    """An agent whose handler notes what it handles, and fails as often as the text says."""

    name: str
    generation: int
    handled: dict[str, list[Envelope]] = attrs.field(factory=lambda: defaultdict(list))
    tries: dict[str, int] = attrs.field(factory=lambda: defaultdict(int))
    client: AgentClient | None = None

    async def handle(self, machine: HubMachine, generation: int, envelope: Envelope) -> None:
        word = envelope.text.split()[0] if envelope.text else ""
        if word == "slow":
            await trio.sleep(3)
        if generation != machine.generation:
            return  # a program that has lost power
        self.tries[envelope.envelope_id] += 1
        if word == "fail" and self.tries[envelope.envelope_id] <= int(envelope.text.split()[1]):
            raise LookupError("as it was told")
        if envelope.event_type not in LIFECYCLE_EVENTS:
            self.handled[envelope.session_id].append(envelope)


class HubMachine(TrioStateMachine):
    """Members open, speak and close; the world takes their hub and their connections away."""

    patience = 1e5

    async def setup(self) -> None:
        self.store: KnowledgeStore = MemoryKnowledgeStore()
        self.generation = 0
        self.members = {name: Member(name, 0) for name in NAMES}
        self.clients: dict[str, HubClient] = {}
        self.ended: dict[str, SessionMetadata] = {}
        self.refused: set[str] = set()
        self.accepted = 0
        self.count = 0

    @initialize(is_slow=st.booleans(), rules=st.tuples(*[st.sampled_from(RULES)] * len(NAMES)))
    async def begin(self, is_slow: bool, rules: tuple[Rule, ...]) -> None:
        self.store = SlowStore(seconds=0.01) if is_slow else self.store
        await self.open_hub()
        for name, rule_ in zip(NAMES, rules, strict=True):
            await self.connect(name, rule_)
        for kind in KINDS:
            await self.open(who="ann", others={"ben", "cid"}, kind=kind, ttl=None)

    async def open_hub(self) -> None:
        self.over = trio.Event()
        self.hub: Hub = await self.nursery.start(self.serve, self.store, self.over)

    async def serve(self, store: KnowledgeStore, over: trio.Event, task_status: Any) -> None:
        redelivery = Redelivery(max_attempts=ATTEMPTS, backoff=1, factor=2)
        await Hub.serve(store, redelivery=redelivery, ttl_sweep_interval=5, task_status=task_status)
        over.set()

    async def connect(self, name: str, rule_: Rule | None = None) -> None:
        hc = self.clients[name] = HubClient(LocalLink(self.hub), hub=self.hub)
        member = self.members[name]
        member.client = await hc.register(
            None,
            Passport(name),
            Resume(),
            rule=rule_,
            attach=True,
            handler=partial(member.handle, self, self.generation),
        )

    def client(self, name: str) -> AgentClient:
        client = self.members[name].client
        assert client is not None
        return client

    # What members do.

    @rule(who=WHO, others=st.sets(WHO, min_size=1), kind=st.sampled_from(KINDS), ttl=st.sampled_from([None, 20.0]))
    async def open(self, who: str, others: set[str], kind: str, ttl: float | None) -> None:
        targets = sorted(others - {who})[: 1 if kind in ("conversation", "consulting") else None]
        knobs: dict[str, Any] = {}
        if kind == "workflow":
            ids = [self.client(name).agent_id for name in (who, *targets)]
            knobs["graph"] = TransitionGraph.round_robin(ids, max_turns=4).to_dict()
        try:
            await self.client(who).open(kind, targets, ttl=ttl, knobs=knobs, invite_ack_timeout=5)
        except AgorioError:
            return

    @rule(lines=st.lists(LINES, min_size=2, max_size=8), is_at_once=st.booleans())
    async def talk(self, lines: list[tuple[str, int, str, bool, int]], is_at_once: bool) -> None:
        async with trio.open_nursery() as nursery:
            for line in lines:
                if is_at_once:
                    nursery.start_soon(self.send, *line)
                else:
                    await self.send(*line)

    async def send(self, who: str, index: int, word: str, is_private: bool, tries: int) -> None:
        session = await self.pick(who, index)
        if session is None:
            return
        if session.expected_next:
            who = next((name for name in NAMES if self.client(name).agent_id in session.expected_next), who)
        self.count += 1
        text, others = f"{word} #{self.count}", [p for p in session.participant_ids if p != self.client(who).agent_id]
        envelope = Envelope(
            session.session_id,
            self.client(who).agent_id,
            others[:1] if is_private and others else None,
            event_data={"text": text},
            idempotency_key=text,
        )
        try:
            accepted = [await self.client(who).send_envelope(envelope) for _ in range(tries)]
        except AgorioError:
            self.refused.add(text)
            return
        assert len({one.envelope_id for one in accepted}) == 1
        self.accepted += 1

    async def pick(self, who: str, index: int) -> SessionMetadata | None:
        """A session of the member's, mostly one that is open."""
        found = await self.hub.list_sessions(agent_id=self.client(who).agent_id)
        found.sort(key=lambda session: session.is_terminal())
        return found[index % len(found)] if found else None

    @rule(who=WHO, index=st.integers(0, 5), is_operator=st.booleans())
    async def close(self, who: str, index: int, is_operator: bool) -> None:
        session = await self.pick(who, index)
        if session is None:
            return
        if is_operator:
            await self.hub.close_session(session.session_id)
        else:
            await self.client(who).close_session(session.session_id)

    @rule(who=WHO, choice=st.sampled_from(RULES))
    async def change_rule(self, who: str, choice: Rule) -> None:
        await self.hub.set_rule(self.client(who).agent_id, choice)

    # What the world does.

    @rule(seconds=st.sampled_from([0.1, 2.0, 10.0, 4000.0]))
    async def time_passes(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @rule(who=WHO, lines=st.lists(LINES, min_size=1, max_size=4))
    async def talk_while_one_is_away(self, who: str, lines: list[tuple[str, int, str, bool, int]]) -> None:
        await self.clients[who].close()
        for line in lines:
            if line[0] != who:
                await self.send(*line)
        await self.connect(who)

    @rule(lines=st.lists(LINES, min_size=1, max_size=4), is_crash=st.booleans(), seconds=st.sampled_from([0.0, 0.5]))
    async def restart(self, lines: list[tuple[str, int, str, bool, int]], is_crash: bool, seconds: float) -> None:
        """In a crash the power goes: what is in the store stays, nothing else."""
        for line in lines:
            await self.send(*line)
        await trio.sleep(seconds)
        left = self.store
        if is_crash:
            self.generation += 1
            left = copied(self.store)
        await self.hub.close()
        await self.over.wait()
        self.generation += not is_crash
        self.store = left
        await self.open_hub()
        for name in NAMES:
            await self.connect(name)

    # What must hold.

    @invariant()
    async def the_log_tells_everything(self) -> None:
        if not hasattr(self, "hub"):
            return
        await self.hub.audit_log.read_all()
        for document in await self.store.scan("session/"):
            setup = from_bytes(document.body, StoredSession).setup
            adapter = default_adapters().get(setup.manifest.type, setup.manifest.version)
            live = begin(setup, adapter)
            for number, record in enumerate(await self.store.read(f"session/{setup.session_id}"), 1):
                envelope = decode_envelope(record.body)
                assert envelope.sequence == number
                if envelope.event_type in TURN_EVENTS:
                    expected = adapter.expected_next(live.adapter_state)
                    assert expected is None or envelope.sender_id in expected, "nobody speaks out of turn"
                assert not live.terminal, "an end is the last thing in a log"
                assert envelope.text not in self.refused
                live = fold(live, adapter, envelope)
            metadata = await self.hub.get_session(setup.session_id)
            assert snapshot(live, adapter) == metadata
            assert self.ended.setdefault(setup.session_id, metadata) == metadata or not metadata.is_terminal()
            if not metadata.is_terminal():
                del self.ended[setup.session_id]

    @invariant()
    async def the_accounts_are_right(self) -> None:
        if not hasattr(self, "hub"):
            return
        for entry in self.hub._open_services().directory:
            assert entry.inbox.pending == entry.inbox.desk.counted() + entry.inbox.unread
            sessions = self.hub._open_services().sessions
            live = [one for one in sessions.everything() if not one.is_terminal]
            assert entry.open_sessions == sum(one.participants[0] == entry.agent_id for one in live)

    async def shutdown(self) -> None:
        if not hasattr(self, "hub"):
            return
        await trio.sleep(1000)
        assert self.hub.statistics().current_pending == 0, "everything is handled or given up in the end"
        letters = {(r.name, r.envelope_id) for r in await self.hub.audit_log.read_all() if r.kind == "dead_letter"}
        for document in await self.store.scan("session/"):
            await self.check_deliveries(from_bytes(document.body, StoredSession).setup, letters)
        assert self.hub.health().status == "ok"
        await self.hub.close()
        await self.over.wait()

    async def check_deliveries(self, setup: Any, letters: set[tuple[str, str]]) -> None:
        log = [decode_envelope(record.body) for record in await self.store.read(f"session/{setup.session_id}")]
        said = [envelope for envelope in log if envelope.event_type not in LIFECYCLE_EVENTS]
        for name, member in self.members.items():
            who = self.client(name).agent_id
            handled = [envelope.sequence for envelope in member.handled.get(setup.session_id, ())]
            addressed = {envelope.sequence for envelope in said if who in recipients(setup, envelope)}
            assert set(handled) <= addressed, "nobody gets what is not for it"
            for envelope in said:
                if envelope.sequence in addressed and envelope.sequence not in handled:
                    assert (name, envelope.envelope_id) in letters, "handled, or given up with a reason"
            failed = {envelope.sequence for envelope in said if envelope.text.startswith("fail")}
            first = list(dict.fromkeys(number for number in handled if number not in failed))
            assert first == sorted(first), "in order"


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
