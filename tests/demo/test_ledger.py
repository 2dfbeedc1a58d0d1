"""The account of a run."""

from __future__ import annotations

from agorio.demo.ledger import SessionLog, account
from agorio.mailbox.envelope import Envelope


def log(*texts: tuple[str, tuple[str, ...] | None], kind: str = "consulting") -> SessionLog:
    found = [Envelope("s", who, audience, event_data={"text": "x"}, causation_id="e1") for who, audience in texts]
    opened = Envelope("s", "a", event_type="ag2.session.opened")
    return SessionLog(kind, ("a", "b", "c"), [opened, *found])


def test_everything_handled() -> None:
    ledger = account(
        [log(("a", None), ("b", ("a",))), log(("a", None), kind="conversation")],
        [{"kind": "turn_failed", "envelope_id": "e1"}],
        0,
    )
    assert (ledger.accepted, ledger.due, ledger.handled, ledger.questions, ledger.answers) == (3, 5, 5, 1, 1)
    assert ledger.balanced
    assert ledger.line().endswith("1 crashed in a turn, 1 delivered again and answered: nothing was lost")


def test_what_is_missing_is_said() -> None:
    assert not account([log(("a", None))], [], 0).balanced
    assert not account([log(("a", None), ("b", None))], [{"kind": "dead_letter"}], 0).balanced
    waiting = account([log(("a", None), ("b", None))], [], 1)
    assert not waiting.balanced
    assert waiting.handled == 3
    assert waiting.line().endswith("NOT everything was handled")
