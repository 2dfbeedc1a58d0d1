"""The audit log: complete, filtered, followed live, chained, and readable whatever a record has gone through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from agorio import (
    AUDIT_KIND_AGENT_REGISTERED,
    AUDIT_KIND_DENIED,
    AUDIT_KIND_EXPECTATION_VIOLATED,
    EV_TEXT,
    AccessBlock,
    AccessDeniedError,
    AuditAnchor,
    Envelope,
    Expectation,
    Hub,
    InvalidInput,
    MemoryKnowledgeStore,
    Passport,
    RateBlock,
    RateLimited,
    Rule,
)
from agorio.hub.audit_chain import Chain
from tests.hub.network import Network, converse, settle
from tests.hub.stores import FailingStore


async def busy(net: Network, count: int = 5) -> list[str]:
    return [(await net.agent(f"agent-{number}")).agent_id for number in range(count)]


async def test_both_names_are_one_log(open_network: Any) -> None:
    async with open_network() as net:
        assert net.hub._audit_log is net.hub.audit_log


async def test_records_read_as_dicts_and_as_objects(open_network: Any) -> None:
    async with open_network() as net:
        (ann,) = await busy(net, 1)
        (record,) = await net.hub.audit_log.read_all()
        assert dict(record) == {
            "at": record.at,
            "kind": AUDIT_KIND_AGENT_REGISTERED,
            "agent_id": ann,
            "name": "agent-0",
        }
        assert record.at.endswith("Z")
        with pytest.raises(AttributeError, match="no field 'colour'"):
            _ = record.colour
        with pytest.raises(TypeError):
            record["name"] = "x"


async def test_it_is_read_in_pages_and_filtered_before_the_cut(open_network: Any) -> None:
    async with open_network() as net:
        ids = await busy(net, 4)
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob)
        await session.close()
        log = net.hub.audit_log
        first = await log.read(limit=3)
        rest = await log.read(after=first[-1][0])
        assert [number for number, _ in (*first, *rest)] == list(range(1, 9))
        assert [r.name for _, r in await log.read(kind="agent_registered", after=2, limit=2)] == ["agent-2", "agent-3"]
        kinds = ["session_created", "session_closed"]
        assert [r.kind for _, r in await log.read(session_id=session.session_id)] == kinds
        assert [r.kind for _, r in await log.read(agent_id=bob.agent_id)] == ["agent_registered", "session_created"]
        assert [r.kind for _, r in await log.read(agent_id=ann.agent_id, kind=["session_closed"])] == ["session_closed"]
        assert [r.agent_id for _, r in await log.read(agent_id=ids[3])] == [ids[3]]
        assert await log.read(limit=0) == []
        assert [r.kind for r in await log.tail(2)] == ["session_created", "session_closed"]
        assert await log.tail(0) == []
        with pytest.raises(InvalidInput):
            await log.read(after=-1)


async def test_it_is_followed_live_from_now_or_from_the_beginning(open_network: Any) -> None:
    async with open_network() as net:
        await busy(net, 2)
        seen: dict[str, list[str]] = {"now": [], "all": [], "some": []}

        async def follow(key: str, **options: Any) -> None:
            async with net.hub.audit_log.follow(**options) as records:
                async for record in records:
                    seen[key].append(record.name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, "now")
            nursery.start_soon(lambda: follow("all", after=0))
            nursery.start_soon(lambda: follow("some", kind="agent_attached"))
            await settle()
            await net.agent("ann")
            await settle()
            await net.hc.register(None, Passport("ann"), attach=True, attach_plugin=False)
            await settle()
            nursery.cancel_scope.cancel()
        assert seen == {
            "now": ["ann", "ann"],
            "all": ["agent-0", "agent-1", "ann", "ann"],
            "some": ["ann"],
        }


async def test_a_follower_that_falls_behind_costs_nothing_and_misses_nothing(open_network: Any) -> None:
    async with open_network() as net:
        tail = net.hub.audit_log.subscribe()
        names = [f"agent-{number}" for number in range(300)]
        for name in names:
            await net.agent(name)
        assert [(await tail.__anext__()).name for _ in names] == names
        assert tail.sequence == 300


async def test_following_ends_with_the_hub(open_network: Any) -> None:
    seen: list[str] = []
    async with trio.open_nursery() as nursery:

        async def follow(tail: Any) -> None:
            async for record in tail:
                seen.append(record.kind)

        async with open_network() as net:
            nursery.start_soon(follow, net.hub.audit_log.subscribe())
            await busy(net, 1)
            await settle()
    assert seen == ["agent_registered"]


async def test_a_follower_that_was_cancelled_goes_on_where_it_was(open_network: Any) -> None:
    async with open_network() as net:
        tail = net.hub.audit_log.subscribe()
        with trio.move_on_after(1):
            await tail.__anext__()
        await busy(net, 1)
        assert (await tail.__anext__()).name == "agent-0"


async def test_denials_name_the_actor_the_code_and_the_reason(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann", rule=Rule(AccessBlock(outbound_to=["cid"]), rate=RateBlock(60, 1)))
        await net.agent("bob")
        with pytest.raises(AccessDeniedError):
            await ann.open("conversation", "bob")
        (record,) = await net.audit(AUDIT_KIND_DENIED)
        assert (record.agent_id, record.name, record.code) == (ann.agent_id, "ann", "access_denied")
        assert (record.op, record.type) == ("open_session", "conversation")
        assert "access.outbound_to" in record.reason
        wire = await net.wire()
        with pytest.raises(Exception, match="does not act as"):
            await wire.send(Envelope("nowhere", ann.agent_id, None, EV_TEXT, {"text": "x"}))
        record = (await net.audit(AUDIT_KIND_DENIED))[-1]
        assert (record.agent_id, record.claimed, record.code) == (None, ann.agent_id, "auth_failed")


async def test_a_flood_of_refusals_is_one_record_per_run(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann", rule=Rule(rate=RateBlock(60, 1))), await net.agent("bob")
        session = await converse(ann, bob)
        await trio.sleep(1)  # opening has taken the token
        for _ in range(2):
            await session.send("x")
            for _ in range(5):
                with pytest.raises(RateLimited):
                    await session.send("y")
            await trio.sleep(1)
        assert len(await net.audit(AUDIT_KIND_DENIED)) == 2


async def test_a_violation_and_its_record_are_one_commit(open_network: Any) -> None:
    store = FailingStore()
    async with open_network(store, expectation_sweep_interval=0) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob, expectations=[Expectation("max_silence", params={"seconds": 10})])
        await trio.sleep(11)
        store.refuses = lambda changes: True
        await net.hub._expectation_tick()
        store.refuses = None
        assert not await net.audit(AUDIT_KIND_EXPECTATION_VIOLATED)
        assert "ag2.expectation.violated" not in [e.event_type for e in await net.log(session.session_id)]
        for _ in range(2):
            await trio.sleep(61)
            await net.hub._expectation_tick()
        assert len(await net.audit(AUDIT_KIND_EXPECTATION_VIOLATED)) == 1


async def test_a_record_that_could_not_be_written_is_counted(open_network: Any) -> None:
    store = FailingStore()
    async with open_network(store) as net:
        store.refuses = lambda changes: True
        net.hub.audit_log.write("agent_attached", agent_id="x")
        store.refuses = None
        assert any("audit" in reason for reason in net.hub.health().reasons)
        await busy(net, 2)
        assert (await net.hub.audit_log.verify()).ok  # what failed is no link of the chain


# The chain.


async def test_the_chain_holds_over_restarts(open_network: Any, make_store: Any) -> None:
    store = make_store()
    anchors = []
    for number in range(3):
        async with open_network(store) as net:
            await net.agent(f"ann-{number}")
            verdict = await net.hub.audit_log.verify()
            assert verdict.ok, verdict.problems
            assert net.hub.audit_log.problems == ()
            anchors.append(net.hub.audit_log.anchor)
    assert [anchor.sequence for anchor in anchors] == [1, 2, 3]
    async with open_network(store) as net:
        for anchor in anchors:
            assert (await net.hub.audit_log.verify(anchor)).ok


async def filled(count: int = 6) -> tuple[MemoryKnowledgeStore, AuditAnchor]:
    store = MemoryKnowledgeStore()
    async with Hub.open(store) as hub:
        for number in range(count):
            hub.audit_log.write("note", number=number)
        return store, hub.audit_log.anchor


def edit(bodies: list[bytes]) -> None:
    bodies[2] = bodies[2].replace(b'"number":2', b'"number":7')


def remove(bodies: list[bytes]) -> None:
    del bodies[2]


def swap(bodies: list[bytes]) -> None:
    bodies[1], bodies[3] = bodies[3], bodies[1]


def insert(bodies: list[bytes]) -> None:
    bodies.insert(2, bodies[1])


def cut(bodies: list[bytes]) -> None:
    del bodies[4:]


def forge(bodies: list[bytes]) -> None:
    """Everything computed anew, which only an anchor kept elsewhere gives away."""
    edit(bodies)
    chain = Chain()
    for index, body in enumerate(bodies):
        fields = msgspec.json.decode(body)
        bodies[index] = msgspec.json.encode({**fields, "chain": [chain.anchor.sequence, chain.anchor.head]})
        chain.extend(bodies[index])


@pytest.mark.parametrize("tamper", [edit, remove, swap, insert, cut, forge])
async def test_tampering_is_found(tamper: Any) -> None:
    store, anchor = await filled()
    tamper(store._streams["audit"])
    async with Hub.open(store) as hub:
        assert not (await hub.audit_log.verify(anchor)).ok
        if tamper not in (cut, forge):
            assert not (await hub.audit_log.verify()).ok
        await hub.audit_log.read_all()  # and is no reason not to open or read


async def test_what_was_removed_from_the_end_is_noticed_at_the_next_opening() -> None:
    store, _ = await filled()
    cut(store._streams["audit"])
    async with Hub.open(store) as hub:
        assert any("anchor" in reason for reason in hub.health().reasons)


@pytest.mark.parametrize("body", [b"", b'{"at":"2026', b"[1]", b"\xff\xfe", b'{"kind":"x","n":1e999}', b"null"])
async def test_an_unreadable_record_is_skipped_and_reported(body: bytes) -> None:
    store, _ = await filled()
    store._streams["audit"][3] = body
    async with Hub.open(store) as hub:
        assert [record.number for record in await hub.audit_log.read_all()] == [0, 1, 2, 4, 5]
        assert [record.number for record in await hub.audit_log.tail(3)] == [4, 5]
        assert [number for number, _ in await hub.audit_log.read(after=2, limit=2)] == [3, 5]
        assert list(hub.audit_log.unreadable) == [4]
        assert "1 audit records are unreadable" in hub.health().reasons
        hub.audit_log.write("note", number=6)
        assert (await hub.audit_log.tail(1))[0].number == 6


async def test_only_what_follows_the_last_anchor_is_read_at_opening() -> None:
    store, anchor = await filled(3000)
    reads: list[int] = []
    inner = store.read

    async def counting(stream: str, after: int = 0, limit: int | None = None) -> Any:
        records = await inner(stream, after, limit)
        reads.append(len(records) if stream == "audit" else 0)
        return records

    store.read = counting  # type: ignore[method-assign]
    async with Hub.open(store) as hub:
        assert sum(reads) == 0
        assert hub.audit_log.anchor == anchor


async def test_records_that_failed_beside_others_do_not_break_the_chain() -> None:
    """Links point to what was durable, so a commit that loses a race takes no later record with it."""
    chain = Chain()
    bodies: list[bytes] = []
    for number in range(5):
        body = msgspec.json.encode({"number": number, "chain": [0 if number < 3 else 1, chain_head(bodies, number)]})
        bodies.append(body)
    for body in bodies:
        chain.add(body, msgspec.json.decode(body)["chain"])
    assert chain.verdict().ok, chain.problems


def chain_head(bodies: list[bytes], number: int) -> str:
    chain = Chain()
    if number >= 3:
        chain.extend(bodies[0])
    return chain.anchor.head


async def test_an_audit_record_is_in_the_commit_of_what_it_tells_of(open_network: Any) -> None:
    store = FailingStore()
    commits: list[list[str]] = []
    inner = store.commit_nowait

    def watching(changes: Any) -> None:
        inner(changes)
        commits.append([getattr(change, "stream", None) or change.key for change in changes])

    store.commit_nowait = watching  # type: ignore[method-assign]
    async with open_network(store) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob)
        await session.close()
    for key in (f"agent/{ann.agent_id}", f"session/{session.session_id}"):
        assert [commit for commit in commits if key in commit and "audit" in commit]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_gets_every_record(open_network: Any, is_async: bool) -> None:
    async with open_network() as net:
        told: list[str] = []

        async def slowly(record: Any) -> None:
            await trio.sleep(5)
            told.append(record.name)

        callback = slowly if is_async else lambda record: told.append(record.name)
        await net.agent("before")
        place = net.hub.audit_log.subscribe(callback, kind=AUDIT_KIND_AGENT_REGISTERED)
        await busy(net, 3)
        await trio.sleep(60)
        assert told == ["agent-0", "agent-1", "agent-2"]
        place.cancel()
        place.unsubscribe()
        await net.agent("after")
        await trio.sleep(60)
        assert len(told) == 3


async def test_a_failing_callback_harms_nobody(open_network: Any) -> None:
    async with open_network() as net:
        told: list[str] = []

        def fail(record: Any) -> None:
            raise ValueError(record.name)

        failing = net.hub.audit_log.subscribe(fail)
        net.hub.audit_log.subscribe(lambda record: told.append(record.name), after=0)
        await busy(net, 3)
        await settle()
        assert told == ["agent-0", "agent-1", "agent-2"]
        assert failing.total_failed == 3
        assert net.hub.health().status == "ok"
        with pytest.raises(InvalidInput, match="callback"):
            net.hub.audit_log.subscribe(3)


async def test_the_tail_by_each_of_its_names(open_network: Any) -> None:
    async with open_network() as net:
        await busy(net, 5)
        log = net.hub.audit_log
        newest = await log.tail(2)
        assert [record.name for record in newest] == ["agent-3", "agent-4"]
        assert newest == await log.tail(n=2) == await log.tail(limit=2) == await log.tail(count=2)
