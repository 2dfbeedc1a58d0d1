"""The final account of a run: what the logs say was accepted, and what became of each of it. Pure.

It is made from the session logs and the audit log, so it needs nobody's word: each accepted text is due once at each
other member of its session, and is either handled, dead-lettered or still pending there; each question is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ..mailbox.envelope import Envelope, visible_to
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER, AUDIT_KIND_TURN_FAILED, EV_TEXT


@attrs.frozen
class SessionLog:
    """A session as its log tells it."""

    kind: str
    """Its type: `consulting` or `conversation`."""
    members: tuple[str, ...]
    """The participants' agent ids."""
    envelopes: Sequence[Envelope]
    """Its log."""


@attrs.frozen
class Ledger:
    """The account; `balanced` says whether anything was lost."""

    sessions: int
    """Sessions opened."""
    accepted: int
    """Texts in their logs."""
    due: int
    """Deliveries that these texts are due, one to each other member that may see them."""
    dead: int
    """Deliveries given up and recorded as dead letters."""
    pending: int
    """Deliveries not acknowledged yet."""
    questions: int
    """Consulting sessions in which a question was put."""
    answers: int
    """Those of them in which it was answered."""
    failed_turns: int
    """Envelopes whose turn raised at least once."""
    recovered: int
    """Those of them that were answered after they had been delivered again."""

    @property
    def handled(self) -> int:
        """Deliveries whose turn ended and was acknowledged."""
        return self.due - self.dead - self.pending

    @property
    def balanced(self) -> bool:
        """Whether every accepted text is accounted for and every question has its answer."""
        return self.pending == 0 and self.dead == 0 and self.questions == self.answers

    def line(self) -> str:
        """The account in one line."""
        parts = [
            f"{self.accepted} texts accepted in {self.sessions} sessions",
            f"{self.due} deliveries due",
            f"{self.handled} handled",
            f"{self.dead} dead-lettered",
            f"{self.pending} pending",
            f"{self.questions} questions asked, {self.answers} answered",
        ]
        if self.failed_turns:
            parts.append(f"{self.failed_turns} crashed in a turn, {self.recovered} delivered again and answered")
        return "; ".join(parts) + (": nothing was lost" if self.balanced else ": NOT everything was handled")


def account(logs: Iterable[SessionLog], audit: Iterable[Any], pending: int) -> Ledger:
    """Balance the session logs against the audit records and the hub's count of pending deliveries."""
    found = list(logs)
    texts = [(log, e) for log in found for e in log.envelopes if e.event_type == EV_TEXT]
    records = list(audit)
    kinds = [record["kind"] for record in records]
    failed = {record["envelope_id"] for record in records if record["kind"] == AUDIT_KIND_TURN_FAILED}
    answered = {e.causation_id for _, e in texts}
    talks = [[e for e in log.envelopes if e.event_type == EV_TEXT] for log in found if log.kind == "consulting"]
    return Ledger(
        sessions=len(found),
        accepted=len(texts),
        due=sum(visible_to(e, member) and member != e.sender_id for log, e in texts for member in log.members),
        dead=kinds.count(AUDIT_KIND_DEAD_LETTER),
        pending=pending,
        questions=sum(len(talk) >= 1 for talk in talks),
        answers=sum(len(talk) >= 2 for talk in talks),
        failed_turns=len(failed),
        recovered=len(failed & answered),
    )
