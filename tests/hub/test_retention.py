"""What is over goes to the archive and is read back from there: by the same calls, for the same readers, wholly."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from agorio import (
    AUDIT_KIND_ARCHIVED,
    BudgetBlock,
    DiskKnowledgeStore,
    Envelope,
    InvalidInput,
    MemoryKnowledgeStore,
    NotAMemberError,
    NotFoundError,
    QuarantinedError,
    Retention,
    Rule,
    SessionClosedError,
    StoreError,
)
from agorio.hub.archive import Archive
from agorio.hub.retention import session_path
from agorio.hub.stores.protocol import Put, Record
from tests.hub.network import Network, local_link, open_on, settle
from tests.hub.stores import FailingStore, copied

AGE = 600


def kept(path: Path, **options: Any) -> Retention:
    return Retention(path / "archive", **{"archive_after": "10m", "interval": 0, **options})


async def quiet(text: str) -> str:
    return ""


async def talked(net: Network, texts: int = 3) -> tuple[Any, Any]:
    """A conversation that has ended and is settled."""
    ann, _ = await net.agent("ann", quiet, attach=True), await net.agent("bob", quiet, attach=True)
    session = await ann.open(type="conversation", target="bob", labels={"about": "cats"})
    for number in range(texts):
        await session.send(f"text {number}", idempotency_key=f"k{number}")
    await session.close()
    await settle()
    return ann, session


async def documents(net: Network) -> list[str]:
    await net.audit()
    inner = getattr(net.store, "inner", net.store)
    return [document.key for document in await inner.scan("")]


async def test_an_ended_session_is_archived_and_answers_as_before(open_network: Any, tmp_path: Path) -> None:
    async with open_network(retention=kept(tmp_path)) as net:
        ann, session = await talked(net)
        sid = session.session_id
        stranger = await net.agent("eve", hc=await net.client())
        before = await net.hub.get_session(sid), await net.log(sid)
        assert await net.hub._retention_tick() == 0  # it is too young
        await trio.sleep(AGE + 60)
        assert await net.hub._retention_tick() == 1
        assert await net.hub._retention_tick() == 0
        assert [key for key in await documents(net) if sid in key] == [f"archived/{sid}"]
        assert await net.store.read(f"session/{sid}") == []
        assert (await net.hub.get_session(sid), await net.log(sid)) == before
        assert [one.text for one in await ann.hub_client.read_wal(sid) if one.text] == ["text 0", "text 1", "text 2"]
        assert (await ann.hub_client.get_session(sid)).labels == {"about": "cats"}
        assert await net.hub.read_wal(sid, after=2, limit=2) == before[1][2:4]
        for call in (stranger.hub_client.read_wal, stranger.hub_client.get_session):
            with pytest.raises(NotAMemberError):
                await call(sid)
        with pytest.raises(SessionClosedError):
            await session.send("more")
        with pytest.raises(NotFoundError):
            await net.hub.read_wal("none")
        (record,) = await net.audit(AUDIT_KIND_ARCHIVED)
        assert (record.sessions, record.audit_records) == (1, 0)
        assert await net.hub.list_sessions(state="closed") == []


async def test_what_is_not_over_stays(open_network: Any, tmp_path: Path) -> None:
    async with open_network(retention=kept(tmp_path)) as net:
        ann = await net.agent("ann", quiet)
        await net.agent("bob", quiet)
        going_on = await ann.open(type="conversation", target="bob", ttl="4w")
        unread = await ann.open(type="conversation", target="bob", ttl="4w")
        await net.hub.park_agent("bob")
        await unread.send("wait")
        await unread.close()
        await trio.sleep(2 * AGE)
        assert await net.hub._retention_tick() == 0
        await net.hub.resume_agent("bob")
        await settle()
        assert await net.hub._retention_tick() == 1  # all of it is handled by now, and it ended long ago
        assert (await net.hub.get_session(going_on.session_id)).state == "active"


async def test_a_crash_between_archive_and_store_is_made_good(tmp_path: Path) -> None:
    """The file is there, the commit is not: both are, nothing reads wrong, and the next sweep finishes."""

    def is_move(changes: Any) -> bool:
        return any(isinstance(change, Put) and change.key.startswith("archived/") for change in changes)

    store = FailingStore()
    async with open_on(local_link, True, store, retention=kept(tmp_path)) as net:
        _, session = await talked(net)
        before = await net.log(session.session_id)
        await trio.sleep(AGE + 60)
        store.refuses = is_move
        with pytest.raises(StoreError):
            await net.hub._retention_tick()
        (path,) = Archive(tmp_path / "archive").files()
        first = (tmp_path / "archive" / path).read_bytes()
        assert await net.log(session.session_id) == before
        await net.audit()
        crashed = copied(store)
    async with open_on(local_link, True, crashed, retention=kept(tmp_path)) as net:
        assert await net.log(session.session_id) == before
        await trio.sleep(2 * AGE)  # this run's clock begins anew
        assert await net.hub._retention_tick() == 1
        assert (tmp_path / "archive" / path).read_bytes() == first  # the same lines give the same bytes
        assert await net.log(session.session_id) == before


async def test_a_log_that_went_without_its_document_is_finished(tmp_path: Path) -> None:
    """A disk may commit a trim, call it failed, and take the rest of that commit back."""
    store = MemoryKnowledgeStore()
    async with open_on(local_link, True, store, retention=kept(tmp_path)) as net:
        _, session = await talked(net)
        key = f"session/{session.session_id}"
        document = await store.get(key)
        assert document is not None
        before = await net.log(session.session_id)
        await trio.sleep(AGE + 60)
        await net.hub._retention_tick()
        place = await store.get(f"archived/{session.session_id}")
        await store.commit([Put(key, document.body), Put(f"archived/{session.session_id}", None)])
        assert await net.hub._retention_tick() == 1
        again = await store.get(f"archived/{session.session_id}")
        assert place is not None
        assert again is not None
        assert again.body == place.body
        assert await net.log(session.session_id) == before


async def test_two_sweeps_at_once_archive_each_session_once(open_network: Any, tmp_path: Path) -> None:
    async with open_network(retention=kept(tmp_path, audit_keep=5)) as net:
        for _ in range(5):
            await talked(net)
        await trio.sleep(AGE + 60)
        counts: list[int] = []

        async def sweep() -> None:
            counts.append(await net.hub._retention_tick())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(sweep)
        assert sum(record.sessions for record in await net.audit(AUDIT_KIND_ARCHIVED)) == 5
        assert len(counts) == 3
        assert (await net.hub.audit_log.verify()).ok


async def test_the_sweeper_runs_by_itself(open_network: Any, tmp_path: Path) -> None:
    async with open_network(retention=kept(tmp_path, interval=300)) as net:
        _, session = await talked(net)
        await trio.sleep(AGE + 900)
        assert f"archived/{session.session_id}" in await documents(net)
        assert "retention" in net.hub.health().sweepers


async def test_the_audit_log_stays_one_chain_over_archive_and_store(open_network: Any, tmp_path: Path) -> None:
    store = MemoryKnowledgeStore()
    anchors = []
    for _ in range(3):
        async with open_network(store, retention=kept(tmp_path, archive_after=None, audit_keep=10)) as net:
            for _ in range(4):
                await talked(net)
            everything = await net.hub.audit_log.read_all()
            anchors.append(net.hub.audit_log.anchor)
            moved = await net.hub._retention_tick()
            assert moved >= len(everything) - 10 - sum(map(len, [await store.read("audit", 10**6)])) - 100
            assert len(await store.read("audit")) <= 12
            assert (await net.hub.audit_log.read_all())[: len(everything)] == everything
            assert [number for number, _ in await net.hub.audit_log.read(limit=10**6)] == list(
                range(1, await store.last("audit") + 1)
            )
            for anchor in anchors:
                verdict = await net.hub.audit_log.verify(anchor)
                assert verdict.ok, verdict.problems
            tail = await net.hub.audit_log.tail(30)
            assert len(tail) == 30 or len(everything) < 30
            async with net.hub.audit_log.subscribe(after=0) as records:
                assert [await anext(records) for _ in everything] == everything
    files = [path for path in Archive(tmp_path / "archive").files() if path.startswith("audit/")]
    assert len(files) == 3
    target = tmp_path / "archive" / files[1]
    lines = gzip.decompress(target.read_bytes()).replace(b"ann", b"eve")
    target.write_bytes(gzip.compress(lines))
    async with open_network(store, retention=kept(tmp_path)) as net:
        with pytest.raises(QuarantinedError, match="checksum"):
            await net.hub.audit_log.verify()


async def test_a_store_on_disk(tmp_path: Path) -> None:
    async def once() -> DiskKnowledgeStore:
        return DiskKnowledgeStore(tmp_path / "hub.db")

    retention = kept(tmp_path, audit_keep=20)
    logs: dict[str, list[Envelope]] = {}
    for _ in range(3):
        async with open_on(local_link, True, await once(), retention=retention) as net:
            for _ in range(5):
                _, session = await talked(net)
                logs[session.session_id] = await net.log(session.session_id)
            await trio.sleep(AGE + 60)
            await net.hub._retention_tick()
            for session_id, log in logs.items():
                assert await net.log(session_id) == log
            assert (await net.hub.audit_log.verify()).ok
            assert net.hub.health().status == "ok"
    store = await once()
    await store.open()
    assert (await store.verify()).damaged == ()
    assert [document.key for document in await store.scan("session/")] == []
    await store.close()


async def test_budgets_of_a_session_go_with_it(open_network: Any, tmp_path: Path) -> None:
    @attrs.frozen
    class Reply:
        body: str
        usage: Any

    async def spends(text: str) -> Reply:
        return Reply("", {"total_tokens": 3})

    async with open_network(retention=kept(tmp_path)) as net:
        ann = await net.agent("ann", quiet)
        await net.agent("bob", spends, rule=Rule(budget=BudgetBlock(max_tokens=100)))
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle()
        await session.close()
        await trio.sleep(AGE + 60)
        await net.hub._retention_tick()
        assert [key for key in await documents(net) if key.startswith("spent/")] == []
        (path,) = Archive(tmp_path / "archive").files()
        assert any(key.startswith("spent/") for key in Archive(tmp_path / "archive").read(path).documents)
        assert net.hub.budget("bob").total.tokens == 3


async def test_a_missing_and_a_wrong_file_are_named(open_network: Any, tmp_path: Path) -> None:
    async with open_network(retention=kept(tmp_path)) as net:
        sessions = [(await talked(net))[1].session_id for _ in range(2)]
        await trio.sleep(AGE + 60)
        await net.hub._retention_tick()
        archive = tmp_path / "archive"
        first, second = Archive(archive).files()
        (archive / first).rename(archive / second)
        net.hub._open_services().store.archive.forget()
        by_path = {session_id: session_id in first for session_id in sessions}
        for session_id, is_first in by_path.items():
            with pytest.raises(StoreError, match="missing" if is_first else "not the one"):
                await net.hub.read_wal(session_id)


def test_files(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    records = [Record(3, b'{"a": 1}'), Record(4, b"\xff\n"), Record(5, b"")]
    place = archive.write("x/y.jsonl.gz", "s", records, {"k": b"v", "j": b"{}"})
    assert (place.first, place.last, archive.files()) == (3, 5, ["x/y.jsonl.gz"])
    found = Archive(tmp_path).read(place.path, place.sha256)
    assert (found.stream, found.records, dict(found.documents)) == ("s", tuple(records), {"k": b"v", "j": b"{}"})
    file = tmp_path / place.path
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    whole = file.read_bytes()
    plain = gzip.decompress(whole)
    damages: list[Callable[[], bytes]] = [
        lambda: whole[:-9],
        lambda: whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
        lambda: gzip.compress(plain[: plain.rindex(b"\n", 0, -1) + 1]),
        lambda: gzip.compress(plain.replace(b'"sequence":4', b'"sequence":5')),
        lambda: gzip.compress(plain + b"{}\n"),
        lambda: b"no gzip",
    ]
    for damage in damages:
        file.write_bytes(damage())
        with pytest.raises(QuarantinedError, match=r"y\.jsonl\.gz"):
            Archive(tmp_path).read(place.path)
    with pytest.raises(StoreError, match="missing"):
        Archive(tmp_path).read("none")


@pytest.mark.parametrize(
    "policy",
    [
        Retention("x", archive_after="soon"),
        Retention("x", archive_after=-1),
        Retention("x", audit_keep=0),
        Retention("x", audit_keep=1.5),  # type: ignore[arg-type]
        Retention("x", interval=-1),
        Retention("x", interval=float("nan")),
    ],
)
def test_policies_out_of_range(policy: Retention) -> None:
    from agorio import Hub

    with pytest.raises(InvalidInput):
        Hub.open(MemoryKnowledgeStore(), retention=policy)
    assert session_path("id", 0.0) == "sessions/1970/01/id.jsonl.gz"
