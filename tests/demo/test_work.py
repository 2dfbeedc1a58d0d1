"""A reader's and a checker's work on real files, without any network."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from agorio.demo import work
from agorio.demo.claims import Claim
from agorio.demo.files import inspect
from agorio.demo.messages import Checked, Drafted, Objections, ReadJob, Source

TEXT = """# The mailbox

A mailbox is a bounded queue with one reader. This keeps memory small. See [the tour](tour.md), [below](#order) and
[nowhere](#nowhere); also [gone](gone.md) and [the web](https://example.org/x).

## Order

A mailbox keeps the order of each sender (unless a priority says otherwise). The mailbox never reorders one session.

## Order

Every drop of a mailbox is a dead letter, and dead letters are counted by the hub.
"""


def no_tick(done: int) -> None:
    """Nobody looks."""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "tour.md").write_text("x")
    (tmp_path / "mailbox.md").write_text(TEXT)
    found = inspect(tmp_path / "mailbox.md", "mailbox.md")
    assert isinstance(found, Source)
    return found


def drafted(source: Source) -> Drafted:
    survey = work.survey(source, no_tick)
    return work.read(ReadJob(survey, 1, {}), "reader-1", no_tick)


def test_a_survey_counts(source: Source) -> None:
    survey = work.survey(source, no_tick)
    assert survey.lines == 12
    assert survey.language == "en"
    assert survey.terms["mailbox"] == 5
    assert survey.notes == ()


def test_a_draft_has_title_outline_summary_and_terms(source: Source) -> None:
    draft = drafted(source).draft
    assert draft.title == "The mailbox"
    assert [(c.text, c.line, c.level) for c in draft.claims if c.kind == "heading"] == [
        ("The mailbox", 1, 1),
        ("Order", 6, 2),
        ("Order", 10, 2),
    ]
    assert "A mailbox is a bounded queue with one reader." in [c.text for c in draft.claims]
    assert next(c for c in draft.claims if c.kind == "term").text == "mailbox"


def test_what_a_reader_drafts_holds_and_the_faults_are_the_documents_own(source: Source) -> None:
    faults, remarks = work.verify(source, drafted(source).draft.claims, no_tick)
    assert faults == []
    assert remarks == [
        "line 4: the link to `#nowhere` has no such heading",
        "line 4: the link to `gone.md` leads to no file",
    ]


def test_a_false_claim_is_objected_to_mended_and_accepted(source: Source) -> None:
    cut = "A mailbox keeps the order of each sender."
    quote = "A mailbox keeps the order of each sender (unless a priority says otherwise)."
    good = Claim("s1", "sentence", "Every drop of a mailbox is a dead letter.", 12, 12)
    bad = Claim("s2", "sentence", cut, 8, 8, quote=quote)
    invented = Claim("s3", "sentence", "A mailbox is made of wood.", 3, 3)
    wrong = Claim("t1", "term", "mailbox", 0, 0, count=7, forms=("mailbox",))
    faults, _ = work.verify(source, [good, bad, invented, wrong], no_tick)
    assert [(f.claim.claim_id, f.problem) for f in faults] == [("s2", "qualifier"), ("s3", "absent"), ("t1", "count")]
    answer = work.mend(Objections(source, tuple(faults)), no_tick)
    assert answer.withdrawn == ("s3",)
    assert [(c.claim_id, c.text, c.count) for c in answer.claims] == [("s2", quote, 0), ("t1", "mailbox", 5)]
    assert work.verify(source, answer.claims, no_tick)[0] == []


def test_the_result_keeps_the_drafts_order_and_says_what_was_done(source: Source) -> None:
    draft = drafted(source)
    first, second, *rest = draft.draft.claims
    faults, _ = work.verify(source, [attrs.evolve(first, text="Wood"), attrs.evolve(second, text="Wood")], no_tick)
    final = {c.claim_id: c for c in (*rest, first)}
    result = work.checked(draft, final, {f.claim.claim_id: f for f in faults}, [])
    assert isinstance(result, Checked)
    assert result.verified == (first, *rest)
    assert [c.claim for c in result.corrected] == [first]
    assert [o.claim.claim_id for o in result.withdrawn] == [second.claim_id]


def test_a_file_that_changed_is_not_reported_on(source: Source) -> None:
    Path(source.path).write_text(TEXT + "\nMore.\n")
    with pytest.raises(work.FileChanged, match=r"mailbox\.md was changed"):
        work.survey(source, no_tick)


def test_claims_on_an_endless_line_are_checked_within_a_window(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    filler = "Some of the words go on and on without any end. " * 3000
    path.write_text(f"{filler}The hub keeps one log of each session here. {filler}")
    source = inspect(path, "long.txt")
    assert isinstance(source, Source)
    true = Claim("s1", "sentence", "The hub keeps one log of each session here.", 1, 1)
    false = attrs.evolve(true, claim_id="s2", text="The hub keeps no log of any session here.")
    faults, _ = work.verify(source, [true, false], no_tick)
    assert [f.claim.claim_id for f in faults] == ["s2"]
    assert len(work.window(path.read_text(), true.text)) < 500


def test_odd_bytes_are_remarked_on(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("café au lait\n".encode("cp1252"))
    source = inspect(path, "old.txt")
    assert isinstance(source, Source)
    assert work.survey(source, no_tick).notes == ("1 line is not UTF-8 and read as Windows-1252",)
