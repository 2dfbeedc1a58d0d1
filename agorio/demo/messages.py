"""What the newsroom's agents say to each other: typed records as JSON text.

A file travels by its path and checksum, never by its content; what is claimed about it travels with the lines that
prove it. Each message has `say`, the same in words, which is what people see on the screen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import cattrs

from .claims import Claim, Objection
from .summary import Draft

MAX_NAME = 32
"""Characters up to which a path is said in full."""


@attrs.frozen
class Source:
    """A file as it was when the run began; a reader that finds another checksum says so."""

    path: str
    """Where to read it."""
    name: str
    """How people call it: the path as it was given."""
    sha256: str
    """The checksum of its bytes."""
    size: int
    """Its size in bytes."""


@attrs.frozen
class SurveyJob:
    """Editor to reader: count this file's words."""

    source: Source
    """The file."""


@attrs.frozen
class Survey:
    """Reader to editor: what the file is made of."""

    source: Source
    """The file."""
    lines: int
    """Its lines."""
    words: int
    """Its words outside of code."""
    language: str
    """The language it seems to be in."""
    terms: Mapping[str, int]
    """What may be its key terms, with their counts."""
    notes: tuple[str, ...] = ()
    """What was odd about its bytes."""


@attrs.frozen
class ReadJob:
    """Editor to reader: draft the outline, the key terms and the summary."""

    survey: Survey
    """What the reader found before."""
    documents: int
    """How many files there are."""
    seen_in: Mapping[str, int]
    """In how many of them each of this file's terms occurs."""


@attrs.frozen
class Drafted:
    """Reader to editor: the draft."""

    source: Source
    """The file."""
    reader: str
    """Who answers for it."""
    draft: Draft
    """Its claims."""


@attrs.frozen
class CheckJob:
    """Editor to checker: verify each claim of this draft against the file."""

    drafted: Drafted
    """The draft and who made it."""


@attrs.frozen
class Objections:
    """Checker to reader: these claims do not hold as they stand."""

    source: Source
    """The file."""
    items: tuple[Objection, ...]
    """The claims with their faults."""


@attrs.frozen
class Amendments:
    """Reader to checker: mended claims; those missing are withdrawn."""

    source: Source
    """The file."""
    claims: tuple[Claim, ...]
    """The mended ones, under their old numbers."""
    withdrawn: tuple[str, ...]
    """The numbers of those given up."""


@attrs.frozen
class Settled:
    """Checker to reader: nothing is left to discuss. It needs no answer."""

    source: Source
    """The file."""
    corrected: int
    """Claims accepted after a correction."""
    withdrawn: int
    """Claims given up."""


@attrs.frozen
class Corrected:
    """A claim that was accepted in another form than it was first made."""

    objection: Objection
    """The first form and what was wrong with it."""
    claim: Claim
    """The accepted form."""


@attrs.frozen
class Checked:
    """Checker to editor: what holds, what was mended, what was withdrawn, and what is odd about the file itself."""

    source: Source
    """The file."""
    verified: tuple[Claim, ...]
    """All claims that hold, in the draft's order, the mended ones in their accepted form."""
    corrected: tuple[Corrected, ...]
    """Which of them were mended, and why."""
    withdrawn: tuple[Objection, ...]
    """Which were given up, and why."""
    remarks: tuple[str, ...] = ()
    """Faults of the document: links that lead nowhere, a fence that is never closed."""


@attrs.frozen
class Declined:
    """Anybody to anybody: this could not be done. It needs no answer."""

    reason: str
    """Why, in words."""


Message = SurveyJob | Survey | ReadJob | Drafted | CheckJob | Objections | Amendments | Settled | Checked | Declined

_KINDS: dict[str, type[Any]] = {
    "survey-job": SurveyJob,
    "survey": Survey,
    "read-job": ReadJob,
    "draft": Drafted,
    "check-job": CheckJob,
    "objections": Objections,
    "amendments": Amendments,
    "settled": Settled,
    "checked": Checked,
    "declined": Declined,
}
_NAMES = {cls: kind for kind, cls in _KINDS.items()}
_CONVERTER = cattrs.Converter(omit_if_default=True, detailed_validation=False)


def pack(message: Message) -> str:
    """A message as the text of an envelope."""
    head = {"kind": _NAMES[type(message)], "say": say(message)}
    return json.dumps(head | _CONVERTER.unstructure(message), ensure_ascii=False, separators=(",", ":"))


def unpack(text: str) -> Message:
    """The message in an envelope's text; `ValueError` for anything else."""
    try:
        raw = json.loads(text)
        cls = _KINDS[raw["kind"]]
        message: Message = _CONVERTER.structure(raw, cls)
    except (ValueError, KeyError, TypeError, AttributeError, cattrs.BaseValidationError) as exc:
        raise ValueError(f"this is no message of the newsroom: {text[:60]!r}") from exc
    return message


def spoken(text: str) -> str:
    """What an envelope's text says to people: a message's words, or the text itself."""
    try:
        raw = json.loads(text)
    except ValueError:
        return text
    return str(raw.get("say", text)) if isinstance(raw, dict) else text


def _name(source: Source) -> str:
    """A file's name as one says it: of a long path, its end."""
    parts = source.name.split("/")
    return source.name if len(source.name) <= MAX_NAME or len(parts) < 3 else "…/" + "/".join(parts[-2:])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _say_draft(message: Drafted) -> str:
    by = {kind: [c for c in message.draft.claims if c.kind == kind] for kind in ("heading", "lead", "sentence", "term")}
    outline = _count(len(by["heading"]), "heading") if by["heading"] else _count(len(by["lead"]), "lead sentence")
    terms = ", ".join(c.text for c in by["term"][:4])
    return f"{_name(message.source)}: {outline}, {_count(len(by['sentence']), 'sentence')}; about {terms or 'nothing'}"


def _say_objections(message: Objections) -> str:
    first = message.items[0]
    more = f" (and {len(message.items) - 1} more)" if len(message.items) > 1 else ""
    subject = first.claim.text if len(first.claim.text) <= 60 else first.claim.text[:57] + "…"
    where = f"line {first.claim.line}: " if first.claim.line else ""
    return f"{_name(message.source)}, {where}“{subject}” – {first.detail}{more}"


def _say_amendments(message: Amendments) -> str:
    parts = [f"corrected {claim.claim_id}" for claim in message.claims[:3]]
    parts += [f"withdrew {claim_id}" for claim_id in message.withdrawn[:3]]
    hidden = len(message.claims) + len(message.withdrawn) - len(parts)
    return f"{_name(message.source)}: " + ", ".join(parts) + (f" and {hidden} more" if hidden else "")


def say(message: Message) -> str:
    """A message in words."""
    match message:
        case SurveyJob(source):
            return f"please count the words of {_name(source)}"
        case Survey(source, lines, number):
            return f"{_name(source)}: {_count(lines, 'line')}, {_count(number, 'word')}"
        case ReadJob(survey):
            return f"please outline {_name(survey.source)} and say what it is about"
        case Drafted():
            return _say_draft(message)
        case CheckJob(drafted):
            return f"please verify {_count(len(drafted.draft.claims), 'claim')} about {_name(drafted.source)}"
        case Objections():
            return _say_objections(message)
        case Amendments():
            return _say_amendments(message)
        case Settled(source, corrected, withdrawn):
            return f"{_name(source)}: settled, {corrected} corrected, {withdrawn} withdrawn"
        case Checked(source, verified, corrected_claims, withdrawn_claims):
            words = f"{_name(source)}: {_count(len(verified), 'claim')} hold"
            words += f", {len(corrected_claims)} of them corrected" if corrected_claims else ""
            return words + (f", {len(withdrawn_claims)} withdrawn" if withdrawn_claims else "")
        case Declined(reason):
            return reason
