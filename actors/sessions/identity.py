"""Who an agent is: passport, résumé, skill; and the grammar of names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from ...mailbox.errors import InvalidInput
from ...mailbox.frozen import EMPTY, FrozenDict, freeze_payload
from ...mailbox.ids import looks_like_id

Kind = Literal["agent", "human", "remote_agent"]
KINDS = ("agent", "human", "remote_agent")
NAME_GRAMMAR = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_NAME = re.compile(NAME_GRAMMAR)
MAX_LIST = 256
MAX_TEXT = 65_536


def texts(value: Any) -> tuple[str, ...]:
    """A converter for fields that hold several texts; a single text is refused, it would become its letters."""
    if isinstance(value, str):
        raise InvalidInput(f"{value!r} is one text where a list of texts is due; write [{value!r}]")
    return tuple(value)


def check_name(name: object) -> str:
    """The name, if it fits the grammar; access lists are globs over names, so `*`, `?` and `[` are no part of one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"name {name!r} is outside the grammar: 1 to 64 letters, digits, '_', '.', '-', the first no sign",
            field="name",
        )
    if looks_like_id(name):
        raise InvalidInput(f"name {name!r} has the shape of an id; choose another", field="name")
    return name


@attrs.frozen
class AuthBlock:
    """How an agent proves who it is. The claim is shown to the adapter and never stored or echoed."""

    scheme: str = ""
    """The adapter's scheme; the empty one is `NoAuth`."""
    claim: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload, repr=False)
    """What the adapter asks for: a token, a signed challenge."""


@attrs.frozen
class Passport:
    """Stable identity of an agent on one hub."""

    name: str
    """Unique within the hub; see `NAME_GRAMMAR`."""
    owner: str = ""
    """Tenant id."""
    model: str | None = None
    """Free-form model identifier."""
    provider: str | None = None
    """Who runs the model."""
    kind: Kind = "agent"
    """`agent`, `human` or `remote_agent`."""
    auth: AuthBlock = AuthBlock()
    """Credentials presented at registration; stored without the claim."""
    labels: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Free-form JSON."""
    agent_id: str = ""
    """Hub-stamped at registration; use it for routing."""
    created_at: str = ""
    """Hub-stamped ISO-8601 time of registration."""
    extra: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Fields of a newer peer, kept as they came."""


@attrs.frozen
class ResumeExample:
    """One piece of past work."""

    title: str
    """What it was."""
    outcome: str = ""
    """What came of it."""
    task_id: str | None = None
    """The task it was."""
    session_id: str | None = None
    """The session it happened in."""
    when: str | None = None
    """ISO-8601 time."""
    note: str = ""
    """Anything else."""


def _numbers(value: Iterable[float]) -> tuple[float, ...]:
    return tuple(value)


@attrs.frozen
class ObservedStat:
    """What the hub itself saw of one capability; `n` is the sum of the four outcomes."""

    n: int = 0
    """Tasks ended."""
    completed: int = 0
    """Of them completed."""
    failed: int = 0
    """Of them failed."""
    expired: int = 0
    """Of them out of time."""
    cancelled: int = 0
    """Of them cancelled."""
    p50_latency_ms: float | None = None
    """The rolling median latency of completed tasks in milliseconds."""
    window: tuple[float, ...] = attrs.field(default=(), converter=_numbers, repr=False)
    """The newest latencies, from which the median is taken."""


def _observed(value: Any) -> FrozenObserved:
    return value if isinstance(value, FrozenObserved) else FrozenObserved(value)


class FrozenObserved(dict[str, ObservedStat]):
    """Capability to `ObservedStat`, read-only."""

    def __setitem__(self, key: str, value: ObservedStat) -> None:
        raise TypeError("a track record is written by the hub only")


def _examples(value: Iterable[ResumeExample]) -> tuple[ResumeExample, ...]:
    return tuple(value)


@attrs.frozen
class Resume:
    """What an agent claims to do, and what the hub has observed it doing."""

    claimed_capabilities: tuple[str, ...] = attrs.field(default=(), converter=texts)
    """Capability names, free-form."""
    domains: tuple[str, ...] = attrs.field(default=(), converter=texts)
    """Coarse subject areas."""
    summary: str = ""
    """One line, searched by peer lookup."""
    examples: tuple[ResumeExample, ...] = attrs.field(default=(), converter=_examples)
    """Exemplary past work."""
    observed: FrozenObserved = attrs.field(factory=FrozenObserved, converter=_observed)
    """Capability to track record; written by the hub only, whatever a tenant sends."""
    last_updated: str = ""
    """Hub-stamped ISO-8601 time of the last change."""
    version: int = 1
    """Raised by one with each change."""
    extra: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """Fields of a newer peer, kept as they came."""


def check_passport(passport: Passport) -> Passport:
    """The passport, if every field is in range; raises `InvalidInput` naming the field."""
    check_name(passport.name)
    if passport.kind not in KINDS:
        raise InvalidInput(f"kind {passport.kind!r} is unknown; use one of {', '.join(KINDS)}", field="kind")
    for field in ("owner", "model", "provider"):
        _check_text(field, getattr(passport, field))
    return passport


def check_resume(resume: Resume) -> Resume:
    """The résumé, if every list and text is within bounds; raises `InvalidInput` naming the field."""
    for field in ("claimed_capabilities", "domains", "examples"):
        values = getattr(resume, field)
        if len(values) > MAX_LIST:
            raise InvalidInput(f"resume.{field} has {len(values)} entries; the limit is {MAX_LIST}", field=field)
    for field in ("claimed_capabilities", "domains"):
        for text in getattr(resume, field):
            _check_text(f"resume.{field}", text)
    _check_text("resume.summary", resume.summary)
    return resume


def _check_text(field: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or len(value) > MAX_TEXT):
        raise InvalidInput(f"{field} must be a text of at most {MAX_TEXT} characters", field=field)
