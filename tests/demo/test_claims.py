"""Claims: what passes the checker, what does not, and how a reader mends it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agorio.demo.claims import MAX_CLAIM, Claim, amend, check, compare, condense, dangles, tokens
from agorio.demo.summary import Sketch, draft
from agorio.demo.text import blocks
from agorio.demo.words import Tally, candidates, count_forms, key_terms, weights

WORDS = "hub actor mailbox sends not receives unless restarts (quickly) (never) `ask` a the log; which is: but".split()
sentence = st.lists(st.sampled_from(WORDS), min_size=4, max_size=60).map(lambda w: "This " + " ".join(w) + ".")
paragraph = st.lists(
    sentence | st.sampled_from(["It holds the mail of one actor.", "# A heading"]), min_size=1, max_size=6
)
document = st.lists(paragraph.map(" ".join), min_size=1, max_size=8).map("\n\n".join)


def claim(text: str, quote: str = "", line: int = 1) -> Claim:
    return Claim("s1", "sentence", text, line, line, quote=quote or text)


@given(sentence)
def test_condensing_only_cuts(text: str) -> None:
    added, _ = compare(condense(text), text)
    assert added == []
    assert len(condense(text)) <= max(len(text), MAX_CLAIM)


@given(document)
def test_a_reader_invents_nothing_and_mends_in_one_round(text: str) -> None:
    lines, tally = text.split("\n"), Tally()
    for block in blocks(lines):
        tally.add(block)
    counts = candidates(tally)
    sketch = Sketch(weights(counts, {}, 1))
    for block in blocks(lines):
        sketch.add(block)
    made = draft(sketch, key_terms(counts, {}, 1)).claims
    true = count_forms(blocks(lines), [form for c in made for form in c.forms])
    for stated in made:
        fault = check(stated, "\n".join(lines[stated.line - 1 : stated.end]), true)
        if fault:
            assert fault.problem in ("qualifier", "dangling")
            mended = amend(fault, blocks(lines), true)
            assert mended is None or check(mended, "\n".join(lines[mended.line - 1 : mended.end]), true) is None


@given(sentence, st.data())
def test_a_changed_word_is_found(text: str, data: st.DataObject) -> None:
    said = text.split()
    place = data.draw(st.integers(1, len(said) - 1))
    false = " ".join([*said[:place], "zebra", *said[place + 1 :]])
    fault = check(claim(false, quote=text), text, {})
    assert fault is not None
    assert fault.problem == "added"
    assert "zebra" in fault.detail
    other = check(claim(false), text, {})
    assert other is not None
    assert other.problem == "absent"


@given(sentence)
def test_a_lost_negation_is_found(text: str) -> None:
    assume("not" in text.split() and text.count(";") == 0)
    said = text.split()
    said.remove("not")
    fault = check(claim(" ".join(said), quote=text), text, {})
    assert fault is not None
    assert fault.problem == "qualifier"


def test_a_number_must_be_that_of_the_text() -> None:
    fault = check(
        claim("It took 12 seconds in all.", quote="It took 21 seconds in all."), "It took 21 seconds in all.", {}
    )
    assert fault is not None
    assert fault.detail == "not in the text: 12"


def test_a_statement_of_its_own_may_be_cut_off() -> None:
    quote = "The hub keeps the log; it does not keep the mail."
    assert check(claim("The hub keeps the log.", quote=quote), quote, {}) is None
    quote = "The hub keeps the log, but not the mail."
    assert check(claim("The hub keeps the log.", quote=quote), quote, {}) is not None


@pytest.mark.parametrize(
    ("text", "points_back"),
    [
        ("This makes it slow.", True),
        ("They are dropped.", True),
        ("Otherwise the mail waits.", True),
        ("The latter is faster.", True),
        ("It is the hub that decides.", False),
        ("Those who wait are woken.", False),
        ("Both the hub and the agent know it.", False),
        ("Item lists are short.", False),
        ("Thistles grow here.", False),
    ],
)
def test_dangling(text: str, points_back: bool) -> None:
    assert dangles(text) is points_back


def test_a_dangling_sentence_is_mended_with_the_one_before_it() -> None:
    lines = ["A mailbox is bounded.", "This keeps memory small."]
    stated = claim("This keeps memory small.", line=2)
    fault = check(stated, lines[1], {})
    assert fault is not None
    mended = amend(fault, blocks(lines), {})
    assert mended is not None
    assert (mended.text, mended.line, mended.end) == ("A mailbox is bounded. This keeps memory small.", 1, 2)
    assert amend(fault, blocks([lines[1]]), {}) is None


def test_a_cut_qualifier_is_restored() -> None:
    quote = "Mail is kept (unless the store is full)."
    fault = check(claim("Mail is kept.", quote=quote), quote, {})
    assert fault is not None
    assert fault.detail == "left out: unless"
    mended = amend(fault, blocks([quote]), {})
    assert mended is not None
    assert mended.text == quote


def test_a_wrong_count_is_corrected_and_one_of_nothing_withdrawn() -> None:
    stated = Claim("t1", "term", "hub", 0, 0, count=3, forms=("hub", "hubs"))
    fault = check(stated, "", {"hub": 3, "hubs": 1})
    assert fault is not None
    assert fault.detail == "4, not 3"
    mended = amend(fault, [], {"hub": 3, "hubs": 1})
    assert mended is not None
    assert mended.count == 4
    assert amend(fault, [], {}) is None


def test_a_heading_that_is_not_there_is_withdrawn() -> None:
    fault = check(Claim("h1", "heading", "Setup", 3, 3, quote="Setup"), "# Set-up of it", {})
    assert fault is not None
    assert fault.problem == "absent"
    assert amend(fault, [], {}) is None


@given(st.text(max_size=60))
def test_tokens_do_not_depend_on_line_breaks(text: str) -> None:
    assert tokens(text.replace("\n", " ")) == tokens(text) or "\n" not in text or "`" in text
