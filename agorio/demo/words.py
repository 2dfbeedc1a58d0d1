"""Words and what they weigh: key terms of a document against its neighbours, and the language it seems to be in.

Pure. Counting is bounded: past a limit the rarest entries are forgotten, so that a file of any size costs the memory
of its vocabulary's head. A count may then be too low, which the checker's exact recount finds.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import attrs

from .text import Block, clean

MAX_COUNTED = 150_000
"""Entries a counter may hold before those seen once are forgotten."""

_STOPS = {
    "en": """a about above after again against all also although always am among an and another any anyone anything are
    as at away back be became because become been before behind being below between both but by came can cannot come
    could did do does doing done down during each either else enough etc even ever every everything few first for from
    further get gets given gives go goes going got had has have having he hence her here hers herself him himself his
    how however i if in indeed instead into is it its itself just keep kept know last least less let lets like little
    made make makes many may me might mine more most much must my myself need needs never next no nobody none nor not
    nothing now of off often on once one only onto or other others otherwise ought our ours out over own per perhaps
    put rather really said same say says second see seem seems shall she should since so some someone something soon
    still such take taken takes than that the their theirs them themselves then there therefore these they thing things
    third this those though three through thus to together too took toward two under until up upon us use used uses
    using very via want was way we well went were what whatever when where whether which while who whole whom whose why
    will with within without would yes yet you your yours yourself don't doesn't didn't isn't aren't wasn't can't won't
    it's that's there's i'm you're we're they're""",
    "de": """aber als am an auch auf aus bei bin bis bist da damit dann das dass dein dem den denn der des die dies
    diese dieser dieses doch dort du durch ein eine einem einen einer eines er es etwas für gegen hab habe haben hat
    hatte hier ich ihr ihre im in ist ja jede jeder jedes jetzt kann kein keine können man mehr mein mich mir mit muss
    nach nicht nichts noch nun nur ob oder ohne schon sehr sein seine sich sie sind so soll über um und uns unser unter
    vom von vor war waren was weil wenn werden wer wie wieder wir wird wo zu zum zur zwischen""",
    "fr": """alors au aucun aussi autre aux avant avec avoir bien ce cela ces cet cette ceux comme dans de depuis des
    donc dont du elle elles en encore entre est et était être eux fait faire il ils je la le les leur leurs lui mais me
    même mes moi mon ne nos notre nous on ont ou où par pas peu peut plus pour quand que quel quelle qui sa sans se ses
    si son sont sous sur ta te tes toi ton tous tout toute très tu un une vos votre vous y à c'est qu'il n'est d'un
    d'une""",
    "es": """al algo antes aquel aquí así aunque bajo bien cada como con contra cual cuando cuya de del desde donde dos
    el él ella ellas ellos en entre era es esa ese eso esta está este esto estos fue ha había han hasta hay la las le
    les lo los más me mi mientras muy nada ni no nos nosotros o os otra otro para pero poco por porque que qué quien se
    sea ser si sí sido sin sobre son su sus también tan te tiene todo todos tu un una uno y ya yo""",
}
STOPS = {language: frozenset(words.split()) for language, words in _STOPS.items()}
"""Function words by language."""

_WORD = re.compile(r"[^\W\d_]\w*(?:[-'’]\w+)*")
_PHRASE_END = re.compile(r"[.,;:!?()\[\]{}\"“”|/=<>*]+(?=\s|$)|[()\[\]{}\"“”|=<>…–—]|`")


def words(text: str) -> list[str]:
    """The words of a cleaned text in lower case; identifiers stay whole, a possessive 's is dropped."""
    found = _WORD.findall(text.lower().replace("’", "'"))
    return [word[:-2] if word.endswith("'s") else word for word in found]


def phrases(text: str) -> Iterator[list[str]]:
    """The words between two marks of punctuation: only those can form a term together."""
    for part in _PHRASE_END.split(text):
        if found := words(part):
            yield found


@attrs.define
class Tally:
    """Counts of a document: its words and its pairs of neighbouring content words, in prose, headings and tables."""

    singles: Counter[str] = attrs.Factory(Counter)
    """Words, function words included."""
    pairs: Counter[str] = attrs.Factory(Counter)
    """Two words in a row without a function word of any language among them."""
    total: int = 0
    """All words."""

    def add(self, block: Block) -> None:
        """Count one block; code is left out."""
        if block.kind == "code":
            return
        for phrase in phrases(clean(block.text)):
            self.total += len(phrase)
            self.singles.update(phrase)
            self.pairs.update(pairs_of(phrase))
        if len(self.pairs) > MAX_COUNTED:
            self.pairs = forget(self.pairs, MAX_COUNTED)
        if len(self.singles) > MAX_COUNTED:
            self.singles = forget(self.singles, MAX_COUNTED)


def pairs_of(phrase: list[str]) -> Iterator[str]:
    """Neighbours that may be a term: neither is a function word or a single letter."""
    for left, right in pairwise(phrase):
        if len(left) > 1 and len(right) > 1 and left != right and not (left in _ANY_STOP or right in _ANY_STOP):
            yield f"{left} {right}"


# English only: `die`, `son` or `a` are content in one language and function in another, and pairs with them are rare.
_ANY_STOP = STOPS["en"]


def forget(counts: Counter[str], limit: int) -> Counter[str]:
    """The head of a counter: entries above the lowest count that brings it under half its limit."""
    floor = 1
    while sum(count > floor for count in counts.values()) > limit // 2:
        floor += 1
    return Counter({word: count for word, count in counts.items() if count > floor})


def language_of(singles: Mapping[str, int]) -> str:
    """The language whose function words cover most of the text; English when nothing speaks for another."""
    shares = {language: sum(singles.get(word, 0) for word in stops) for language, stops in STOPS.items()}
    return max(shares, key=lambda language: (shares[language], language == "en"))


@attrs.frozen
class Term:
    """A key term with its spellings."""

    text: str
    """The spelling that occurs most."""
    count: int
    """How often it occurs in any spelling."""
    forms: tuple[str, ...]
    """Its spellings: a word and its plural count as one."""


def _plural_of(word: str) -> str:
    if word.endswith("y") and len(word) > 2 and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


def merge_plurals(counts: Mapping[str, int]) -> list[Term]:
    """One term for a word and its plural where both occur."""
    plurals = {_plural_of(word): word for word in counts if _plural_of(word) in counts}
    merged: list[Term] = []
    for word, count in counts.items():
        if word in plurals:
            continue
        forms = [word]
        if (plural := _plural_of(word)) in plurals and plurals[plural] == word and plural not in forms:
            forms.append(plural)
        best = max(forms, key=lambda form: (counts[form], form == word))
        merged.append(Term(best, sum(counts[form] for form in forms) if len(forms) > 1 else count, tuple(forms)))
    return merged


def candidates(tally: Tally, limit: int = 300) -> dict[str, int]:
    """What may be a key term: the most frequent content words and pairs, without the words of the text's language."""
    stops = STOPS[language_of(tally.singles)]
    singles = {w: c for w, c in tally.singles.items() if w not in stops and len(w) > 2 and not w.isdigit()}
    often = 2 if tally.total < 500 else 3
    pairs = {p: c for p, c in tally.pairs.items() if c >= often and not any(part in stops for part in p.split())}
    chosen = sorted(singles.items(), key=lambda item: (-item[1], item[0]))[:limit]
    chosen += sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[: limit // 3]
    return dict(chosen)


def weights(counts: Mapping[str, int], seen_in: Mapping[str, int], documents: int) -> dict[str, float]:
    """Damped frequency times rarity among the neighbours; a term of one document outweighs one that all share."""
    found: dict[str, float] = {}
    for term, count in counts.items():
        rarity = 1 + 0.6 * math.log((1 + documents) / (1 + min(seen_in.get(term, 1), documents)))
        found[term] = count**0.6 * rarity * (1.3 if " " in term else 1.0)
    return found


def key_terms(
    counts: Mapping[str, int], seen_in: Mapping[str, int], documents: int, limit: int = 10
) -> tuple[Term, ...]:
    """The terms that say what this document is about, the weightiest first; a pair stands for its two words."""
    weight = weights(counts, seen_in, documents)
    terms = sorted(merge_plurals(counts), key=lambda term: (-max(weight[f] for f in term.forms), term.text))
    chosen: list[Term] = []
    for term in terms:
        if term.count > 1 and not _covered(term, chosen):
            chosen.append(term)
        if len(chosen) == limit:
            break
    if not chosen:
        return tuple(terms[: min(limit, 5)])
    return tuple(sorted(chosen, key=lambda term: (-max(weight[f] for f in term.forms), term.text)))


def _covered(term: Term, chosen: Iterable[Term]) -> bool:
    """Whether a chosen term says it already: a word within a pair that makes up much of its uses, or a shared word."""
    parts = set(term.text.split())
    for other in chosen:
        shared = parts & set(other.text.split())
        if shared and (len(parts) > 1 or other.count * 2 >= term.count):
            return True
    return False


def count_forms(blocks: Iterable[Block], forms: Iterable[str]) -> Counter[str]:
    """An exact recount of the given words and pairs, by the rule that `Tally` counts by."""
    wanted = set(forms)
    found: Counter[str] = Counter()
    for block in blocks:
        if block.kind == "code":
            continue
        for phrase in phrases(clean(block.text)):
            found.update(word for word in phrase if word in wanted)
            found.update(pair for pair in pairs_of(phrase) if pair in wanted)
    return found
