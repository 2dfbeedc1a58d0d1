"""The shape of a text: blocks, headings, sentences, links, with their lines."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agorio.demo.links import anchor, links
from agorio.demo.text import (
    MAX_BLOCK,
    Markup,
    blocks,
    clean,
    markup_of,
    sentences,
    split_sentences,
)

MARKUPS: tuple[Markup, ...] = ("markdown", "rst", "plain")
PIECES = """# Title
## A `b` c ##
text of a line.
More (in parentheses) here.
- item one
2. second


\x20\x20
```py
```
~~~
---
===
*****
| a | b |
<!-- x
-->
> quoted text.
[r]: http://x.y
.. note:: hm
  indented
    code
such as::
CHAPTER IV
1.2 On numbers
Ends here! And
See [the tour](docs/tour.md#a).
:field: value
Not e.g. this.
`a. B` c
\ufeff""".split("\n")
documents = st.lists(st.sampled_from(PIECES) | st.text(max_size=30).filter(lambda t: "\n" not in t), max_size=25)


def shape(text: str, markup: Markup = "markdown") -> list[tuple[str, int, str]]:
    return [(block.kind, block.line, block.text) for block in blocks(text.split("\n"), markup)]


@given(documents, st.sampled_from(MARKUPS))
@example(["---", "a", "", "b"], "markdown")
def test_blocks_come_in_order_and_stand_on_lines_of_the_file(lines: list[str], markup: Markup) -> None:
    found = list(blocks(lines, markup))
    assert all(1 <= block.line <= block.end <= len(lines) for block in found)
    assert [block.line for block in found] == sorted(block.line for block in found)
    for block in found:
        for offset, line in enumerate(block.lines):
            assert line.strip("\ufeff") in lines[block.line - 1 + offset]


@given(documents, st.sampled_from(MARKUPS))
def test_sentences_are_words_of_their_lines(lines: list[str], markup: Markup) -> None:
    for block in blocks(lines, markup):
        for sentence in sentences(block):
            assert block.line <= sentence.line <= sentence.end <= block.end
            proof = clean(" ".join(lines[sentence.line - 1 : sentence.end]))
            assert sentence.text.split()[0].strip("`") in proof


@given(st.text(alphabet="ab .!?`e.g\n", max_size=80))
def test_sentence_spans_follow_each_other_and_leave_only_space(text: str) -> None:
    spans = split_sentences(text)
    assert all(a < b for a, b in spans)
    ends = [0, *(b for _, b in spans)]
    assert all(text[end:start].strip() == "" for end, (start, _) in zip(ends, spans, strict=False))
    assert text[ends[-1] :].strip() == ""


def test_markdown() -> None:
    text = "---\ntitle: x\n---\n# One\n\nA paragraph\nof two lines.\n\n- item\n  goes on\n- [ ] next\n\n"
    text += "```\n# no heading\n```\nTwo\n---\n"
    assert shape(text) == [
        ("heading", 4, "One"),
        ("prose", 6, "A paragraph\nof two lines."),
        ("item", 9, "item\n  goes on"),
        ("item", 11, "next"),
        ("code", 13, "```"),
        ("code", 14, "# no heading"),
        ("code", 15, "```"),
        ("heading", 16, "Two"),
    ]


def test_a_rule_on_the_first_line_that_opens_no_front_matter_hides_nothing() -> None:
    assert shape("---\n\ntext here\n") == [("prose", 3, "text here")]


def test_rst_headings_rank_by_first_appearance_and_literal_blocks_are_code() -> None:
    text = "Title\n=====\n\nFirst\n-----\n\nAs follows::\n\n    code here\n\nBack.\n\n.. note::\n   aside\n\nNext\n----"
    found = list(blocks(text.split("\n"), "rst"))
    assert [(b.text, b.level) for b in found if b.kind == "heading"] == [("Title", 1), ("First", 2), ("Next", 2)]
    assert [b.line for b in found if b.kind == "code"] == [9, 13, 14]


@pytest.mark.parametrize("title", ["CHAPTER IV. The Storm", "1.2 On numbers", "3. Definitions.", "THE END OF IT"])
def test_plain_headings_stand_alone(title: str) -> None:
    assert shape(f"{title}\n\nText follows here.\n", "plain")[0] == ("heading", 1, title)


def test_a_plain_list_is_no_row_of_headings() -> None:
    assert [kind for kind, _, _ in shape("1. Buy milk\n2. Buy eggs\n\n", "plain")] == ["item", "item"]


def test_a_line_without_end_comes_in_bounded_blocks_on_its_own_line() -> None:
    found = list(blocks(["word " * 20_000], "plain"))
    assert len(found) >= 3
    assert {(b.line, b.end) for b in found} == {(1, 1)}
    assert max(len(b.text) for b in found) <= 2 * MAX_BLOCK


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("see [the tour](docs/tour.md) and [that][ref]", "see the tour and that"),
        ("**bold**, *it* and __both__ of snake_case_names", "bold, it and both of snake_case_names"),
        ("keep `a_b [c](d)` as it is", "keep `a_b [c](d)` as it is"),
        ("![badge](x.svg) text <b>here</b>", "text here"),
        (":func:`open` and ``x``", "`open` and `x`"),
        ("two\nlines", "two lines"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("Use e.g. this one. Or cf. Fig. 3 of it.", 2),
        ("Mr. Smith met J. R. Tolkien. They talked.", 2),
        ("Call `a. B` now. Then stop.", 2),
        ("Version 1.2 is out. It is 3.5 times faster.", 2),
        ("He said “Stop.” Then he left.", 2),
        ("これは文です。次の文です。", 2),
    ],
)
def test_sentence_boundaries(text: str, count: int) -> None:
    assert len(split_sentences(text)) == count


def test_sentences_know_their_lines() -> None:
    (block,) = blocks("One ends. Two goes\non here. Three is\nlast.".split("\n"), "plain")
    assert [(s.line, s.end, s.place) for s in sentences(block)] == [(1, 1, 0), (1, 2, 1), (2, 3, 2)]


def test_links_stand_on_their_lines_and_not_in_code() -> None:
    (block,) = blocks(["a [b](c.md)", 'and [d](e#f "t") `[no](link)`'], "markdown")
    assert list(links(block)) == [(1, "c.md"), (2, "e#f")]


def test_anchor() -> None:
    assert anchor("The `Hub`, and *its* keys!") == "the-hub-and-its-keys"


@pytest.mark.parametrize(
    ("name", "markup"), [("a/README.md", "markdown"), ("x.RST", "rst"), ("notes", "plain"), ("a.b/notes.txt", "plain")]
)
def test_markup_of(name: str, markup: str) -> None:
    assert markup_of(name) == markup
