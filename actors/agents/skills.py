"""Skills: markdown with YAML front matter, and what is shown of an agent that has none. Pure."""

from __future__ import annotations

from typing import Any

import attrs
import yaml

from ...mailbox.errors import InvalidInput
from ..sessions.identity import Passport, Resume

_FENCE = "---"


@attrs.frozen
class Skill:
    """A parsed skill."""

    meta: dict[str, Any]
    """The front matter; empty where there is none."""
    body: str
    """The markdown below it."""


def parse_skill(skill_md: str) -> Skill:
    """Split a skill into front matter and body; `InvalidInput` names the line that is no YAML."""
    lines = skill_md.splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return Skill({}, skill_md)
    ends = [number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE]
    if not ends:
        raise InvalidInput("the skill's front matter has no closing '---'", field="skill_md")
    try:
        meta = yaml.safe_load("\n".join(lines[1 : ends[0]])) or {}
    except yaml.YAMLError as exc:
        raise InvalidInput(f"the skill's front matter is no YAML: {exc}", field="skill_md") from exc
    if not isinstance(meta, dict):
        raise InvalidInput("the skill's front matter must be a mapping of keys to values", field="skill_md")
    return Skill(meta, "\n".join(lines[ends[0] + 1 :]).strip())


def render_skill(passport: Passport, resume: Resume) -> str:
    """What passport and résumé say, in the form of a skill: shown where an agent has set none."""
    meta = {
        "name": passport.name,
        "description": resume.summary,
        "capabilities": list(resume.claimed_capabilities),
        "domains": list(resume.domains),
    }
    head = yaml.safe_dump({key: value for key, value in meta.items() if value}, sort_keys=False, allow_unicode=True)
    parts = [f"{_FENCE}\n{head}{_FENCE}", f"# {passport.name}"]
    if resume.summary:
        parts.append(resume.summary)
    if resume.examples:
        parts.append("## Past work\n\n" + "\n".join(f"- {e.title}: {e.outcome}".rstrip(": ") for e in resume.examples))
    return "\n\n".join(parts) + "\n"
