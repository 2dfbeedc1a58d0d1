"""What reader and checker do with a file: each a plain function that streams it once or twice and returns a message.

Nothing here knows of agents. The functions may run in a worker thread; `tick` is called as they read and may raise.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

import attrs

from .claims import Claim, Objection, amend, check
from .files import Lines, Tick
from .links import anchor, links
from .messages import Amendments, Checked, Corrected, Drafted, Objections, ReadJob, Source, Survey
from .summary import Sketch, draft
from .text import Block, blocks, markup_of
from .words import Tally, candidates, count_forms, key_terms, language_of, weights

LONG_LINE = 1 << 14
"""Characters beyond which only the part of a line around a quotation is kept as its proof."""
MAX_REMARKS = 12
"""Faults of a document that are listed."""
MAX_LINKS = 2000
"""Links of a document that are followed."""


class FileChanged(Exception):
    """The file is no longer the one that the run began with."""


def _same(source: Source, lines: Lines) -> None:
    if lines.sha256 and lines.sha256 != source.sha256:
        raise FileChanged(f"{source.name} was changed while it was being read")


def survey(source: Source, tick: Tick) -> Survey:
    """Count a file's words; raises `FileChanged` and `OSError`."""
    lines, tally = Lines(source.path, tick), Tally()
    for block in blocks(lines, markup_of(source.name)):
        tally.add(block)
    _same(source, lines)
    notes: tuple[str, ...] = ()
    if lines.odd:
        verb = "line is" if lines.odd == 1 else "lines are"
        notes = (f"{lines.odd} {verb} not UTF-8 and read as Windows-1252",)
    return Survey(source, lines.count, tally.total, language_of(tally.singles), candidates(tally), notes)


def read(job: ReadJob, reader: str, tick: Tick) -> Drafted:
    """Draft a file's outline, summary and key terms; raises `FileChanged` and `OSError`."""
    source, terms = job.survey.source, job.survey.terms
    lines = Lines(source.path, tick)
    sketch = Sketch(weights(terms, job.seen_in, job.documents))
    for block in blocks(lines, markup_of(source.name)):
        sketch.add(block)
    _same(source, lines)
    return Drafted(source, reader, draft(sketch, key_terms(terms, job.seen_in, job.documents)))


@attrs.define
class Proof:
    """The lines that some claims stand on, kept while a file streams by."""

    claims: Sequence[Claim]
    kept: dict[tuple[str, int], str] = attrs.Factory(dict)
    by_line: dict[int, list[Claim]] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        for claim in self.claims:
            for number in range(claim.line, claim.end + 1):
                self.by_line.setdefault(number, []).append(claim)

    def watch(self, lines: Iterable[str]) -> Iterator[str]:
        """Pass the lines on, keeping those that are needed."""
        for number, line in enumerate(lines, 1):
            for claim in self.by_line.get(number, ()):
                self.kept[claim.claim_id, number] = (
                    line if len(line) <= LONG_LINE else window(line, claim.quote or claim.text)
                )
            yield line

    def of(self, claim: Claim) -> str:
        """The text of a claim's lines."""
        return "\n".join(self.kept.get((claim.claim_id, n), "") for n in range(claim.line, claim.end + 1))


def window(line: str, quote: str) -> str:
    """The part of an endless line around a quotation, found by its first or last words; empty if neither occurs."""
    parts = quote.split()
    for words, back in ((parts[:4], 0), (parts[-4:], len(quote))):
        at = line.find(" ".join(words))
        if at >= 0:
            return line[max(0, at - 40 - back) : at + 2 * len(quote) + 200]
    return ""


def verify(source: Source, claims: Sequence[Claim], tick: Tick) -> tuple[list[Objection], list[str]]:
    """The faults of some claims about a file, and the file's own; raises `FileChanged` and `OSError`."""
    lines, proof = Lines(source.path, tick), Proof([c for c in claims if c.kind != "term"])
    ties = Ties(source)
    forms = {form for claim in claims for form in claim.forms}
    stream = blocks(proof.watch(lines), markup_of(source.name))
    counts = count_forms(ties.watch(stream), forms)
    _same(source, lines)
    found = (check(claim, proof.of(claim), counts) for claim in claims)
    return [objection for objection in found if objection], ties.remarks()


@attrs.define
class Ties:
    """A document's links into itself and to its neighbours, gathered while its blocks stream by."""

    source: Source
    anchors: Counter[str] = attrs.Factory(Counter)
    targets: list[tuple[int, str]] = attrs.Factory(list)

    def watch(self, stream: Iterable[Block]) -> Iterator[Block]:
        """Pass the blocks on, noting headings and links."""
        markdown = markup_of(self.source.name) == "markdown"
        for block in stream:
            if markdown and block.kind == "heading":
                self.anchors[anchor(block.text)] += 1
            if markdown and len(self.targets) < MAX_LINKS:
                self.targets.extend(links(block))
            yield block

    def remarks(self) -> list[str]:
        """The links that lead nowhere, with their lines."""
        found = [f"line {line}: {fault}" for line, target in self.targets if (fault := self.fault(target))]
        hidden = len(found) - MAX_REMARKS
        return [*found[:MAX_REMARKS], *([f"and {hidden} more such links"] if hidden > 0 else [])]

    def fault(self, target: str) -> str:
        """What is wrong with a link, if that can be told without a network."""
        if ":" in target.split("/", 1)[0] or target.startswith(("/", "{", "$")):
            return ""
        path, _, fragment = target.partition("#")
        if path:
            wanted = os.path.join(os.path.dirname(self.source.path), unquote(path.partition("?")[0]))
            return "" if os.path.exists(wanted) else f"the link to `{target}` leads to no file"
        return "" if not fragment or self.has(unquote(fragment)) else f"the link to `{target}` has no such heading"

    def has(self, fragment: str) -> bool:
        """Whether a heading has this anchor; the second heading of one name has `-1` behind its own."""
        name, _, number = fragment.lower().rpartition("-")
        return fragment.lower() in self.anchors or (number.isdigit() and self.anchors[name] > int(number))


def mend(objections: Objections, tick: Tick) -> Amendments:
    """A reader's answer to objections, from the file itself; raises `FileChanged` and `OSError`."""
    source, items = objections.source, objections.items
    lines = Lines(source.path, tick)
    nearby: list[Block] = []
    forms = {form for item in items if item.problem == "count" for form in item.claim.forms}
    spans = [(item.claim.line, item.claim.end) for item in items if item.problem != "count"]
    counts = count_forms(_keep(blocks(lines, markup_of(source.name)), spans, nearby), forms)
    _same(source, lines)
    mended = [(item.claim.claim_id, amend(item, nearby, counts)) for item in items]
    return Amendments(
        source,
        tuple(claim for _, claim in mended if claim is not None),
        tuple(claim_id for claim_id, claim in mended if claim is None),
    )


def _keep(stream: Iterable[Block], spans: Sequence[tuple[int, int]], nearby: list[Block]) -> Iterator[Block]:
    for block in stream:
        if any(block.line <= last and block.end >= first for first, last in spans):
            nearby.append(block)
        yield block


def checked(drafted: Drafted, final: dict[str, Claim], faults: dict[str, Objection], remarks: Iterable[str]) -> Checked:
    """The checker's result: `final` holds the accepted claims, `faults` the first objection to each that had one."""
    verified = tuple(final[c.claim_id] for c in drafted.draft.claims if c.claim_id in final)
    corrected = tuple(Corrected(faults[c.claim_id], c) for c in verified if c.claim_id in faults)
    withdrawn = tuple(f for claim_id, f in faults.items() if claim_id not in final)
    return Checked(drafted.source, verified, corrected, withdrawn, tuple(remarks))
