"""What an operator does with a store, as real commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agorio.commands.output import widths
from tests.commands.conftest import Filled, Start
from tests.commands.processes import AGORIO, agorio, environment


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_sessions(filled: Filled) -> None:
    newest, oldest = lines(agorio("sessions", filled.path, "--json").stdout)
    assert (newest["session"], newest["type"], newest["log"] > 3) == (filled.open, "conversation", True)
    assert (oldest["session"], oldest["state"]) == (filled.ended, "closed")
    assert oldest["participants"] == ["alice", "scholar"]
    only = lines(agorio("sessions", filled.path, "--json", "--agent", "scholar", "--state", "closed").stdout)
    assert [one["session"] for one in only] == [filled.ended]
    assert "no agent 'nobody'" in agorio("sessions", filled.path, "--agent", "nobody", code=2).stderr


@pytest.mark.parametrize("width", ["80", "100"])
def test_tables_fit(filled: Filled, width: str) -> None:
    for command in (["sessions"], ["audit"], ["dead-letters"], ["log"]):
        extra = [filled.ended] if command == ["log"] else []
        text = agorio(*command, filled.path, *extra).stdout
        assert max(map(len, text.splitlines())) <= 160
    assert sum(widths([32, 300, 90, 5], [True, False, False, False], int(width))) <= int(width)


def test_log(filled: Filled) -> None:
    said = lines(agorio("log", filled.path, filled.ended, "--type", "msg.text", "--json").stdout)
    assert [one["event_data"]["text"] for one in said] == ["What is the answer?", "The answer\x1b[31m is 42."]
    later = lines(agorio("log", filled.path, filled.ended[-12:], "--after", said[0]["sequence"], "--json").stdout)
    assert later[0]["sequence"] == said[0]["sequence"] + 1
    table = agorio("log", filled.path, filled.ended).stdout
    assert "is 42." in table
    assert "\x1b" not in table
    assert "there is no session" in agorio("log", filled.path, "nope", code=2).stderr
    assert "give more of it" in agorio("log", filled.path, filled.ended[:2], code=2).stderr


def test_audit_and_dead_letters(filled: Filled) -> None:
    everything = lines(agorio("audit", filled.path, "--json").stdout)
    assert [one["audit_sequence"] for one in everything] == list(range(1, len(everything) + 1))
    assert lines(agorio("audit", filled.path, "--json", "--tail", "2").stdout) == everything[-2:]
    created = lines(agorio("audit", filled.path, "--json", "--kind", "session_created").stdout)
    assert [one["session_id"] for one in created] == [filled.ended, filled.open]
    (letter,) = lines(agorio("dead-letters", filled.path, "--json").stdout)
    assert (letter["name"], letter["attempts"], letter["text"]) == ("bob", 1, "This will never be read.")


def test_doctor_on_a_sound_store(filled: Filled) -> None:
    assert "nothing is damaged" in agorio("doctor", filled.path).stdout


def test_doctor_names_what_is_damaged(filled: Filled) -> None:
    data = filled.path.read_bytes()
    at = data.index(b"The answer")
    filled.path.write_bytes(data[:at] + b"the" + data[at + 3 :])
    (found,) = lines(agorio("doctor", filled.path, "--json", code=1).stdout)
    assert not found["ok"]
    assert any(filled.ended in one["name"] for one in found["damage"])
    assert "damaged" in agorio("doctor", filled.path, code=1).stdout
    left_out = agorio("export", filled.path, filled.path.with_name("e.jsonl"), code=1).stderr
    assert "left out" in left_out


def test_a_round_trip_is_identical(filled: Filled, tmp_path: Path) -> None:
    first, copy, second = tmp_path / "1.jsonl", tmp_path / "copy.db", tmp_path / "2.jsonl"
    agorio("export", filled.path, first)
    agorio("import", first, copy)
    agorio("export", copy, second)
    assert first.read_bytes() == second.read_bytes()
    agorio("doctor", copy)
    assert agorio("sessions", copy).stdout == agorio("sessions", filled.path).stdout
    assert "exists" in agorio("export", copy, second, code=2).stderr
    assert "exists" in agorio("import", first, copy, code=2).stderr


def test_a_cut_or_changed_export_is_refused(filled: Filled, tmp_path: Path) -> None:
    whole, bad, store = tmp_path / "1.jsonl", tmp_path / "bad.jsonl", tmp_path / "new.db"
    agorio("export", filled.path, whole)
    data = whole.read_bytes()
    for text, why in [
        (data[: data.rindex(b"\n", 0, -1) + 1], "it was cut"),
        (data.replace(b"is 42", b"is 43"), "its checksum is wrong"),
        (b'{"stream": 3}\n', "bad.jsonl:1"),
    ]:
        bad.write_bytes(text)
        assert why in agorio("import", bad, store, code=2).stderr
        assert not store.exists()


def test_the_holder_is_named(filled: Filled, start: Start) -> None:
    hub = start("serve", "--store", filled.path, "--port", 0)
    hub.wait_line("a hub at")
    said = agorio("sessions", filled.path, code=2).stderr
    assert f"in use by process {hub.process.pid}" in said
    assert said.count("\n") == 1


def test_a_missing_store_is_not_made(tmp_path: Path) -> None:
    for command in ("doctor", "sessions", "audit", "dead-letters"):
        assert "there is no such store" in agorio(command, tmp_path / "no.db", code=2).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
def test_nobody_reads_on(filled: Filled) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        command = [*AGORIO, "audit", str(filled.path)]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment(), check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_completion() -> None:
    script = agorio("completion", "bash").stdout
    done = subprocess.run(
        ["bash", "-c", f'{script}\nCOMP_WORDS=(agorio sess); COMP_CWORD=1; _agorio; echo "${{COMPREPLY[@]}}"\n'
         'COMP_WORDS=(agorio audit --k); COMP_CWORD=2; _agorio; echo "${COMPREPLY[@]}"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["sessions", "--kind"]


def test_ctrl_c(start: Start) -> None:
    hub = start("serve", "--port", 0)
    hub.wait_line("a hub at")
    assert hub.stop(signal.SIGINT) == 130


@pytest.mark.parametrize("flags", [[], ["--remote", "--crash"]])
def test_the_demo_on_either_link(tmp_path: Path, flags: list[str]) -> None:
    text, out = tmp_path / "a.md", tmp_path / "digest.md"
    text.write_text("# A\n\nThe bridge is 40 m long. The bridge is closed.\n")
    agorio("demo", "--plain", *flags, "--out", out, text)
    assert "a.md" in out.read_text()
