"""`agorio replay`: what it reads, what it prints, how it exits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from agorio import DiskKnowledgeStore
from agorio.__main__ import main
from agorio.testing import ScriptedAgent, open_test_hub
from tests.commands.processes import agorio as in_a_process

MODULE = """
from agorio import Manifest, ParticipantSchema, SessionAdapter, TurnError


class Chat(SessionAdapter):
    manifest = Manifest("chat", participants=ParticipantSchema(2, None))


class Terse(Chat):
    def validate_send(self, state, envelope):
        if len(envelope.text) > 3:
            raise TurnError("too long")


terse = Terse()
number = 7


def needs(one):
    return one
"""


@attrs.frozen
class Store:
    """A store with a consultation and a session of a type of its own."""

    path: Path
    """Its file."""
    asked: str
    """The consultation."""
    chat: str
    """The other."""
    adapters: Path
    """A module with session types."""


async def fill(folder: Path) -> Store:
    namespace: dict[str, Any] = {}
    exec(MODULE, namespace)
    async with open_test_hub(DiskKnowledgeStore(folder / "hub.db"), adapters=[namespace["Chat"]()]) as net:
        await net.add(ScriptedAgent("bob", "The answer\x1b[31m is 42.", "fine"))
        ann = await net.person("ann")
        asked = await ann.open("consulting", "bob")
        await asked.send("What is it?")
        await net.closed(asked.session_id)
        chat = await ann.open("chat", "bob")
        await chat.send("hello")
        await net.idle()
    (folder / "chats.py").write_text(MODULE, encoding="utf-8")
    return Store(folder / "hub.db", asked.session_id, chat.session_id, folder)


@attrs.frozen
class Done:
    """What a command has printed."""

    stdout: str
    """To its standard output."""
    stderr: str
    """To its standard error."""


Run = Callable[..., Done]


@pytest.fixture
def agorio(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process and expects an exit code."""

    def run(*arguments: object, code: int = 0) -> Done:
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            found = main([str(argument) for argument in arguments])
        except SystemExit as end:
            found = int(str(end.code))
        printed = Done(*capsys.readouterr())
        assert found == code, printed
        return printed

    return run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trio.run(fill, tmp_path_factory.mktemp("replay"))


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def rules(store: Store, name: str, plain: Any) -> Path:
    path = store.adapters / name
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain), encoding="utf-8")
    return path


def test_a_session_of_a_store(agorio: Run, store: Store) -> None:
    shown = agorio("replay", store.path, store.asked).stdout
    assert shown.startswith(f"session {store.asked}: consulting of ann, bob\n   1 ")
    assert '  ann: "What is it?"  [active, next: bob]\n' in shown
    assert shown.rstrip().endswith("[closed as consulting_complete]")
    assert "\x1b" not in shown
    steps = rows(agorio("replay", store.path, store.asked[-12:], "--json").stdout)
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    asked = next(step for step in steps if step["text"] == "What is it?")
    assert (asked["sender"], asked["state"], asked["next"]) == ("ann", "active", ["bob"])
    assert steps[-1]["close_reason"] == "consulting_complete"


def test_an_export_and_one_sessions_own_log(agorio: Run, store: Store, tmp_path: Path) -> None:
    shown = agorio("replay", store.path, store.asked).stdout
    agorio("export", store.path, tmp_path / "all.jsonl")
    assert agorio("replay", tmp_path / "all.jsonl", store.asked).stdout == shown
    (tmp_path / "one.jsonl").write_text(agorio("replay", store.path, store.asked, "--jsonl").stdout, encoding="utf-8")
    assert agorio("replay", tmp_path / "one.jsonl").stdout == shown


def test_another_session_type(agorio: Run, store: Store) -> None:
    done = agorio(
        *("replay", store.path, store.chat, "--adapter", "chats:Terse", "--recorded-adapter", "chats:Chat"),
        *("--app-dir", store.adapters),
        code=1,
    )
    assert done.stdout.splitlines()[-7:] == [
        "2 differences, the first at step 4:",
        '   4  ann: "hello"',
        "        then  accepted",
        "        now  refused (not_your_turn): too long",
        '   5  bob: "fine"',
        "        then  accepted",
        "        now  refused (not_your_turn): too long",
    ]
    assert done.stderr == ""
    found = rows(
        agorio(
            "replay", store.path, store.chat, "--adapter", "chats:terse", "--app-dir", store.adapters, "--json", code=1
        ).stdout
    )
    assert [(one["session"], one["step"], one["before"]) for one in found] == [
        (store.chat, 4, "accepted"),
        (store.chat, 5, "accepted"),
    ]
    same = agorio("replay", store.path, store.chat, "--adapter", "chats:Chat", "--app-dir", store.adapters)
    assert same.stdout.endswith("nothing would have come differently\n")


def test_a_session_type_that_is_not_at_hand(agorio: Run, store: Store) -> None:
    done = agorio("replay", store.path, store.chat)
    assert "session type 'chat' is not built in" in done.stderr
    assert '  ann: "hello"  [active]\n' in done.stdout


def test_all_sessions_of_a_store(agorio: Run, store: Store) -> None:
    done = agorio("replay", store.path, "--adapter", "chats:Terse", "--app-dir", store.adapters, code=1)
    assert done.stdout.startswith(f"session {store.chat}: chat of ann, bob\n2 differences")
    assert store.asked not in done.stdout
    strict = rules(store, "strict.json", {"bob": {"access": {"outbound_to": ["cid"]}}})
    done = agorio("replay", store.path, "--rules", strict, code=1)
    assert done.stdout.count("refused (access_denied): access.outbound_to of 'bob' does not allow 'ann'") == 2
    kind = rules(store, "kind.toml", "[bob.limits]\ndelegation_depth = 3\n")
    assert agorio("replay", store.path, "--rules", kind).stdout.count("nothing would have come differently") == 2


def test_rules_that_are_wrong_or_concern_nobody(agorio: Run, store: Store) -> None:
    for plain, complaint in (
        ({"bob": {"axcess": {}}}, "bob.axcess: no such field; there are access, limits"),
        ({"bob": {"access": {"inbound": []}}}, "bob.access.inbound: no such field"),
        ({"bob": {"rate": {"envelopes_per_minute": -1}}}, "rate"),
        ({"bob": 7}, "the rule of 'bob'"),
        ([], "list"),
        ("{", "Expecting"),
    ):
        path = rules(store, "wrong.json", plain)
        assert complaint in agorio("replay", store.path, store.asked, "--rules", path, code=2).stderr
    path = rules(store, "nobody.json", {"dave": {}})
    assert "the rule of 'dave' concerns nobody" in agorio("replay", store.path, store.asked, "--rules", path).stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "holds many sessions; name one"),
        (["nope"], "there is no session 'nope'"),
        (["{asked}", "--adapter", "chats"], "'chats' is not of the form module:name"),
        (["{asked}", "--adapter", "nowhere:x"], "No module named 'nowhere'"),
        (["{asked}", "--adapter", "chats:nothing"], "has no attribute 'nothing'"),
        (["{asked}", "--adapter", "chats:number"], "is a int, not a SessionAdapter with a manifest"),
        (["{asked}", "--adapter", "chats:needs"], "is called without arguments to make a session type"),
        (["{asked}", "--json", "--jsonl"], "not allowed with argument --json"),
    ],
)
def test_what_cannot_be_done(agorio: Run, store: Store, arguments: list[str], complaint: str) -> None:
    filled = [argument.format(asked=store.asked) for argument in arguments]
    done = agorio("replay", store.path, *filled, "--app-dir", store.adapters, code=2)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_are_no_logs(agorio: Run, store: Store, tmp_path: Path) -> None:
    assert "there is no such file" in agorio("replay", tmp_path / "none", code=2).stderr
    (tmp_path / "text").write_bytes(b"\xff\xfe hello")
    assert "neither a store, nor an export, nor a session's log" in agorio("replay", tmp_path / "text", code=2).stderr


@pytest.mark.slow
def test_it_is_a_command(store: Store) -> None:
    assert in_a_process("replay", store.path, store.asked).stdout.startswith(f"session {store.asked}")
    assert "there is no such file" in in_a_process("replay", "none", code=2).stderr
