"""From a stream of blocks to a draft: title, outline, key terms and the sentences that say most.

Pure, one pass over the blocks with bounded memory: the best sentences are kept in a heap, an outline without headings
is thinned as it grows. Scores are the weight of a sentence's terms, damped by its length, with a bonus for its place:
texts say what they are about at their beginning and at the beginning of their sections.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise

import attrs

from .claims import MAX_RESTORED, Claim, ClaimKind, condense, dangles
from .text import Block, Sentence, clean, sentences
from .words import Term, words

KEPT = 150
"""Candidate sentences kept while reading."""
MAX_OUTLINE = 60
"""Headings an outline shows."""
MAX_LEADS = 12
"""Lead sentences that stand in for headings where a text has none."""


@attrs.frozen(order=True)
class Scored:
    """A candidate; ordered by score, then the earlier one first."""

    score: float
    """The weight of its terms and of its place."""
    before: int
    """Minus its number in the text."""
    sentence: Sentence = attrs.field(order=False)
    """The sentence."""
    section: int = attrs.field(order=False)
    """The section it stands in."""
    terms: frozenset[str] = attrs.field(order=False)
    """Its weighty terms, for telling repetition."""


@attrs.define
class Sketch:
    """What one pass over a file's blocks gathers for its draft."""

    weight: Mapping[str, float]
    headings: list[Block] = attrs.Factory(list)
    more_headings: int = 0
    leads: list[Sentence] = attrs.Factory(list)
    stride: int = 1
    paragraphs: int = 0
    best: list[Scored] = attrs.Factory(list)
    seen: int = 0
    section: int = 0
    in_section: int = 0
    title: str = ""

    def add(self, block: Block) -> None:
        """Take one block in."""
        if block.kind == "heading":
            self.add_heading(block)
        elif block.kind in ("prose", "item"):
            self.add_prose(block)

    def add_heading(self, block: Block) -> None:
        """A heading opens a section."""
        self.section, self.in_section = self.section + 1, 0
        text = clean(block.text)
        if not text:
            return
        if not self.title and self.seen < 3 and block.level == 1:
            self.title = text
        if len(self.headings) < MAX_OUTLINE * 4:
            self.headings.append(block)
        else:
            self.more_headings += 1

    def add_prose(self, block: Block) -> None:
        """Score a paragraph's sentences; remember its first where a text has no headings."""
        for sentence in sentences(block):
            if sentence.place == 0 and block.kind == "prose" and reads_well(sentence):
                self.add_lead(sentence)
            self.offer(sentence)
            self.seen += 1
        self.in_section += 1

    def add_lead(self, sentence: Sentence) -> None:
        """Keep every n-th lead, n doubling whenever there are twice as many as needed."""
        if self.paragraphs % self.stride == 0:
            self.leads.append(sentence)
            if len(self.leads) >= MAX_LEADS * 2:
                self.leads, self.stride = self.leads[::2], self.stride * 2
        self.paragraphs += 1

    def offer(self, sentence: Sentence) -> None:
        """Score a sentence and keep it while it is among the best."""
        if not reads_well(sentence):
            return
        found = words(sentence.text)
        terms = self.terms_in(found)
        value = sum(self.weight[term] for term in terms) / math.sqrt(len(found) + 4)
        value *= self.place_bonus(sentence) * (0.8 if sentence.kind == "item" else 1.0)
        value *= 0.45 if dangles(sentence.text) else 1.0
        value *= 0.7 if len(found) > 45 or sentence.text.endswith("?") else 1.0
        if value > 0:
            entry = Scored(value, -self.seen, sentence, self.section, terms)
            (heapq.heappush if len(self.best) < KEPT else heapq.heappushpop)(self.best, entry)

    def terms_in(self, found: list[str]) -> frozenset[str]:
        """The weighty words and pairs among a sentence's words."""
        pairs = (f"{a} {b}" for a, b in pairwise(found))
        return frozenset(term for term in (*found, *pairs) if term in self.weight)

    def place_bonus(self, sentence: Sentence) -> float:
        """More for the opening of the text and of each section."""
        bonus = 1.25 if sentence.place == 0 else 1.0
        if self.in_section == 0:
            bonus *= 1.25
        if self.seen == 0 and sentence.kind == "prose":
            return bonus * 2
        return bonus * (1.4 if self.seen < 6 and self.section < 2 else 1.0)


def reads_well(sentence: Sentence) -> bool:
    """Whether it is a sentence to show: long enough, ended, mostly words, running text rather than a column."""
    text, lines = sentence.text, sentence.end - sentence.line + 1
    if not 35 <= len(text) <= MAX_RESTORED or text[-1] not in '.!?…。！？"”’)`' or text.count("`") % 2:
        return False
    if (text[0].islower() and sentence.place > 0) or not (text[0].isalnum() or text[0] in "`\"“'‘«¿¡(["):
        return False
    if lines > 2 and len(text) < 30 * lines:
        return False
    letters = sum(c.isalpha() or c.isspace() for c in text)
    return letters >= 0.78 * len(text) and "://" not in text and text.count(" ") >= 4


def choose(best: Iterable[Scored], limit: int) -> list[Scored]:
    """The best sentences without repetition and without leaving sections to one another, in the text's order."""
    left = sorted(best, reverse=True)
    chosen: list[Scored] = []
    sections: dict[int, int] = {}
    while left and len(chosen) < limit:
        worth = [s.score * _novelty(s, chosen) / (1 + 0.6 * sections.get(s.section, 0)) for s in left]
        top = left[worth.index(max(worth))]
        if _novelty(top, chosen) < 0.2:
            break
        left.remove(top)
        chosen.append(top)
        sections[top.section] = sections.get(top.section, 0) + 1
    return sorted(chosen, key=lambda s: -s.before)


def _novelty(candidate: Scored, chosen: list[Scored]) -> float:
    if not chosen:
        return 1.0
    same = max(len(candidate.terms & s.terms) / max(1, len(candidate.terms | s.terms)) for s in chosen)
    return 1.0 - same


def summary_size(sentence_count: int) -> int:
    """How many sentences a text of this length is condensed to: 3 for a page, 10 for a book."""
    return max(2, min(10, round(1.5 * math.log2(1 + sentence_count / 4))))


@attrs.frozen
class Draft:
    """What a reader states about a file."""

    title: str
    """The highest heading at the top; empty where the file has none."""
    claims: tuple[Claim, ...]
    """The outline, the summary and the key terms, each to be verified."""
    more_headings: int = 0
    """Headings that the outline leaves out."""


def draft(sketch: Sketch, terms: Iterable[Term]) -> Draft:
    """The claims that a reader makes from what it gathered."""
    outline, hidden = outline_claims(sketch)
    picked = choose(sketch.best, summary_size(sketch.seen))
    body = [sentence_claim(f"s{number}", "sentence", s.sentence) for number, s in enumerate(picked, 1)]
    keys = [
        Claim(f"t{number}", "term", term.text, 0, 0, count=term.count, forms=term.forms)
        for number, term in enumerate(terms, 1)
    ]
    return Draft(sketch.title, (*outline, *body, *keys), hidden + sketch.more_headings)


def outline_claims(sketch: Sketch) -> tuple[list[Claim], int]:
    """Headings, the deepest levels left out until they fit; lead sentences where headings are rare."""
    found = len(sketch.headings) + sketch.more_headings
    if sketch.leads and (found < 2 or found * 25 < sketch.paragraphs):
        leads = sketch.leads[:: 2 if len(sketch.leads) > MAX_LEADS else 1]
        return [sentence_claim(f"p{n}", "lead", s) for n, s in enumerate(leads, 1)], 0
    shown = list(sketch.headings)
    for level in range(6, 1, -1):
        if len(shown) > MAX_OUTLINE:
            shown = [block for block in shown if block.level < level] or shown
    shown = shown[:MAX_OUTLINE]
    made = [
        Claim(f"h{n}", "heading", clean(b.text), b.line, b.end, quote=clean(b.text), level=b.level)
        for n, b in enumerate(shown, 1)
    ]
    return made, len(sketch.headings) - len(shown)


def sentence_claim(claim_id: str, kind: ClaimKind, sentence: Sentence) -> Claim:
    """A claim from a sentence, condensed."""
    return Claim(claim_id, kind, condense(sentence.text), sentence.line, sentence.end, quote=sentence.text)
