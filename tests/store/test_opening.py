"""Whose file it is: one holder, private, no link, the right format; and a start that was broken off."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agorio.hub.stores import disk_schema
from agorio.hub.stores.disk import DiskKnowledgeStore
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Append, Put
from agorio.mailbox.errors import InvalidInput, StoreError
from tests.store.conftest import OpenDisk
from tests.store.disks import Disk

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


def make_file(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return content


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def lose(path: Path, loss: str) -> None:
    if loss == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()


@contextmanager
def holder_of(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the store open; it is killed at the end."""
    script = (
        "import sys, trio; from agorio import DiskKnowledgeStore\n"
        "async def main():\n    await DiskKnowledgeStore(sys.argv[1]).open(); print('open', flush=True)\n"
        "    await trio.sleep_forever()\ntrio.run(main)"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", script, str(path)], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"open\n"
            yield child
        finally:
            child.kill()


def spoil(path: Path, sql: str) -> None:
    """Change the file behind the store's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(sql)
    connection.close()


async def test_a_second_opening_is_refused(opened: OpenDisk, path: Path) -> None:
    async with opened() as store:
        with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
            await DiskKnowledgeStore(path).open()
        with pytest.raises(StoreError, match="open in another hub"):
            await store.open()
        await store.commit([Append("one", (b"1",))])
    async with opened() as again:
        assert await again.last("one") == 1


async def test_the_holder_is_named(path: Path) -> None:
    with holder_of(path) as child:
        with pytest.raises(StoreError, match=f"in use by process {child.pid}") as refused:
            await DiskKnowledgeStore(path).open()
        assert refused.value.details["holder"] == str(child.pid)
    store = DiskKnowledgeStore(path)  # a lock goes with its process
    await store.open()
    await store.close()


@posix
async def test_the_files_are_private(opened: OpenDisk, path: Path) -> None:
    async with opened() as store:
        await store.commit([Append("one", (b"1",))])
        await store.backup(path.with_name("copy.db"))
        modes = {name: mode_of(path.with_name(name)) for name in os.listdir(path.parent)}
    assert set(modes) >= {"hub.db", "hub.db-lock", "hub.db-wal", "copy.db"}
    assert set(modes.values()) == {0o600}
    assert mode_of(path.parent) == 0o700


@posix
async def test_a_file_that_others_may_read_is_made_private(opened: OpenDisk, path: Path) -> None:
    async with opened():
        pass
    os.chmod(path, 0o644)
    async with opened():
        assert mode_of(path) == 0o600


@posix
@pytest.mark.parametrize("suffix", ["", "-lock"])
async def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path, suffix: str) -> None:
    os.mkdir(path.parent)
    os.symlink(tmp_path / "elsewhere", path.with_name(path.name + suffix))
    with pytest.raises(StoreError, match="symbolic link"):
        await DiskKnowledgeStore(path).open()
    assert "elsewhere" not in os.listdir(tmp_path)


async def test_a_folder_in_place_of_the_file_is_refused(path: Path) -> None:
    os.makedirs(path / "hub.db")
    with pytest.raises(StoreError, match=r"cannot open .*hub.db"):
        await DiskKnowledgeStore(path).open()


async def test_a_newer_format_is_refused(opened: OpenDisk, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(disk_schema, "VERSION", 2)
        newer.setitem(disk_schema._MIGRATIONS, 1, ["CREATE TABLE later(id)"])
        async with opened():
            pass
    before = content_of(path)
    with pytest.raises(StoreError, match="format 2, this agorio knows up to 1"):
        await DiskKnowledgeStore(path).open()
    assert content_of(path) == before


async def test_an_older_format_is_brought_forward(
    opened: OpenDisk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as store:
        await store.commit([Append("one", (b"1",))])
    monkeypatch.setattr(disk_schema, "VERSION", 2)
    monkeypatch.setitem(disk_schema._MIGRATIONS, 1, ["ALTER TABLE log ADD COLUMN note TEXT"])
    async with opened() as store:
        assert len(await store.read("one")) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("number", range(1, 16))
async def test_a_creation_that_was_broken_off(path: Path, number: int) -> None:
    disk = Disk()
    disk.fail_at(number, times=100)
    with pytest.raises(StoreError):
        await DiskKnowledgeStore(path, connect=disk.connect).open()
    store = DiskKnowledgeStore(path)
    await store.open()
    await store.commit([Append("one", (b"1",))])
    await store.close()


async def test_another_programs_database_is_refused(path: Path) -> None:
    os.mkdir(path.parent)
    spoil(path, "CREATE TABLE accounts(id)")
    before = content_of(path)
    with pytest.raises(StoreError, match="another program's"):
        await DiskKnowledgeStore(path).open()
    assert content_of(path) == before


async def test_another_programs_file_is_refused(path: Path) -> None:
    before = make_file(path, b"dear diary " * 1000)
    with pytest.raises(StoreError, match="nothing in it is readable"):
        await DiskKnowledgeStore(path).open()
    assert content_of(path) == before


@pytest.mark.parametrize("loss", ["emptied", "removed"])
async def test_a_store_that_is_gone_is_not_taken_for_a_new_one(opened: OpenDisk, path: Path, loss: str) -> None:
    async with opened() as store:
        await store.commit([Append("one", (b"1",))])
    lose(path, loss)
    with pytest.raises(StoreError, match="empty or gone"):
        await DiskKnowledgeStore(path).open()


async def test_a_closed_store_refuses(opened: OpenDisk) -> None:
    async with opened() as store:
        await store.commit([Put("a", b"1")])
    for call in (store.read("one"), store.get("a"), store.scan(""), store.last("one"), store.commit([Put("a", b"2")])):
        with pytest.raises(StoreError, match="is not open"):
            await call


async def test_a_backup_is_a_store(opened: OpenDisk, path: Path) -> None:
    copy = path.with_name("copy.db")
    async with opened() as store:
        await store.commit([Append("one", (b"1", b"2")), Put("a", b"1")])
        await store.backup(copy)
        await store.commit([Append("one", (b"3",))])
        with pytest.raises(StoreError, match="File exists"):
            await store.backup(copy)
        async with opened(copy) as other:
            assert await other.last("one") == 2
            assert (await other.verify()).damaged == ()
            await other.commit([Append("one", (b"other",), 2)])
        assert await store.last("one") == 3


async def test_relaxed_says_so(path: Path) -> None:
    assert DiskKnowledgeStore(path).durable
    assert not DiskKnowledgeStore(path, durability="relaxed").durable
    with pytest.raises(InvalidInput, match="neither 'full' nor 'relaxed'"):
        DiskKnowledgeStore(path, durability="none")  # type: ignore[arg-type]  # what is tested


async def test_the_interpreters_patience_is_put_back(opened: OpenDisk, path: Path) -> None:
    before = sys.getswitchinterval()
    async with opened(), opened(path.with_name("second.db")):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize("kind", ["disk", "memory"])
async def test_the_names_of_streams(path: Path, kind: str) -> None:
    store = DiskKnowledgeStore(path) if kind == "disk" else MemoryKnowledgeStore()
    await store.open()
    await store.commit([Append(name, (b"1",)) for name in ("session/b", "audit", "session/a")])
    await store.commit([Append("nothing", ())])
    assert await store.streams() == ["audit", "session/a", "session/b"]
    assert await store.streams("session/") == ["session/a", "session/b"]
    await store.close()
