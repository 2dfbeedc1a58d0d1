"""Control calls about agents: who is registered, with which records, and how its mail flows."""

from __future__ import annotations

from typing import ClassVar

import attrs

from .identity import AuthBlock, Passport, Resume, ResumeExample, texts
from .operations_base import Operation
from .rule import Rule


@attrs.frozen
class AuthChallenge(Operation):
    """Ask the hub for its question, before registering with a scheme that asks one. Result: `Challenge`."""

    op: ClassVar[str] = "auth_challenge"
    name: str
    """Who wants to prove itself."""
    scheme: str
    """The scheme whose adapter is to ask."""


@attrs.frozen
class Register(Operation):
    """Register an identity and bind it to this connection. Result: `Registered`."""

    op: ClassVar[str] = "register"
    passport: Passport
    """Who it is."""
    resume: Resume | None = None
    """What it claims; None leaves a stored one."""
    skill_md: str | None = None
    """Its skill in markdown."""
    rule: Rule | None = None
    """Its governance."""
    credentials: AuthBlock | None = None
    """Proof of identity; None takes the passport's."""
    attach: bool = False
    """Take up the stored identity where the name is known."""
    window: int | None = None
    """Unacknowledged deliveries to push at once; None is no limit, 0 only bookkeeping and sessions being watched."""
    agent_id: str | None = None
    """Take up this very identity or none: a name that is free or somebody else's is refused with `NotFoundError`."""


@attrs.frozen
class Registered:
    """An identity bound to this connection."""

    agent_id: str
    """The hub's id for it."""
    passport: Passport
    """As stamped by the hub."""
    resume: Resume
    """As stored."""
    rule: Rule
    """As stored."""
    attached: bool = False
    """Whether a stored identity was taken up."""


@attrs.frozen
class Unregister(Operation):
    """Remove an identity. Result: None."""

    op: ClassVar[str] = "unregister"
    agent_id: str
    """Whose."""


@attrs.frozen
class SetWindow(Operation):
    """Change how many deliveries are pushed at once. Result: None."""

    op: ClassVar[str] = "set_window"
    agent_id: str
    """Whose inbox."""
    window: int | None
    """As in `Register`."""


@attrs.frozen
class Watch(Operation):
    """Push this session's deliveries at once, whatever the window: somebody is waiting for them. Result: None."""

    op: ClassVar[str] = "watch"
    agent_id: str
    """Whose inbox."""
    session_id: str
    """Which session."""


@attrs.frozen
class GetAgent(Operation):
    """Result: the `Passport`."""

    op: ClassVar[str] = "get_agent"
    name_or_id: str
    """Name or id."""


@attrs.frozen
class GetResume(Operation):
    """Result: the `Resume`."""

    op: ClassVar[str] = "get_resume"
    agent_id: str
    """Name or id."""


@attrs.frozen
class GetRule(Operation):
    """Result: the `Rule`; only one's own."""

    op: ClassVar[str] = "get_rule"
    agent_id: str
    """Name or id."""


@attrs.frozen
class GetSkill(Operation):
    """Result: the skill in markdown, rendered from passport and résumé where none was set."""

    op: ClassVar[str] = "get_skill"
    agent_id: str
    """Name or id."""


@attrs.frozen
class NamesFor(Operation):
    """Result: a dict of id to name; unknown ids are left out."""

    op: ClassVar[str] = "names_for"
    agent_ids: tuple[str, ...] = attrs.field(converter=texts)
    """Which."""


@attrs.frozen
class ListAgents(Operation):
    """Result: a tuple of `Passport`; filter and sort are applied before the limit."""

    op: ClassVar[str] = "list_agents"
    capability: str | None = None
    """Only those that claim or have shown it."""
    query: str | None = None
    """Only those whose name, capabilities, domains, summary or skill contain every word."""
    kind: str | None = None
    """Only this kind."""
    sort_by: str = "name"
    """`name`, `created_at` or `track_record`."""
    limit: int = 50
    """At most so many."""


@attrs.frozen
class SetResume(Operation):
    """Replace one's résumé; `observed` stays the hub's. Result: the `Resume` as stored."""

    op: ClassVar[str] = "set_resume"
    agent_id: str
    """Whose."""
    resume: Resume
    """The new one."""
    expected_version: int | None = None
    """Refuse with `ConflictError` unless the stored version is this."""


@attrs.frozen
class AddExample(Operation):
    """Append one example to one's résumé. Result: the `Resume` as stored."""

    op: ClassVar[str] = "add_example"
    agent_id: str
    """Whose."""
    example: ResumeExample
    """The new one."""


@attrs.frozen
class SetSkill(Operation):
    """Replace one's skill. Result: None."""

    op: ClassVar[str] = "set_skill"
    agent_id: str
    """Whose."""
    skill_md: str | None
    """The new markdown; None removes it."""


@attrs.frozen
class SetRule(Operation):
    """Tighten one's own rule; loosening is the operator's. Result: the `Rule` as stored."""

    op: ClassVar[str] = "set_rule"
    agent_id: str
    """Whose."""
    rule: Rule
    """The new one."""
