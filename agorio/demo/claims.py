"""Claims about a text and their proof: what a reader states, how a checker verifies it, how a reader mends it.

Pure. A claim carries the span that is to support it. Checking is by words, not by spelling: a sentence may be
shortened, but each of its words must stand in the quoted lines in that order, nothing that turns the meaning (`not`,
`unless`, `only` …) may have been cut, and it must be understood without the sentence before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

from .text import Block, Sentence, clean, sentences

ClaimKind = Literal["heading", "lead", "sentence", "term"]
Problem = Literal["absent", "added", "qualifier", "dangling", "count"]

MAX_CLAIM = 220
"""Characters a condensed sentence should not exceed."""
MAX_RESTORED = 420
"""Characters up to which a sentence may be restored in full; beyond that it is withdrawn."""


@attrs.frozen
class Claim:
    """One statement about a file, with the lines that are to prove it."""

    claim_id: str
    """Its number within the draft."""
    kind: ClaimKind
    """A heading, the lead sentence of a paragraph, a sentence of the summary, or a key term."""
    text: str
    """What is claimed."""
    line: int
    """First line of the proof."""
    end: int
    """Last line of the proof."""
    quote: str = ""
    """The sentence or sentences that it was made from."""
    level: int = 0
    """A heading's depth."""
    count: int = 0
    """How often a term is said to occur."""
    forms: tuple[str, ...] = ()
    """A term's spellings."""


@attrs.frozen
class Objection:
    """Why a claim is not accepted."""

    claim: Claim
    """The claim as it was made."""
    problem: Problem
    """The kind of fault."""
    detail: str
    """What exactly: the words, or the true count."""


_LEADING = re.compile(
    r"^(?:however|moreover|furthermore|additionally|in addition|also|thus|therefore|hence|consequently|accordingly|"
    r"in other words|in short|for example|for instance|note that|finally|besides|likewise|similarly|indeed|of course|"
    r"in fact|in practice|and|so|then),?\s+",
    re.IGNORECASE,
)
_PARENTHESIS = re.compile(r"\s*\([^()`]*\)")
_PREPOSITIONS = frozenset("a an and as at be by for from in into is of on or than that the to via with are was".split())
_CLAUSE = re.compile(
    r"(?:;| [–—-]|,)\s+(?:which|where|while|because|but|unless|except|so that|since|as|if|whereas|though|"
    r"although|not|e\.g\.|i\.e\.|such as|including)\b|;\s| [–—-] ",
    re.IGNORECASE,
)


def condense(text: str, limit: int = MAX_CLAIM) -> str:
    """A sentence made shorter by cutting, never by rewording: connectives, then parentheses, then late clauses."""
    short = _LEADING.sub("", text, count=1)
    short = short[:1].upper() + short[1:] if short != text else text
    if len(short) > limit * 2 // 3:
        short = _PARENTHESIS.sub(lambda m: m[0] if _needed(short, m.start()) else "", short)
    if len(short) <= limit:
        return short
    starts = (m.start() for m in _CLAUSE.finditer(short))
    ends = [at for at in starts if limit // 3 <= at <= limit and _outside(short, at)]
    return short[: ends[-1]].rstrip(" ,;:–—-") + "." if ends else short


def _needed(text: str, position: int) -> bool:
    """Whether a parenthesis belongs to its sentence: it is code, or what its preposition speaks of."""
    return not _outside(text, position) or text[:position].rsplit(" ", 1)[-1].lower() in _PREPOSITIONS


def _outside(text: str, position: int) -> bool:
    """Whether a position is outside of code spans and parentheses."""
    before = text[:position]
    return before.count("`") % 2 == 0 and before.count("(") == before.count(")")


_TOKEN = re.compile(r"\w+(?:[.'’:/_-]\w+)*|;")
_QUALIFIERS = frozenset(
    "not no never none nobody nothing nor neither cannot without unless except only but if until hardly rarely almost "
    "barely sometimes may might unlikely nicht kein keine nie nur außer pas jamais sauf sinon nunca sino salvo".split()
)


def tokens(text: str) -> list[str]:
    """The words, numbers and semicolons of a text in lower case, without the accident of line breaks and marks."""
    return _TOKEN.findall(clean(text).lower().replace("’", "'"))


def qualifies(token: str) -> bool:
    """Whether leaving this word out may turn a sentence's meaning."""
    return token in _QUALIFIERS or token.endswith("n't")


def compare(claim: str, quote: str) -> tuple[list[str], list[str]]:
    """Words of the claim that the quote does not have at that place, and qualifiers of the quote that it dropped.

    A part that was cut off behind a semicolon is a statement of its own, so what qualified it does not count.
    """
    said, proof = tokens(claim), tokens(quote)
    added: list[str] = []
    dropped: list[str] = []
    place = 0
    for token in said:
        try:
            found = proof.index(token, place)
        except ValueError:
            added.append(token)
            continue
        dropped += [t for t in proof[place:found] if qualifies(t)]
        place = found + 1
    tail = proof[place:]
    tail = tail[: tail.index(";")] if ";" in tail else tail
    return [t for t in added if t != ";"], dropped + [t for t in tail if qualifies(t)]


_DANGLING = re.compile(
    r"^(?:(?:this|that|these|those|such|it|they|he|she|its|their|his|her|both|neither|either)\b|the (?:former|latter|"
    r"same|other|others|second|third|first two)\b|(?:but|or|nor|yet|otherwise|instead|still|even so|as a result|"
    r"because of this|likewise|there,|here,))",
    re.IGNORECASE,
)
# "It is X that …" and "those who" explain themselves.
_EXPLAINED = re.compile(
    r"^(?:it (?:is|was|has been|may be|can be|seems|follows)\b.{0,40}\b(?:that|to|how|whether|when|which)\b"
    r"|that\b.{3,60}\b(?:is|was|means|shows)\b|(?:those|he|she|they) (?:who|that|whose)\b"
    r"|(?:both|either|neither) (?:of )?(?!of them)\w+.* (?:and|or|nor) )",
    re.IGNORECASE,
)


def dangles(text: str) -> bool:
    """Whether a sentence leans on the one before it: it opens with a pronoun or a connective that points back."""
    return bool(_DANGLING.match(text)) and not _EXPLAINED.match(text)


def check(claim: Claim, proof: str, counts: Mapping[str, int]) -> Objection | None:
    """The fault of a claim, or None. `proof` is the text of its lines, `counts` an exact recount of the terms."""
    if claim.kind == "term":
        return check_count(claim, counts)
    quoted = claim.quote or claim.text
    if not _contains(tokens(proof), tokens(quoted)):
        return Objection(claim, "absent", f"line {claim.line} does not say so")
    added, dropped = compare(claim.text, quoted)
    if added:
        return Objection(claim, "added", "not in the text: " + ", ".join(added))
    if claim.kind == "heading":
        return None
    if dropped:
        return Objection(claim, "qualifier", "left out: " + ", ".join(dict.fromkeys(dropped)))
    if claim.kind == "sentence" and dangles(claim.text):
        return Objection(claim, "dangling", f"what does “{claim.text.split()[0]}” point to?")
    return None


def check_count(claim: Claim, counts: Mapping[str, int]) -> Objection | None:
    """The fault of a key term's count."""
    true = sum(counts.get(form, 0) for form in claim.forms)
    return None if true == claim.count and true else Objection(claim, "count", f"{true}, not {claim.count}")


def _contains(whole: list[str], part: list[str]) -> bool:
    # Joined by a space that no token holds: one substring search instead of a comparison at every place.
    return f" {' '.join(part)} " in f" {' '.join(whole)} " if part else False


def amend(objection: Objection, context: Iterable[Block], counts: Mapping[str, int]) -> Claim | None:
    """The claim as a reader mends it after an objection, or None if it must be withdrawn.

    `context` holds the blocks around the claim, `counts` a recount of the terms.
    """
    claim = objection.claim
    if objection.problem == "count":
        true = sum(counts.get(form, 0) for form in claim.forms)
        return attrs.evolve(claim, count=true) if true else None
    if claim.kind == "heading" or objection.problem == "absent":
        return None
    before, own = locate(claim, context)
    if own is None:
        return None
    if objection.problem == "dangling":
        return None if before is None else restored(claim, (before, own))
    return restored(claim, (own,))


def locate(claim: Claim, context: Iterable[Block]) -> tuple[Sentence | None, Sentence | None]:
    """The sentence that a claim was made from, and the one before it in the same paragraph."""
    wanted = tokens(claim.quote or claim.text)
    for block in context:
        if block.line > claim.end or block.end < claim.line:
            continue
        before: Sentence | None = None
        for sentence in sentences(block):
            if tokens(sentence.text) == wanted:
                return before, sentence
            before = sentence
    return None, None


def restored(claim: Claim, parts: Sequence[Sentence]) -> Claim | None:
    """The claim with its sentences in full; None if that is too long or still leans on what comes before."""
    text = " ".join(part.text for part in parts)
    text = text[:1].upper() + text[1:]
    if len(text) > MAX_RESTORED or (claim.kind == "sentence" and dangles(text)):
        return None
    return attrs.evolve(claim, text=text, quote=text, line=parts[0].line, end=parts[-1].end)
