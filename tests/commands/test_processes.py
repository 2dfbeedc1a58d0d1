"""A hub and agents as processes of their own, killed at the worst moments: the sessions go on, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from agorio import EV_TEXT, HubClient, Passport
from agorio.actors.agents.websocket import WsLink
from tests.commands.conftest import Start
from tests.commands.processes import agorio, environment, url_in, write_agents

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

SLOW = """
import trio
from agorio import current_turn

async def slow(text: str) -> str:
    attempt = current_turn().attempt
    print(f"attempt {attempt} of {text}", flush=True)
    if attempt == 1 and text == "hang":
        await trio.sleep_forever()
    return f"{text} at attempt {attempt}"
"""


async def in_thread(fn: Callable[..., Any], *args: object) -> Any:
    return await trio.to_thread.run_sync(partial(fn, *args))


def test_an_agent_is_killed_in_the_middle_of_a_turn(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, SLOW)
    url = url_in(start("serve", "--store", tmp_path / "hub.db", "--port", 0).wait_line("a hub at"))
    command = ("agent", "staff:slow", "--hub", url, "--app-dir", app, "--attach")

    async def talk() -> str:
        first = start(*command)
        await in_thread(first.wait_line, "slow is at")
        async with HubClient(WsLink(url)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            session = await alice.open(type="consulting", target="slow")
            await session.send("hang")
            await in_thread(first.wait_line, "attempt 1 of hang")
            await in_thread(first.kill)
            second = await in_thread(start, *command)
            await in_thread(second.wait_line, "attempt 2 of hang")
            reply = await alice.wait_for_session_event(session.session_id, lambda e: e.event_type == EV_TEXT)
            await session.wait_closed()
            return reply.text

    assert trio.run(talk) == "hang at attempt 2"


RECORDER = """
from agorio import current_turn

async def recorder(text: str) -> str:
    turn = current_turn()
    print(f"handled {turn.envelope.sequence} {turn.attempt}", flush=True)
    return f"heard {text}"
"""
BEFORE, AFTER = 30, 5


def kill_a_hub(start: Start, tmp_path: Path) -> list[tuple[int, int]]:
    """Kill a hub in the middle of a talk and let the talk go on; the turns of the other side as (sequence, attempt)."""
    app, store = write_agents(tmp_path, RECORDER), tmp_path / "hub.db"
    hub = start("serve", "--store", store, "--port", 0)
    url = url_in(hub.wait_line("a hub at"))
    recorder = start("agent", "staff:recorder", "--hub", url, "--app-dir", app)
    recorder.wait_line("recorder is at")
    acknowledged: list[tuple[int, str]] = []

    async def talk() -> str:
        async with HubClient(WsLink(url)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            session = await alice.open(type="conversation", target="recorder")

            async def say(number: int) -> None:
                sent = await session.send(f"message {number}")
                acknowledged.append((sent.sequence, sent.text))

            for number in range(BEFORE):
                await say(number)
            await in_thread(hub.kill)
            again = await in_thread(start, "serve", "--store", store, "--port", url.rpartition(":")[2])
            await in_thread(again.wait_line, "a hub at")
            for number in range(BEFORE, BEFORE + AFTER):
                await say(number)
            last = f"heard message {BEFORE + AFTER - 1}"
            await alice.wait_for_session_event(session.session_id, lambda e: e.text == last)
            assert await in_thread(again.stop) == 0
            return session.session_id

    session_id = trio.run(talk)
    assert recorder.stop() == 0
    agorio("doctor", store)
    log = [json.loads(line) for line in agorio("log", store, session_id, "--json").stdout.splitlines()]
    assert [one["sequence"] for one in log] == list(range(1, len(log) + 1))
    texts = {one["sequence"]: one.get("event_data", {}).get("text") for one in log}
    assert len(acknowledged) == BEFORE + AFTER
    assert all(texts[sequence] == text for sequence, text in acknowledged)
    turns = handled(recorder)
    assert {sequence for sequence, _ in acknowledged} <= {sequence for sequence, _ in turns}
    return turns


def test_a_hub_is_killed_between_commits(start: Start, tmp_path: Path) -> None:
    kill_a_hub(start, tmp_path)


def test_what_a_restarted_hub_delivers_again_is_marked(start: Start, tmp_path: Path) -> None:
    check_marked(kill_a_hub(start, tmp_path))


def handled(recorder: Any) -> list[tuple[int, int]]:
    found = []
    while (line := recorder.wait_line("")) != "<the program has ended>":
        if line.startswith("handled"):
            _, sequence, attempt = line.split()
            found.append((int(sequence), int(attempt)))
    return found


def check_marked(turns: list[tuple[int, int]]) -> None:
    """What was handled twice was marked as a redelivery the second time."""
    seen: set[int] = set()
    for sequence, attempt in turns:
        assert sequence not in seen or attempt > 1
        seen.add(sequence)


def test_secrets_and_health(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, SLOW)
    config, secrets = tmp_path / "hub.toml", tmp_path / "secrets.toml"
    for path, text in [
        (config, "[listen]\nport = 0\n[auth]\nhmac_secrets = 'secrets.toml'\n"),
        (secrets, 'slow = "right"\n'),
        (tmp_path / "right", "right\n"),
        (tmp_path / "wrong", "wrong\n"),
    ]:
        path.write_text(text)
        path.chmod(0o600)
    ready = tmp_path / "ready"
    url = url_in(start("serve", "--config", config, "--ready-file", ready).wait_line("a hub at"))
    assert ready.read_text() == f"{url}\n"
    assert json.loads(agorio("health", "--hub", url, "--json").stdout)["ok"]
    command = ("agent", "staff:slow", "--hub", url, "--app-dir", app)
    assert "do not prove" in agorio(*command, "--secret-file", tmp_path / "wrong", code=2).stderr
    right = start(*command, "--secret-file", tmp_path / "right")
    right.wait_line("slow is at")
    assert right.stop() == 0


def test_no_hub_there() -> None:
    assert "cannot be reached" in agorio("health", "--hub", "ws://127.0.0.1:9", code=1).stderr
    assert "must be ws://" in agorio("health", "--hub", "http://x", code=2).stderr


def test_an_agent_waits_for_its_hub(start: Start, tmp_path: Path) -> None:
    app = write_agents(tmp_path, SLOW)
    first = start("serve", "--port", 0)
    url = url_in(first.wait_line("a hub at"))
    agent = start("agent", "staff:slow", "--hub", url, "--app-dir", app)
    agent.wait_line("slow is at")
    first.kill()
    start("serve", "--port", url.rpartition(":")[2]).wait_line("a hub at")
    # The new hub keeps nothing, so being asked shows that the agent has registered with it again.

    async def ask() -> str:
        async with HubClient(WsLink(url)) as hc:
            alice = await hc.register(None, Passport("alice"), attach_plugin=False)
            with trio.fail_after(30):
                while "slow" not in [one.name for one in await hc.list_agents()]:
                    await trio.lowlevel.checkpoint()
            session = await alice.open(type="consulting", target="slow")
            await session.send("hello")
            reply = await alice.wait_for_session_event(session.session_id, lambda e: e.event_type == EV_TEXT)
            return reply.text

    assert trio.run(ask) == "hello at attempt 1"


@pytest.mark.parametrize(
    ("target", "said"),
    [("staff", "not of the form"), ("staff:no", "no"), ("nomodule:x", "nomodule"), ("staff:trio", "is no agent")],
)
def test_what_is_no_agent(tmp_path: Path, target: str, said: str) -> None:
    app = write_agents(tmp_path, SLOW)
    assert said in agorio("agent", target, "--hub", "ws://127.0.0.1:9", "--app-dir", app, code=2).stderr


def test_the_example_of_four_processes() -> None:
    command = [sys.executable, "-P", str(ROOT / "examples" / "four_processes" / "run.py")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "closed as sequence_complete"
    assert done.stdout.splitlines()[-1] == "editor: The hub keeps order, agents talk."
