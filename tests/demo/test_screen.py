"""The screen: readable at 80 columns, without colour where none is wanted, deaf to control characters."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agorio.actors.runtime.tree import TreeNode
from agorio.demo.ledger import account
from agorio.demo.messages import Declined, Source, pack
from agorio.demo.screen import Screen, plain
from agorio.mailbox.envelope import Envelope


def screen(*, quiet: bool = False, terminal: bool = False) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, width=80, force_terminal=terminal, color_system="truecolor" if terminal else None, highlight=False
    )
    return Screen(console, quiet, {"id-ann": "reader-1", "id-bob": "checker"}), out


def said(text: str) -> Envelope:
    return Envelope("session-4f2a", "id-ann", event_data={"text": text}, created_at="2026-01-31T12:00:07.5Z")


def test_a_text_is_one_row_with_time_session_speaker_and_hearer() -> None:
    shown, out = screen()
    shown.said(said(pack(Declined("no such file"))), ["id-ann", "id-bob"])
    assert out.getvalue().rstrip() == "12:00:07 4f2a reader-1 → checker   no such file"


def test_a_long_text_stays_within_80_columns_beside_its_speaker() -> None:
    shown, out = screen()
    shown.said(said("word " * 60), ["id-bob"])
    lines = out.getvalue().splitlines()
    assert len(lines) > 4
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 35) for line in lines[1:])


def test_a_document_cannot_steer_the_terminal() -> None:
    shown, out = screen(terminal=True)
    shown.said(said("a\x1b]0;owned\x07b [bold]c[/bold] \u202e"), ["id-bob"])
    assert "\x1b]0" not in out.getvalue()
    assert "[bold]c[/bold]" in out.getvalue()
    assert plain("a\nb\x9b") == "a b\ufffd"


def test_no_colour_when_the_environment_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown, out = screen(terminal=True)
    shown.said(said("x"), ["id-bob"])
    assert "38;" not in out.getvalue()
    assert "\x1b[36m" not in out.getvalue()


def test_quiet_shows_the_result_only() -> None:
    shown, out = screen(quiet=True)
    shown.title("x")
    shown.note("x")
    shown.said(said("x"), ["id-bob"])
    shown.audit([{"at": "2026-01-31T12:00:07Z", "kind": "denied"}])
    shown.tree(TreeNode("hub", "supervisor", "up", 1))
    assert out.getvalue() == ""
    shown.result("digest.md", account([], [], 0), "1 document")
    assert "Digest: digest.md" in out.getvalue()
    assert "nothing was lost" in out.getvalue()


def test_the_audit_trail_names_agents_and_counts_kinds() -> None:
    shown, out = screen()
    record = {
        "at": "2026-01-31T12:00:07Z",
        "kind": "turn_failed",
        "agent_id": "id-bob",
        "error": "pencil [broke]",
        "x": None,
    }
    shown.audit([record] * 40)
    text = out.getvalue()
    assert "the last 30 of 40 records" in text
    assert "agent checker; error pencil [broke]" in text
    assert "turn_failed 40" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_bar_counts_files_by_the_steps_done() -> None:
    shown, _ = screen()
    sources = [Source("/a", "a.md", "", 100), Source("/b", "b.md", "", 50)]
    with shown.reading(sources) as gauge:
        for step, done in (("survey", 100), ("read", 40), ("read", 20), ("check", 100), ("mend", 100)):
            gauge(step, "a.md", done)
        gauge("survey", "unknown.md", 9)
        assert gauge.total == pytest.approx((1 + 0.4 + 1) / 3)  # type: ignore[attr-defined]


def test_the_tree_shows_restarts_and_leaves_out_the_crowd() -> None:
    shown, out = screen()
    workers = [TreeNode(f"turn-{n}", "actor", "up", 2 if n == 19 else 1, handled=n) for n in range(20)]
    shown.tree(TreeNode("hub", "supervisor", "up", 1, strategy="rest_for_one", children=tuple(workers)))
    text = out.getvalue()
    assert "hub  rest_for_one" in text
    assert "turn-19  up  19 handled  incarnation 2" in text
    assert "turn-12" not in text
    assert "… and 7 more" in text
