"""What a hub takes up where the last one left off, however that one ended, and what it leaves until it is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agorio import (
    EV_TEXT,
    AgentClient,
    Envelope,
    Expectation,
    InboxBlock,
    LimitsBlock,
    NotFoundError,
    Redelivery,
    Rule,
    SessionClosedError,
)
from agorio.hub import snapshots
from agorio.hub.stores.protocol import Put
from agorio.mailbox.errors import AccessDeniedError, InboxFull
from tests.hub.lives import ENDINGS, KINDS, Lives
from tests.hub.network import Network, converse, settle


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """On which store."""
    found: str = request.param
    return found


@pytest.fixture(params=ENDINGS)
def lives(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Lives:
    """However the hub ends."""
    return Lives(kind, request.param, tmp_path)


@pytest.fixture
def calm(kind: str, tmp_path: Path) -> Lives:
    """Where it does not matter how it ends."""
    return Lives(kind, "closed", tmp_path)


async def team(net: Network, *names: str) -> list[AgentClient]:
    return [await net.agent(name) for name in names]


def folded(net: Network) -> int:
    return net.hub._open_services().sessions.total_folded


def untouched(net: Network) -> int:
    return len(net.hub._open_services().sessions.dormant())


class Reader:
    """Keeps what it was given, in order."""

    def __init__(self, *failing: str) -> None:
        self.texts: list[str] = []
        self.failing = failing

    async def handle(self, envelope: Envelope) -> None:
        if envelope.event_type == EV_TEXT:
            if envelope.text in self.failing:
                raise ValueError(envelope.text)
            self.texts.append(envelope.text)


async def test_opening_folds_nothing_and_counts_everything(lives: Lives) -> None:
    async with lives.hub() as net:
        alice, bob, carol = await team(net, "alice", "bob", "carol")
        quiet, busy = await converse(alice, bob), await converse(alice, carol)
        for text in ("one", "two", "three"):
            await busy.send(text)
        await net.hub.close_session((await converse(bob, carol)).session_id)
        before = {info.name: (info.pending, info.open_sessions) for info in net.hub.agents()}
        sessions = await net.hub.list_sessions(state="open")
    async with lives.hub() as net:
        assert {info.name: (info.pending, info.open_sessions) for info in net.hub.agents()} == before
        assert before["carol"] == (3, 0)
        assert net.hub.health().active_sessions == 2
        if lives.is_known:
            assert folded(net) == 0
            assert untouched(net) >= 2
        assert await net.hub.list_sessions(state="open") == sessions
        assert {one.session_id for one in sessions} == {quiet.session_id, busy.session_id}
        assert net.hub.health().status == "ok"
        await net.check()


async def test_a_touch_folds_one_session_and_no_other(calm: Lives) -> None:
    async with calm.hub() as net:
        alice, bob = await team(net, "alice", "bob")
        first, second = await converse(alice, bob), await converse(alice, bob)
        await first.send("hello")
    async with calm.hub() as net:
        assert untouched(net) == 2
        assert (await net.hub.get_session(first.session_id)).last_sequence == 4
        assert untouched(net) == 1
        assert folded(net) == 4
        assert (await net.hub.get_session(second.session_id)).state == "active"
        assert untouched(net) == 0


async def test_mail_waits_in_order_and_what_was_handled_does_not_come_again(lives: Lives) -> None:
    async with lives.hub() as net:
        reader = Reader("two")
        alice = await net.agent("alice")
        hc = await net.client()
        bob = await net.agent("bob", handler=reader.handle, hc=hc)
        session = await converse(alice, bob)
        for text in ("one", "two", "three"):
            await session.send(text)
        await trio.sleep(0.15)
        await hc.close()
        await session.send("four")
        assert reader.texts == ["one"], "a failed delivery holds back its successors"
        await net.hub.audit_log.read_all()  # flushes the cursors
    async with lives.hub() as net:
        assert net.pending("bob") == 3
        reader = Reader()
        await net.agent("bob", handler=reader.handle, attach=True)
        await trio.sleep(1)
        assert reader.texts == ["two", "three", "four"]
        assert net.pending("bob") == 0
        await net.check()


async def test_what_always_fails_is_given_up_though_the_hub_comes_and_goes(calm: Lives) -> None:
    attempts = 0

    async def fail(envelope: Envelope) -> None:
        nonlocal attempts
        if envelope.event_type == EV_TEXT:
            attempts += 1
            raise ValueError("poison")

    async with calm.hub(redelivery=Redelivery(max_attempts=6, backoff=10, factor=1)) as net:
        alice, _ = await net.agent("alice"), await net.agent("bob", handler=fail)
        session = await alice.open("conversation", "bob")
        await session.send("poison")
        await trio.sleep(25)
    for _ in range(2):
        async with calm.hub(redelivery=Redelivery(max_attempts=6, backoff=10, factor=1)) as net:
            await net.agent("bob", handler=fail, attach=True)
            await trio.sleep(15)
            letters = list(net.hub.dead_letters())
    assert attempts == 6
    assert [letter.attempts for letter in letters] == [6]


async def test_a_gap_in_the_middle_survives(lives: Lives) -> None:
    async with lives.hub() as net:
        wire = await net.wire()
        alice, bob = await net.agent("alice"), await wire.register("bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.accept, bob)
            session = await alice.open("conversation", "bob")
        for text in ("one", "two", "three"):
            await session.send(text)
        await settle()
        frames = {frame.envelope.text: frame for frame in wire.notified(bob) if frame.envelope.text}
        await wire.ack(frames["two"])
        await settle()
        await net.hub.audit_log.read_all()
    async with lives.hub() as net:
        assert net.pending("bob") == 2
        reader = Reader()
        await net.agent("bob", handler=reader.handle, attach=True)
        await trio.sleep(1)
        assert reader.texts == ["one", "three"]


async def test_a_retry_returns_the_first_result(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 5)
    async with lives.hub() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        first = {text: await session.send(text, idempotency_key=text) for text in map(str, range(23))}
        session_id = session.session_id
    for _ in range(2):
        async with lives.hub() as net:
            alice = await net.agent("alice", attach=True)
            for text, envelope in first.items():
                again = Envelope(session_id, alice.agent_id, None, EV_TEXT, {"text": text}, idempotency_key=text)
                assert (await alice.send_envelope(again)).envelope_id == envelope.envelope_id
            assert len(await net.texts(session_id)) == 23
            if lives.kind != "memory" or lives.ending == "closed":
                assert folded(net) < 10, "the fold begins at a snapshot"
            await net.check()


async def test_sends_during_the_first_fold_keep_their_order(calm: Lives) -> None:
    async with calm.hub() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
    async with calm.hub() as net:
        alice = await net.agent("alice", attach=True)
        assert untouched(net) == 1
        async with trio.open_nursery() as nursery:
            for number in range(20):
                envelope = Envelope(session.session_id, alice.agent_id, None, EV_TEXT, {"text": str(number)})
                nursery.start_soon(alice.send_envelope, envelope)
                await trio.lowlevel.checkpoint()
        texts = await net.texts(session.session_id)
        assert sorted(texts, key=int) == [str(number) for number in range(20)]
        assert texts == sorted(texts, key=int)


async def test_a_ttl_ends_an_untouched_session_and_the_absent_are_told(lives: Lives) -> None:
    async with lives.hub() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, ttl=60)
    async with lives.hub(ttl_sweep_interval=10) as net:
        await trio.sleep(100)
        assert (await net.hub.get_session(session.session_id)).state == "expired"
        events: list[str] = []

        async def keep(envelope: Envelope) -> None:
            events.append(envelope.event_type)

        await net.agent("bob", handler=keep, attach=True)
        await settle()
        assert "ag2.session.expired" in events
        alice = await net.agent("alice", attach=True)
        with pytest.raises(SessionClosedError):
            await alice.send_envelope(Envelope(session.session_id, alice.agent_id, event_data={"text": "late"}))


async def test_an_ended_session_is_let_go_when_the_last_has_read_its_end(lives: Lives) -> None:
    async with lives.hub() as net:
        hc = await net.client()
        alice, bob = await net.agent("alice"), await net.agent("bob", hc=hc)
        session = await converse(alice, bob)
        await hc.close()
        await session.send("read this")
        await session.close()
        await settle()
        assert net.hub.statistics().current_sessions == 1
    async with lives.hub() as net:
        assert net.hub.statistics().current_sessions == 1
        reader = Reader()
        await net.agent("bob", handler=reader.handle, attach=True)
        await net.agent("alice", attach=True)
        await settle()
        assert reader.texts == ["read this"]
        assert net.hub.statistics().current_sessions == 0
        await net.hub.audit_log.read_all()
        left = [document.key for prefix in ("open/", "cursor/", "keys/") for document in await net.store.scan(prefix)]
        assert left == []
    async with lives.hub() as net:
        assert (await net.hub.get_session(session.session_id)).state == "closed"


async def test_an_expectation_fires_once_and_nothing_is_folded_before(lives: Lives) -> None:
    wait = [Expectation("max_silence", "warn", {"seconds": 100})]
    async with lives.hub(expectation_sweep_interval=5) as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob, expectations=wait, ttl=10_000)
        await trio.sleep(70)
        await session.send("still here")
        await trio.sleep(50)  # the instant that followed from the opening has come, and nothing was due
        await net.hub.audit_log.read_all()
    async with lives.hub(expectation_sweep_interval=5) as net:
        await trio.sleep(30)
        if lives.is_known:
            assert folded(net) == 0
        assert await net.audit("expectation_violated") == []
        await trio.sleep(40)
        assert len(await net.audit("expectation_violated")) == 1
    async with lives.hub(expectation_sweep_interval=5) as net:
        await trio.sleep(300)
        assert len(await net.audit("expectation_violated")) == 1, "the same silence does not fire again"
        assert (await net.hub.get_session(session.session_id)).state == "active"
        await net.hub.close_session(session.session_id)


async def test_a_pending_handshake_goes_on_or_ends_in_time(calm: Lives) -> None:
    lives = calm
    async with lives.hub() as net:
        alice = await net.agent("alice")
        wire = await net.wire()
        await wire.register("mute")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_open_in_vain, alice)
            await trio.sleep(5)
            (pending,) = await net.hub.list_sessions(state="pending")
            image = lives.image()  # closing in order would end it with its opener
            nursery.cancel_scope.cancel()
    lives.store = image
    async with lives.hub(ttl_sweep_interval=5) as net:
        assert (await net.hub.get_session(pending.session_id)).state == "pending"
        await trio.sleep(60)
        ended = await net.hub.get_session(pending.session_id)
        assert (ended.state, ended.close_reason) == ("closed", "invite_timeout")


async def _open_in_vain(alice: Any) -> None:
    await alice.open("conversation", "mute", invite_ack_timeout=30)


async def test_running_tasks_and_their_timers_resume(lives: Lives) -> None:
    async with lives.hub(ttl_sweep_interval=0) as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        await session.send({"title": "long", "ttl": 60}, event_type="ag2.task.started")
        (task,) = await net.hub.list_tasks(state="running")
    async with lives.hub(ttl_sweep_interval=5) as net:
        assert [one.task_id for one in await net.hub.list_tasks(state="running")] == [task.task_id]
        await trio.sleep(100)
        assert (await net.hub.get_task(task.task_id)).state == "expired"


async def test_an_envelopes_time_to_live_runs_on(lives: Lives) -> None:
    async with lives.hub() as net:
        hc = await net.client()
        alice, bob = await net.agent("alice"), await net.agent("bob", hc=hc)
        session = await converse(alice, bob)
        await hc.close()
        await session.send("short", ttl_seconds=50)
        await session.send("long")
    async with lives.hub(ttl_sweep_interval=10) as net:
        assert net.pending("bob") == 2
        await trio.sleep(100)
        assert net.pending("bob") == 1
        assert [letter.reason for letter in net.hub.dead_letters()] == ["ttl_seconds"]


async def test_a_full_inbox_is_full_still(lives: Lives) -> None:
    async with lives.hub() as net:
        hc = await net.client()
        alice = await net.agent("alice")
        bob = await net.agent("bob", hc=hc, rule=Rule(inbox=InboxBlock(2)))
        session, other = await converse(alice, bob), await converse(alice, bob)
        await hc.close()
        await session.send("one")
        await session.send("two")
    async with lives.hub() as net:
        alice = await net.agent("alice", attach=True)
        more = Envelope(other.session_id, alice.agent_id, None, EV_TEXT, {"text": "three"})
        with pytest.raises(InboxFull):
            await alice.send_envelope(more)
        reader = Reader()
        await net.agent("bob", handler=reader.handle, attach=True)
        await settle()
        await alice.send_envelope(more)
        await settle()
        assert reader.texts == ["one", "two", "three"]


async def test_the_oldest_is_there_to_be_dropped(lives: Lives) -> None:
    async with lives.hub() as net:
        hc = await net.client()
        alice = await net.agent("alice")
        bob = await net.agent("bob", hc=hc, rule=Rule(inbox=InboxBlock(2, "drop_oldest")))
        session, other = await converse(alice, bob), await converse(alice, bob)
        await hc.close()
        await session.send("one")
        await session.send("two")
    async with lives.hub() as net:
        alice = await net.agent("alice", attach=True)
        await alice.send_envelope(Envelope(other.session_id, alice.agent_id, None, EV_TEXT, {"text": "three"}))
        reader = Reader()
        await net.agent("bob", handler=reader.handle, attach=True)
        await settle()
        assert sorted(reader.texts) == ["three", "two"]
        assert [letter.reason for letter in net.hub.dead_letters()] == ["drop_oldest"]


async def test_a_cap_on_open_sessions_counts_the_untouched(lives: Lives) -> None:
    async with lives.hub() as net:
        alice = await net.agent("alice", rule=Rule(limits=LimitsBlock(max_concurrent_sessions=2)))
        bob = await net.agent("bob")
        for _ in range(2):
            await converse(alice, bob)
    async with lives.hub() as net:
        alice, _ = await net.agent("alice", attach=True), await net.agent("bob", attach=True)
        with pytest.raises(AccessDeniedError, match="2 open sessions"):
            await alice.open("conversation", "bob")


async def test_a_member_that_is_struck_off_leaves_untouched_sessions(lives: Lives) -> None:
    async with lives.hub() as net:
        hc = await net.client()
        alice, bob = await net.agent("alice"), await net.agent("bob", hc=hc)
        session = await converse(alice, bob)
        await hc.close()
        await session.send("too late")
    async with lives.hub() as net:
        await net.hub.unregister(bob.agent_id)
        await settle()
        ended = await net.hub.get_session(session.session_id)
        assert (ended.state, ended.close_reason) == ("closed", "participant_gone")
        assert [letter.reason for letter in net.hub.dead_letters(bob.agent_id)] == ["unregistered"]
    async with lives.hub() as net:
        assert (await net.hub.get_session(session.session_id)).state == "closed"
        with pytest.raises(NotFoundError):
            await net.hub.get_passport(bob.agent_id)


async def test_unreadable_notes_cost_a_fold_and_nothing_else(calm: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 4)
    async with calm.hub() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        for number in range(9):
            await session.send(str(number), idempotency_key=str(number))
    store = calm.store
    await store.open()
    for key in ("open", "cursor", "snapshot"):
        await store.commit([Put(f"{key}/{session.session_id}", b'{"not": "what it was"}')])
    await store.close()
    async with calm.hub() as net:
        assert untouched(net) == 0
        assert [record.what for record in await net.audit("quarantined")] == [f"cursor/{session.session_id}"]
        assert net.hub.health().status == "degraded"
        assert await net.texts(session.session_id) == [str(number) for number in range(9)]
        alice = await net.agent("alice", attach=True)
        again = Envelope(session.session_id, alice.agent_id, None, EV_TEXT, {"text": "8"}, idempotency_key="8")
        assert (await alice.send_envelope(again)).sequence == 12
        await net.check()


async def test_a_store_of_a_hub_without_bookmarks_opens(calm: Lives) -> None:
    async with calm.hub() as net:
        alice, bob = await team(net, "alice", "bob")
        session = await converse(alice, bob)
        await session.send("hello")
    store = calm.store
    await store.open()
    old = [Put(f"open/{session.session_id}", b""), Put(f"cursor/{session.session_id}", b'{"*":[3]}')]
    await store.commit(old)
    await store.close()
    async with calm.hub() as net:
        assert net.pending("bob") == 1
        assert net.hub.health().status == "ok"
        reader = Reader()
        await net.agent("bob", handler=reader.handle, attach=True)
        await settle()
        assert reader.texts == ["hello"]
