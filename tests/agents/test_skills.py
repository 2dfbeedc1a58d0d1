"""Skills as YAML front matter and markdown: what is set, what is found, and what is shown where none was set."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from agorio.actors.agents.skills import parse_skill
from agorio.actors.sessions.identity import Passport, Resume
from agorio.mailbox.errors import InvalidInput

SKILL = """---
name: ann
capabilities:
  - policy
  - finance
limits: {pages: 40, tables: true}
---
# Ann

Reads budgets. Ask for one table at a time.
"""


async def quiet(text: str) -> None:
    return None


def test_lists_and_maps_are_values_and_not_text() -> None:
    skill = parse_skill(SKILL)
    assert skill.meta["capabilities"] == ["policy", "finance"]
    assert skill.meta["limits"] == {"pages": 40, "tables": True}
    assert skill.body.startswith("# Ann")
    assert parse_skill("---\n---\nbody").body == "body"


@pytest.mark.parametrize(
    "bad", ["---\nname: [ann\n---\n", "---\nname: ann", "---\n!!python/object:os.system {}\n---\n"]
)
def test_what_is_no_front_matter_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput, match="front matter"):
        parse_skill(bad)


async def test_a_skill_is_found_by_its_words(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"), skill_md=SKILL)
    await net.hc.register(quiet, Passport(name="bob"), Resume(["talk"], summary="Talks."))
    assert await net.hc.get_skill("ann") == SKILL
    assert [peer.name for peer in await net.hc.list_agents(query="budgets table")] == ["ann"]
    rendered = parse_skill(await net.hc.get_skill("bob"))
    assert rendered.meta == {"name": "bob", "description": "Talks.", "capabilities": ["talk"]}
    await ann.set_skill(None)
    assert parse_skill(await net.hc.get_skill("ann")).meta == {"name": "ann"}
    assert await net.hc.list_agents(query="budgets") == ()
