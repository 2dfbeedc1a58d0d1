"""The digest: what the newsroom found out, as one Markdown file. Pure: the same input gives the same text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs

from .claims import Claim, Objection
from .files import Skipped
from .links import anchor
from .messages import Checked, Survey
from .summary import Draft

MARK = "<!-- agorio digest -->"
"""First line of every digest; only a file that begins with it is overwritten."""
MAX_SHARED = 12
"""Terms that the overview lists."""


@attrs.frozen
class Section:
    """All that is known about one file."""

    survey: Survey
    """What it is made of."""
    draft: Draft
    """What its reader stated."""
    checked: Checked
    """What its checker made of that."""

    @property
    def name(self) -> str:
        """The path as it was given."""
        return self.survey.source.name

    @property
    def title(self) -> str:
        """Its own title, or its file name."""
        return self.draft.title or self.name.rsplit("/", 1)[-1]

    def claims(self, *kinds: str) -> list[Claim]:
        """The claims of these kinds that hold."""
        return [claim for claim in self.checked.verified if claim.kind in kinds]


_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~])")
_CODE = re.compile(r"(`[^`]+`)")


def escape(text: str) -> str:
    """Text that Markdown shows as it is; code spans stay code."""
    shown = "".join(part if _CODE.fullmatch(part) else _SPECIAL.sub(r"\\\1", part) for part in _CODE.split(text))
    # `word_with_underscores` is shown as it is by every renderer; a backslash in it would only be in the way.
    return re.sub(r"(?<=\w)\\_(?=\w)", "_", shown)


def render(sections: Sequence[Section], skipped: Sequence[Skipped]) -> str:
    """The whole digest."""
    parts = [MARK, "", *overview(sections, skipped)]
    for number, section in enumerate(sections, 1):
        parts += ["", *one(number, section)]
    return "\n".join(parts) + "\n"


def overview(sections: Sequence[Section], skipped: Sequence[Skipped]) -> Iterator[str]:
    """The top: a table of the files, what they share, what was left out."""
    yield f"# Digest of {len(sections)} document{'' if len(sections) == 1 else 's'}"
    yield ""
    yield _tally(sections)
    yield ""
    if sections:
        yield "| | Document | Lines | Words | Claims verified | Corrected | Withdrawn |"
        yield "|--:|:--|--:|--:|--:|--:|--:|"
        for number, section in enumerate(sections, 1):
            yield _row(number, section)
    if shared := shared_terms(sections):
        yield ""
        yield "**Common to several documents:** " + ", ".join(f"{escape(t)} ({n})" for t, n in shared) + "."
    if skipped:
        yield ""
        yield "**Left out:**"
        yield ""
        yield from (f"- {escape(s.name)}: {escape(s.reason)}" for s in skipped)


def _tally(sections: Sequence[Section]) -> str:
    verified = sum(len(s.checked.verified) for s in sections)
    corrected = sum(len(s.checked.corrected) for s in sections)
    withdrawn = sum(len(s.checked.withdrawn) for s in sections)
    return (
        f"{verified:,} claims were verified against the lines they quote; {corrected:,} of them were corrected first, "
        f"{withdrawn:,} more were withdrawn. Numbers after `l.` are lines of the document."
    )


def _heading(number: int, section: Section) -> str:
    return f"{number}. {escape(section.title)}"


def _row(number: int, section: Section) -> str:
    checked, survey = section.checked, section.survey
    link = f"[{escape(section.title)}](#{anchor(_heading(number, section))})"
    counts = (survey.lines, survey.words, len(checked.verified), len(checked.corrected), len(checked.withdrawn))
    return f"| {number} | {link} | " + " | ".join(f"{n:,}" for n in counts) + " |"


def shared_terms(sections: Sequence[Section]) -> list[tuple[str, int]]:
    """Key terms of more than one document, with the number of documents."""
    if len(sections) < 2:
        return []
    counts = Counter(term for section in sections for term in {c.text for c in section.claims("term")})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(term, number) for term, number in ranked if number > 1][:MAX_SHARED]


def one(number: int, section: Section) -> Iterator[str]:
    """One document's part."""
    yield f"## {_heading(number, section)}"
    yield ""
    yield f"`{section.name}` · {section.survey.lines:,} lines · {section.survey.words:,} words"
    if terms := section.claims("term"):
        yield ""
        yield "**Key terms:** " + ", ".join(f"{escape(t.text)} ×{t.count:,}" for t in terms)
    if summary := section.claims("sentence"):
        yield from ("", "### In short", "")
        yield from (f"- {escape(claim.text)} ({where(claim)})" for claim in summary)
    yield from outline(section)
    yield from revised(section)
    if remarks := [*section.survey.notes, *section.checked.remarks]:
        yield from ("", "### Remarks on the document", "")
        yield from (f"- {escape(remark)}" for remark in remarks)


def where(claim: Claim) -> str:
    """The lines of a claim."""
    return f"l. {claim.line}" if claim.line == claim.end else f"l. {claim.line}–{claim.end}"


def outline(section: Section) -> Iterator[str]:
    """The headings as a nested list, or the lead sentences of the paragraphs."""
    entries = section.claims("heading", "lead")
    if not entries:
        return
    yield from ("", "### Outline" if entries[0].kind == "heading" else "### How it goes", "")
    levels: list[int] = []
    for claim in entries:
        # A document may skip levels; the list must not, or it would render as code.
        while levels and levels[-1] >= claim.level:
            levels.pop()
        yield f"{'  ' * len(levels)}- {escape(claim.text)} ({where(claim)})"
        if claim.kind == "heading":
            levels.append(claim.level)
    if section.draft.more_headings:
        yield f"- … and {section.draft.more_headings:,} smaller headings"


def revised(section: Section) -> Iterator[str]:
    """What the checker objected to, and what became of it."""
    checked = section.checked
    mended = [f"- {_objection(c.objection)} → “{escape(_claimed(c.claim))}”" for c in checked.corrected]
    struck = [f"- {_objection(objection)}" for objection in checked.withdrawn]
    for title, lines in (("### Corrected", mended), ("### Withdrawn", struck)):
        if lines:
            # A sentence may lead its paragraph and stand in the summary as well.
            yield from ("", title, "", *dict.fromkeys(lines))


def _claimed(claim: Claim) -> str:
    return f"{claim.text} ×{claim.count:,}" if claim.kind == "term" else claim.text


def _objection(objection: Objection) -> str:
    claim = objection.claim
    at = f" ({where(claim)})" if claim.line else ""
    return f"“{escape(_claimed(claim))}”{at}: {escape(objection.detail)}"


def is_ours(first_lines: Iterable[str]) -> bool:
    """Whether a file that begins with these lines is a digest, or empty, and may be overwritten."""
    return next((line.strip() for line in first_lines if line.strip()), MARK) == MARK
