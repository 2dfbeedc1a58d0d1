"""Finding and reading files: whatever lies on a disk, no byte of it stops a run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.demo import files
from agorio.demo.files import Lines, PathProblem, Skipped, find_files, inspect, looks_binary
from agorio.demo.messages import Source


def reason(path: Path) -> str:
    found = inspect(path, path.name)
    assert isinstance(found, Skipped)
    return found.reason


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b.md", "a/z.txt", "a/c.rst", "a/.hidden.md", ".git/x.md", "b.py", "A.MD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_files([str(tmp_path)])
    assert [str(p.relative_to(tmp_path)) for p in found] == ["A.MD", "a/c.rst", "a/z.txt", "b.md"]


def test_each_file_comes_once_and_the_digest_is_left_out(tmp_path: Path) -> None:
    one, out = tmp_path / "one.md", tmp_path / "digest.md"
    one.write_text("x")
    out.write_text("x")
    (tmp_path / "link.md").symlink_to(one)
    assert find_files([str(one), str(tmp_path), str(one)], leave_out=[out]) == [one]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "notes.log"
    path.write_text("x")
    assert find_files([str(path)]) == [path]


@pytest.mark.parametrize("name", ["missing.md", "empty"])
def test_a_path_without_a_text_is_a_problem_with_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PathProblem, match=name):
        find_files([str(tmp_path / name)])


def test_what_is_no_text_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.md"
    path.write_bytes(b"")
    assert reason(path) == "empty"
    path.write_bytes(b"  \n\t\n")
    assert reason(path) == "empty"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert reason(path) == "binary, not text"
    monkeypatch.setattr(files, "MAX_SIZE", 3)
    assert reason(path).startswith("larger than")
    assert "cannot be read" in reason(tmp_path / "gone.md")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert reason(tmp_path / "pipe.md") == "not a regular file"


def test_a_text_has_its_checksum_and_size(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_bytes(b"text " * 500_000)
    ticks: list[int] = []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert inspect(path, "x", ticks.append) == Source(str(path), "x", digest, 2_500_000)
    assert ticks[-1] == 2_500_000


@given(st.binary(max_size=200).filter(lambda raw: raw[:2] not in (b"\xff\xfe", b"\xfe\xff")))
def test_any_bytes_are_read_as_lines(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(raw)
    lines = Lines(str(path))
    found = list(lines)
    assert len(found) == lines.count == len(raw.splitlines()) or b"\r" in raw or b"\x0b" in raw or b"\x0c" in raw
    assert lines.sha256 == hashlib.sha256(raw).hexdigest()
    assert (lines.odd == 0) == all(_is_utf8(line) for line in raw.split(b"\n"))


def _is_utf8(raw: bytes) -> bool:
    return raw.decode("utf-8", "replace").encode() == raw


def test_lines_of_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("naïve café\n".encode("cp1252") + "naïve\n".encode())
    lines = Lines(str(path))
    assert list(lines) == ["naïve café", "naïve"]
    assert lines.odd == 1
    path.write_text("Zeile ein Ċ\nzwei\n", encoding="utf-16")
    assert list(Lines(str(path))) == ["Zeile ein Ċ", "zwei"]
    path.write_text("with mark\n", encoding="utf-8-sig")
    assert list(Lines(str(path))) == ["with mark"]


def test_what_looks_binary() -> None:
    assert looks_binary(b"a\0b")
    assert looks_binary(b"\x01\x02\x03text")
    assert not looks_binary("Grüße\t\x1b[1m\f\n".encode() * 9)
    assert not looks_binary(b"")
