"""The digest: readable Markdown that says what it rests on."""

# ruff: noqa: RUF001  people read this, typographic dashes and quotes included
from __future__ import annotations

import html
import re

import attrs
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agorio.demo.claims import Claim, Objection
from agorio.demo.digest import MARK, Section, escape, is_ours, render
from agorio.demo.files import Skipped
from agorio.demo.messages import Checked, Corrected, Source, Survey
from agorio.demo.summary import Draft

CLAIMS = (
    Claim("h1", "heading", "The hub", 1, 1, level=1),
    Claim("h2", "heading", "Deep *below*", 5, 5, level=4),
    Claim("h3", "heading", "Next", 9, 9, level=2),
    Claim("s1", "sentence", "A hub keeps `snake_case` order.", 2, 3),
    Claim("t1", "term", "hub", 0, 0, count=1200),
)
SOURCE = Source("/x/a.md", "a.md", "a", 9)
FAULT = Objection(CLAIMS[3], "qualifier", "left out: not")


def section(name: str, title: str = "The hub", checked: Checked | None = None) -> Section:
    source = Source(f"/x/{name}", name, name, 9)
    checked = attrs.evolve(checked or Checked(source, CLAIMS, (), ()), source=source)
    return Section(Survey(source, 12, 3400, "en", {}), Draft(title, CLAIMS), checked)


def test_the_whole_digest() -> None:
    first = section(
        "a.md", checked=Checked(SOURCE, CLAIMS, (Corrected(FAULT, CLAIMS[3]),), (FAULT,), ("line 2: gone",))
    )
    text = render([first, section("b.md", "")], [Skipped("c.png", "binary, not text")])
    assert text.startswith(f"{MARK}\n\n# Digest of 2 documents\n")
    assert "| 1 | [The hub](#1-the-hub) | 12 | 3,400 | 5 | 1 | 1 |" in text
    assert "| 2 | [b.md](#2-bmd) |" in text
    assert "**Common to several documents:** hub (2)." in text
    assert "- c.png: binary, not text" in text
    assert "\n- The hub (l. 1)\n  - Deep \\*below\\* (l. 5)\n  - Next (l. 9)\n" in text
    assert "- A hub keeps `snake_case` order. (l. 2–3)" in text
    assert "**Key terms:** hub ×1,200" in text
    assert "### Withdrawn\n\n- “A hub keeps `snake_case` order.” (l. 2–3): left out: not" in text
    assert "### Remarks on the document\n\n- line 2: gone" in text


def test_a_digest_of_nothing() -> None:
    assert "# Digest of 0 documents" in render([], [])


def test_the_table_links_to_the_sections() -> None:
    text = render([section("a.md", "A `x`: *the* hub"), section("b.md")], [])
    anchors = re.findall(r"\]\(#([^)]+)\)", text)
    assert anchors == ["1-a-x-the-hub", "2-the-hub"]


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=40))
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    line = " ".join(text.replace("`", "").replace("&", "").split())
    shown = MarkdownIt().renderInline(escape(f"x {line} x"))
    assert html.unescape(shown) == f"x {line} x"


def test_only_a_digest_or_an_empty_file_is_ours() -> None:
    assert is_ours(["\n", f"{MARK}\n", "x"])
    assert is_ours([])
    assert not is_ours(["# My notes\n", MARK])
