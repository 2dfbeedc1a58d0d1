"""Counting and weighing words."""

# ruff: noqa: RUF001  people read this, typographic dashes and quotes included
from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agorio.demo.text import blocks
from agorio.demo.words import (
    Tally,
    candidates,
    count_forms,
    forget,
    key_terms,
    language_of,
    merge_plurals,
    weights,
    words,
)

texts = st.lists(
    st.sampled_from("hub hubs actor the of mailbox box boxes city cities, not. `code` A_b".split()), max_size=60
)


def tally_of(text: str) -> Tally:
    tally = Tally()
    for block in blocks(text.split("\n")):
        tally.add(block)
    return tally


@given(texts)
def test_an_exact_recount_agrees_with_the_tally(parts: list[str]) -> None:
    text = " ".join(parts)
    tally = tally_of(text)
    wanted = [*tally.singles, *tally.pairs]
    assert count_forms(blocks(text.split("\n")), wanted) == tally.singles + tally.pairs
    assert tally.total == tally.singles.total()


@given(st.dictionaries(st.sampled_from("hub hubs box boxes city cities bus buses as ass".split()), st.integers(1, 9)))
def test_merging_plurals_loses_and_doubles_no_count(counts: dict[str, int]) -> None:
    merged = merge_plurals(counts)
    assert sum(term.count for term in merged) == sum(counts.values())
    assert sorted(form for term in merged for form in term.forms) == sorted(counts)


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 20), max_size=60), st.integers(1, 50))
def test_forgetting_keeps_the_head(counts: dict[str, int], limit: int) -> None:
    kept = forget(Counter(counts), limit)
    assert len(kept) <= limit // 2
    assert all(kept[word] == count for word, count in counts.items() if word in kept)
    assert min(kept.values(), default=99) > max((c for w, c in counts.items() if w not in kept), default=0)


def test_words_keep_identifiers_whole() -> None:
    assert words("The hub’s wait_for_it isn't co-operative, 42") == [
        "the",
        "hub",
        "wait_for_it",
        "isn't",
        "co-operative",
    ]


def test_language() -> None:
    assert language_of(Counter("der hund und die katze sind nicht im haus".split())) == "de"
    assert language_of(Counter("le chat est dans la maison et les chiens".split())) == "fr"
    assert language_of(Counter()) == "en"


def test_a_term_of_this_document_outweighs_one_that_all_share() -> None:
    weight = weights({"mailbox": 9, "agorio": 9}, {"mailbox": 1, "agorio": 5}, 5)
    assert weight["mailbox"] > weight["agorio"]


def test_a_pair_stands_for_its_words() -> None:
    tally = tally_of(
        "The memory channel is full. A memory channel waits. Each memory channel has actors, so many actors."
    )
    terms = key_terms(candidates(tally), {}, 1)
    assert terms[0].text == "memory channel"
    assert "memory" not in [term.text for term in terms]
    assert "actors" in [term.text for term in terms]


def test_a_text_without_repetition_still_has_terms() -> None:
    assert key_terms(candidates(tally_of("Quick foxes jump.")), {}, 1)
    assert key_terms(candidates(tally_of("")), {}, 1) == ()
