"""What a client does for its agents by name, and the spellings of a passport."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from agorio.actors.sessions.identity import AuthBlock, Passport, Resume
from agorio.actors.sessions.rule import LimitsBlock, Rule
from agorio.mailbox.errors import InvalidInput, NotAMemberError, NotFoundError


async def quiet(text: str) -> None:
    return None


async def test_a_client_acts_for_its_agents(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(quiet, "ann")
    bob = await net.hc.register(quiet, Passport(name="bob"))
    assert (await net.hc.set_resume("ann", Resume(["math"]))).claimed_capabilities == ("math",)
    await net.hc.set_skill(ann.agent_id, "# Sums")
    assert await net.hc.get_skill("ann") == "# Sums"
    tighter = attrs.evolve(ann.rule, limits=LimitsBlock(delegation_depth=1))
    assert (await net.hc.set_rule(ann, tighter)).limits == ann.rule.limits == tighter.limits
    with pytest.raises(NotFoundError, match="zoe"):
        await net.hc.set_rule("zoe", Rule())

    session = await ann.open("conversation", bob)
    async with ann.task("sums", session_id=session.session_id) as task:
        assert (await net.hc.get_task(task.task_id)).spec.title == "sums"
        assert [one.task_id for one in await net.hc.list_tasks()] == [task.task_id]
        assert [one.task_id for one in await net.hc.list_tasks(agent="bob", state="running")] == [task.task_id]
    with pytest.raises(NotFoundError):
        await net.hc.get_task("nowhere")

    other = net.client()
    await other.register(quiet, "carl")
    with pytest.raises(NotAMemberError):
        await other.close_session(session.session_id)
    assert (await net.hc.close_session(session, "enough")).close_reason == "enough"
    second = await ann.open("conversation", bob)
    assert (await net.hc.close_session(second.session_id, agent="bob")).state == "closed"


async def test_a_passport_by_name_or_by_its_fields(autojump_clock: MockClock, net: Any) -> None:
    assert (await net.hc.register(quiet, "ann")).name == "ann"
    bob = await net.hc.register(quiet, {"name": "bob", "owner": "me", "auth": {"scheme": ""}})
    assert (bob.passport.name, bob.passport.owner, bob.passport.auth) == ("bob", "me", AuthBlock(scheme=""))
    assert (await net.hc.register_human("zoe")).passport.kind == "human"
    assert (await net.hc.register_human({"name": "yves"})).name == "yves"
    for wrong in (3, {"name": "x", "title": "y"}, {"owner": "me"}, {"name": "x", "auth": {"skeme": "y"}}):
        with pytest.raises(InvalidInput, match="passport"):
            await net.hc.register(quiet, wrong)
        with pytest.raises(InvalidInput, match="passport"):
            await net.hc.register_human(wrong)
