"""What participants are shown of a log, and of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from agorio.actors.agents.calling import agent_name, make_asker, reply_text
from agorio.actors.agents.skills import parse_skill, render_skill
from agorio.actors.agents.stream import MemoryStream, Message
from agorio.actors.agents.views import (
    FullTranscript,
    NamedTranscript,
    NamedWindowedSummary,
    Scene,
    ViewRegistry,
    WindowedSummary,
)
from agorio.actors.sessions.identity import Passport, Resume, ResumeExample
from agorio.actors.sessions.metadata import Manifest, Participant, SessionMetadata, SessionState
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput

Said = Callable[..., Envelope]
METADATA = SessionMetadata(
    "s",
    Manifest("discussion"),
    "a",
    tuple(Participant(who, "participant", order) for order, who in enumerate("abc")),
    SessionState.ACTIVE,
    "2026-01-01T00:00:00Z",
)
SCENE = Scene("a", METADATA, lambda envelope: envelope.text, {"a": "ann", "b": "bob"})


@pytest.fixture
def log(said: Said) -> list[Envelope]:
    return [
        said(1, "", sender_id="b"),
        said(2, "one", sender_id="b"),
        said(3, "mine", sender_id="a"),
        said(4, "secret", sender_id="b"),
        said(5, "two", sender_id="c"),
    ]


def test_transcripts(log: list[Envelope]) -> None:
    assert [(m.role, m.text) for m in FullTranscript().project(log, SCENE)] == [
        ("user", "one"),
        ("assistant", "mine"),
        ("user", "secret"),
        ("user", "two"),
    ]
    named = NamedTranscript().project(log, SCENE)
    assert [m.text for m in named] == ["[bob]: one", "mine", "[bob]: secret", "[c]: two"]


def test_private_envelopes_stay_private(said: Said) -> None:
    private = Envelope("s", "b", ("c",), event_data={"text": "psst"}, sequence=1)
    assert FullTranscript().project([private], SCENE) == []


def test_windows_say_what_they_hide(log: list[Envelope]) -> None:
    shown = NamedWindowedSummary(2).project(log, SCENE)
    assert [m.text for m in shown] == [
        "[Earlier: 2 messages from bob, ann are not shown.]",
        "[bob]: secret",
        "[c]: two",
    ]
    tail = WindowedSummary(2).project(log[2:], attrs.evolve(SCENE, unread=2))
    assert tail[0].role == "system"
    assert "3 entries" in tail[0].text
    assert [m.text for m in WindowedSummary(9).project(log, SCENE)] == ["one", "mine", "secret", "two"]
    with pytest.raises(InvalidInput, match="recent_n"):
        WindowedSummary(0)


def test_views_by_name() -> None:
    registry = ViewRegistry()
    view = registry.get("named_windowed", METADATA)
    assert isinstance(view, NamedWindowedSummary)
    assert view.recent_n == 6
    registry.register("short", WindowedSummary(1))
    registry.register("by size", lambda metadata: WindowedSummary(len(metadata.participants)))
    assert registry.get("short", METADATA) == WindowedSummary(1)
    assert registry.get("by size", METADATA) == WindowedSummary(3)


def test_skills_are_yaml() -> None:
    skill = parse_skill("---\nname: ann\ncapabilities: [policy, finance]\n---\n# Ann\nText")
    assert skill.meta == {"name": "ann", "capabilities": ["policy", "finance"]}
    assert skill.body == "# Ann\nText"
    assert parse_skill("# plain").meta == {}
    for bad in ("---\nname: ann", "---\n- a\n---\n", "---\n{a\n---\n"):
        with pytest.raises(InvalidInput, match="front matter"):
            parse_skill(bad)


def test_the_fallback_is_a_skill_itself() -> None:
    resume = Resume(["talk"], ["law"], "Knows the law.", (ResumeExample("A case", "won"),))
    skill = parse_skill(render_skill(Passport("ann"), resume))
    assert skill.meta["capabilities"] == ["talk"]
    assert "A case: won" in skill.body
    assert parse_skill(render_skill(Passport("ann"), Resume())).meta == {"name": "ann"}


async def test_agents_of_every_shape() -> None:
    class Reply:
        body = "from a body"

    class Plain:
        name = "plain"

        async def ask(self, *messages: Any) -> Reply:
            return Reply()

    class Greedy:
        async def __call__(self, text: str, **kwargs: Any) -> str:
            return f"{text} {sorted(kwargs)}"

    async def tooled(text: str, tools: Any) -> str:
        return f"{text} {tools}"

    assert await make_asker(Plain()).ask("x", stream=1, tools=()) == "from a body"
    assert await make_asker(Greedy()).ask("x", stream=1, tools=()) == "x ['stream', 'tools']"
    assert await make_asker(tooled).ask("x", stream=1, tools="t") == "x t"
    assert make_asker(tooled).takes("tools")
    assert agent_name(Plain()) == "plain"
    assert agent_name(tooled) == "tooled"
    with pytest.raises(InvalidInput, match="Passport"):
        agent_name(Greedy())


def test_replies() -> None:
    assert reply_text(None) == ""
    assert reply_text("x") == "x"
    with pytest.raises(InvalidInput, match="a reply is"):
        reply_text(42)


def test_a_stream_is_a_list_of_messages() -> None:
    stream = MemoryStream([Message("user", "a")])
    stream.append(Message("assistant", "b"))
    assert [message.text for message in stream] == ["a", "b"]
    assert (len(stream), stream.messages[0].role) == (2, "user")
    assert "2 messages" in repr(stream)
