"""A hub and agents in processes of their own, with a network between them that breaks, and kill -9 for all of them.

A seed decides what breaks and when. At the end the account is made: nothing that was acknowledged is lost, nothing is
handled twice without being marked, no reply is doubled, and the sessions have gone on by themselves.

More seeds by hand: AGORIO_NETWORK_SEEDS="3 4 5" pytest tests/processes/test_network.py
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from agorio import EV_TEXT, Envelope, HubClient, Passport, Session, WsLink
from tests.commands.processes import GIVE_UP_AFTER, Program, agorio, url_in, write_agents
from tests.processes.proxy import Proxy, open_proxy

pytestmark = pytest.mark.slow
SEEDS = [int(one) for one in os.environ.get("AGORIO_NETWORK_SEEDS", "1 2").split()]
ROUNDS = 8
NAMES = ("ada", "bob")
ENDED = "<the program has ended>"
RECORDER = """
import trio
from agorio import current_turn

async def recorder(text: str) -> str:
    turn = current_turn()
    print(f"handled {turn.envelope.session_id} {turn.envelope.sequence} {turn.attempt}", flush=True)
    await trio.sleep(0.02)  # long enough to be killed in
    return f"heard {text}"
"""


async def in_thread(fn: Callable[..., Any], *args: object) -> Any:
    return await trio.to_thread.run_sync(partial(fn, *args))


@attrs.define(eq=False)
class Town:
    """All processes and the network between them."""

    folder: Path
    start: Callable[..., Program]
    rng: random.Random
    port: int
    hub: Program
    proxies: dict[str, Proxy] = attrs.Factory(dict)
    agents: dict[str, Program] = attrs.Factory(dict)
    ended: list[Program] = attrs.Factory(list)
    acknowledged: list[tuple[str, int, str]] = attrs.Factory(list)
    done: Counter[str] = attrs.Factory(Counter)

    async def start_agent(self, name: str) -> None:
        """Start an agent, which reaches the hub through a stretch of network of its own."""
        program = await in_thread(
            partial(self.start, "agent", "staff:recorder", "--hub", self.proxies[name].url, "--name", name),
            "--app-dir",
            self.folder,
            "--attach",
        )
        self.agents[name] = program
        await in_thread(program.wait_line, f"{name} is at")

    # What goes wrong.

    async def kill_agent(self) -> None:
        """Kill one in the middle of whatever it does, and start it again."""
        name = self.rng.choice(NAMES)
        await in_thread(self.agents[name].kill)
        self.ended.append(self.agents[name])
        await self.start_agent(name)

    async def kill_hub(self) -> None:
        """Kill it in the middle of whatever it commits, and start it again; nobody else is told."""
        await in_thread(self.hub.kill)
        self.hub = await in_thread(self.start, "serve", "--store", self.folder / "hub.db", "--port", self.port)
        await in_thread(self.hub.wait_line, "a hub at")

    async def cut(self) -> None:
        """Reset the connections of some."""
        for proxy in self.some():
            await proxy.cut()

    async def partition(self) -> None:
        """Cut some off for a while: their connections are reset, and new ones too."""
        some = self.some()
        for proxy in some:
            proxy.is_down = True
            await proxy.cut()
        await self.a_while()
        for proxy in some:
            proxy.heal()

    async def stall(self) -> None:
        """For a while some hear nothing and are not told; then everything arrives late, or nothing at all."""
        some = self.some()
        for proxy in some:
            proxy.stall()
        await self.a_while()
        for proxy in some:
            if self.rng.random() < 0.5:
                await proxy.cut()
            proxy.heal()

    async def slow(self) -> None:
        """The network is slow for a while."""
        some = self.some()
        for proxy in some:
            proxy.delay = 0.05
        await self.a_while()
        for proxy in some:
            proxy.heal()

    def some(self) -> list[Proxy]:
        """One stretch of the network or several."""
        return self.rng.sample(list(self.proxies.values()), self.rng.randint(1, len(self.proxies)))

    async def a_while(self) -> None:
        """As long as a fault lasts. It is a fault of a real network, so its time is real."""
        await trio.sleep(self.rng.uniform(0.1, 0.6))

    async def go_wrong(self) -> None:
        """The faults, one after the other, each after some more has been said."""
        faults = [self.kill_agent, self.kill_hub, self.cut, self.partition, self.stall, self.slow]
        order = [*faults, *self.rng.choices(faults, k=max(0, ROUNDS - len(faults)))]
        self.rng.shuffle(order)
        for fault in order:
            await self.until_said(len(self.acknowledged) + self.rng.randint(1, 12))
            self.done[fault.__name__] += 1
            await fault()

    async def until_said(self, count: int) -> None:
        """Wait until so many texts are acknowledged."""
        with trio.fail_after(GIVE_UP_AFTER):
            while len(self.acknowledged) < count:
                await trio.sleep(0.01)

    # What is said.

    async def talk(self, session: Session, is_over: trio.Event) -> None:
        """Say one thing after the other, several at once, until nothing goes wrong any more."""
        number = 0
        while not is_over.is_set():
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    number += 1
                    nursery.start_soon(self.say, session, f"message {number}")
            await trio.sleep(0.05)  # the faults take their time; thousands of texts would add nothing but a long log

    async def say(self, session: Session, text: str) -> None:
        """One text; what comes back is its acknowledgement."""
        sent = await session.send(text)
        self.acknowledged.append((session.session_id, sent.sequence, text))


async def ignore(envelope: Envelope) -> None:
    """Alice only talks."""


async def live(town: Town) -> list[str]:
    """Talk through everything that goes wrong, and to the end; the sessions."""
    async with AsyncExitStack() as stack:
        for name in (*NAMES, "alice"):
            town.proxies[name] = await stack.enter_async_context(open_proxy(town.port))
        for name in NAMES:
            await town.start_agent(name)
        hc = await stack.enter_async_context(HubClient(WsLink(town.proxies["alice"].url)))
        alice = await hc.register(None, Passport("alice"), handler=ignore)
        sessions = [await alice.open(type="conversation", target=name) for name in NAMES]
        is_over = trio.Event()
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(town.talk, session, is_over)
            await town.go_wrong()
            is_over.set()
        for session in sessions:
            with trio.fail_after(GIVE_UP_AFTER):
                sent = await session.send("the end")
                town.acknowledged.append((session.session_id, sent.sequence, "the end"))
                await session.wait(lambda envelope: envelope.text == "heard the end")
                await session.close()
        for program in (*town.agents.values(), town.hub):
            assert await in_thread(program.stop) == 0, program.errors
        return [session.session_id for session in sessions]


def logs(store: Path, sessions: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The sessions' logs, after every checksum of the store was compared."""
    agorio("doctor", store)
    found = {}
    for session in sessions:
        lines = agorio("log", store, session, "--json").stdout.splitlines()
        found[session] = [json.loads(line) for line in lines]
        assert [one["sequence"] for one in found[session]] == list(range(1, len(lines) + 1))
    return found


def handled(programs: list[Program]) -> list[tuple[str, int, int]]:
    """The turns of all incarnations of the agents, in their order: session, sequence, attempt."""
    turns = []
    for program in programs:
        while (line := program.wait_line("")) != ENDED:
            if line.startswith("handled"):
                _, session, sequence, attempt = line.split()
                turns.append((session, int(sequence), int(attempt)))
    return turns


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_that_breaks(start: Callable[..., Program], tmp_path: Path, seed: int) -> None:
    write_agents(tmp_path, RECORDER)
    hub = start("serve", "--store", tmp_path / "hub.db", "--port", 0)
    port = int(url_in(hub.wait_line("a hub at")).rpartition(":")[2])
    town = Town(tmp_path, start, random.Random(seed), port, hub)
    found = logs(tmp_path / "hub.db", trio.run(live, town))
    assert sum(town.done.values()) == ROUNDS
    assert min(town.done.values()) >= 1

    # Nothing that was acknowledged is lost: it is in the log where the acknowledgement says.
    texts = {
        (session, one["sequence"]): one.get("event_data", {}).get("text") for session in found for one in found[session]
    }
    assert len(town.acknowledged) > ROUNDS
    for session, sequence, text in town.acknowledged:
        assert texts[session, sequence] == text
    # Nothing is in the log twice: neither what alice said nor a reply.
    said = Counter((session, text) for (session, _), text in texts.items() if text is not None)
    assert max(said.values()) == 1
    # Everything was handled, and what was handled again was marked.
    turns = handled([*town.ended, *town.agents.values()])
    assert {(session, sequence) for session, sequence, _ in town.acknowledged} <= {turn[:2] for turn in turns}
    seen: set[tuple[str, int]] = set()
    for session, sequence, attempt in turns:
        assert (session, sequence) not in seen or attempt > 1, (session, sequence)
        seen.add((session, sequence))
    # Every text has its reply.
    heard = {one.get("causation_id") for log in found.values() for one in log if one["event_type"] == EV_TEXT}
    asked = {one["envelope_id"] for log in found.values() for one in log if texts_of_alice(one)}
    assert asked <= heard


def texts_of_alice(one: dict[str, Any]) -> bool:
    return one["event_type"] == EV_TEXT and not one["event_data"]["text"].startswith("heard")
