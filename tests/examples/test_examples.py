"""Every example runs as it stands, in a process of its own, with warnings as errors, and shows its pattern."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
GIVE_UP_AFTER = 60  # seconds; only a program that hangs gets there

# What each says last, and what it must have said before.
SAID = {
    "pipeline": ("publisher: *** The hub keeps order, agents talk. ***", ["closed as sequence_complete"]),
    "star": ("answer: It stays dry until six. The bridge is closed.", ["closed as all_reported"]),
    "feedback_loop": ("reviewer: Print it.", ["closed as approved", "drafter: The hub is good."]),
    "escalation": ("director: [Finished] Granted from the reserve.", ["closed as granted", "clerk: [Handed off"]),
    "triage": ("track record of zed: {'network': '0 of 1'}", ["ida has fixed 'no link'", "'network': '3 of 3'"]),
    "redundant_experts": ("Canberra (2 of 3 votes; asked 4)", []),
    "hierarchy": (
        "delegation depths: [0, 1, 1, 2, 2, 2, 2, 3]",
        ["cannot ask back: doubter -> director -> design -> doubter"],
    ),
    "context_routing": ("Help!!! It smokes. -> Calling you now about 'Help!!! It smokes.'", ["-> Bien reçu (1)"]),
    "human": ("(the discussion is over: left)", ["optimist: Good point about 'bridge'. It will work out."]),
}
TYPED = {"human": "Is the bridge safe?\n\n"}


def run(name: str, typed: str = "") -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(
        command,
        env={**env, "PYTHONIOENCODING": "utf-8"},
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=GIVE_UP_AFTER,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run_and_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SAID.keys()
    listed = re.findall(r"^\| \[(\w+)\.py\]", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(SAID)


@pytest.mark.parametrize("name", SAID)
def test_the_example_runs(name: str) -> None:
    last, before = SAID[name]
    lines = run(name, TYPED.get(name, "")).splitlines()
    assert lines[-1] == last
    for part in before:
        assert any(part in line for line in lines), part


def test_a_person_may_stay_to_the_end_or_leave_at_once() -> None:
    said = run("human", "one\ntwo\nthree\nfour\n")
    assert said.endswith("(the discussion is over: max_rounds)\n")
    assert said.count("you> ") == 3
    assert "left" in run("human")
