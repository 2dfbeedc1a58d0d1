"""The command line: what is wrong is said in one line before any work, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from agorio.demo import shipped
from agorio.demo.digest import MARK
from agorio.demo.main import check_out, documents, main, quiet_end


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "a.md"
    path.write_text("# A\n\nText of it.\n")
    return str(path)


def test_a_missing_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "gone.md")]) == 2
    assert capsys.readouterr().err == f"agorio demo: {tmp_path}/gone.md: no such file or folder\n"


def test_a_folder_without_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no *.md, *.txt, *.rst file in this folder" in capsys.readouterr().err


def test_a_digest_never_overwrites_somebodys_file(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("# My notes\n")
    assert main([text, "--out", str(notes)]) == 2
    assert "exists and is no digest" in capsys.readouterr().err
    assert notes.read_text() == "# My notes\n"
    check_out(notes, force=True)
    notes.write_text(f"{MARK}\n\n# Digest\n")
    check_out(notes, force=False)


def test_a_place_that_cannot_be_written(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([text, "--out", str(tmp_path / "no" / "digest.md")]) == 2
    assert main([text, "--out", str(tmp_path)]) == 2
    assert "cannot write into" in capsys.readouterr().err


def test_a_senseless_number_of_readers(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([text, "--out", str(tmp_path / "d.md"), "--readers", "0"]) == 2
    assert "between 1 and 32" in capsys.readouterr().err


def test_without_a_path_it_is_agorios_own_documents(tmp_path: Path) -> None:
    with documents([], tmp_path / "d.md") as (files, base):
        assert base is not None
        assert "README.md" in [file.relative_to(base).as_posix() for file in files]


def test_an_installed_package_brings_its_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agorio.demo.main.checkout", list)
    with documents([], tmp_path / "d.md") as (files, base):
        assert base is not None
        names = [file.relative_to(base).as_posix() for file in files]
        assert "MODULES.md" in names
        text = (base / "MODULES.md").read_text()
    assert "## agorio.demo.text\n\nReading a text's shape" in text
    assert not base.exists()
    assert all(path.suffix == ".md" for path in shipped.checkout())


def test_an_interruption_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert quiet_end(BaseExceptionGroup("x", [ValueError(), BaseExceptionGroup("y", [KeyboardInterrupt()])])) == 130
    assert "no digest was written" in capsys.readouterr().err
    assert quiet_end(ValueError()) == 0
