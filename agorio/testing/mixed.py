"""The mixed scenario: every session type, members that behave and members that do not, rules that change.

It does a bit of everything, overlapping, with gaps in between in which the network comes to rest.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import trio

from ..actors.agents.agent_client import AgentClient
from ..actors.sessions.graph import TransitionGraph
from ..actors.sessions.graph_targets import RoundRobinTarget
from ..actors.sessions.identity import Resume
from ..actors.sessions.metadata import Expectation
from ..actors.sessions.rule import AccessBlock, InboxBlock, LimitsBlock, RateBlock, Rule
from ..mailbox.errors import AgorioError
from ..mailbox.limits import Overflow
from .members import Member
from .world import World

NEEDS = {"consulting": 2, "conversation": 2, "discussion": 3, "workflow": 3}
EXPECTATIONS = (
    Expectation("reply_within", "warn", {"seconds": 4}),
    Expectation("max_silence", "auto_close", {"seconds": 15}),
    Expectation("turn_within", "hide", {"seconds": 5}),
    Expectation("acks_within", "audit", {"seconds": 2}),
)


class Mixed:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = world.chance.of("load")
        self.wires = world.chance.of("wires")
        self.sessions: list[tuple[str, list[Member]]] = []
        self.members: list[Member] = []
        self.leavers = 0

    async def play(self) -> None:
        """Set up, then act. If cancelled: it ends."""
        world, dice = self.world, self.dice
        for number in range(world.capped(dice.randint(3, 5), world.limits.agents)):
            resume = Resume([dice.choice(("tea", "coffee"))])
            rule = _draw_rule(dice, blocks=not number)
            wire = self.wires.random() < 0.3
            self.members.append(world.add(f"agent{number}", rule=rule, resume=resume, wire=wire))
        steps = world.capped(dice.randint(15, 40), world.limits.steps)
        async with trio.open_nursery() as nursery:
            for _ in range(steps):
                await trio.sleep(dice.choice((0.0, 0.0, 0.05, 0.5, 2.0)))
                nursery.start_soon(self._draw_action())

    def _draw_action(self) -> Any:
        """What to do and with which dice; drawn here, in the order of the steps and of nothing else."""
        rng = random.Random(self.dice.random())
        actions = {self.say: 12, self.open: 4, self.close: 1, self.change_rule: 1, self.work: 2, self.replace: 1}
        if not self.sessions:
            return partial(self.open, rng)
        return partial(rng.choices(list(actions), list(actions.values()))[0], rng)

    async def open(self, rng: random.Random) -> None:
        """Somebody opens a session."""
        kind = rng.choice(list(NEEDS))
        crew = [member for member in self.members if not member.left]
        if len(crew) < NEEDS[kind]:
            kind = "consulting"
        if len(crew) < NEEDS[kind]:
            return
        members = rng.sample(crew, NEEDS[kind])
        options: dict[str, Any] = {"ttl": rng.choice((5.0, 20.0, 7200.0, 7200.0))}
        if kind == "workflow":
            options["knobs"] = {"graph": _round_robin(members)}
        if kind == "discussion":
            options["knobs"] = {"max_turns": rng.choice((4, 8))}
        if rng.random() < 0.4:
            options["expectations"] = rng.sample(EXPECTATIONS, rng.randint(1, 2))
        if kind == "discussion" and rng.random() < 0.5:
            options["required_acks"] = 1
        session_id = await members[0].open(kind, *(member.name for member in members[1:]), **options)
        if session_id is not None:
            self.sessions.append((session_id, members))
            await members[0].say(session_id, "ask the first")

    async def say(self, rng: random.Random) -> None:
        """Somebody says something, mostly a member, not always in turn."""
        session_id, members = rng.choice(self.sessions[-4:])
        crew = members if rng.random() < 0.9 else self.members
        speaker = rng.choice([member for member in crew if not member.left] or self.members)
        if speaker.left:
            return
        fields: dict[str, Any] = {"priority": rng.choice((1, 1, 1, 2, 3))}
        if rng.random() < 0.2:
            fields["audience"] = (rng.choice(members).agent_id,)
        if rng.random() < 0.1:
            fields["ttl_seconds"] = rng.choice((0.5, 3.0))
        if rng.random() < 0.1:
            fields["event_type"] = rng.choice(("own.note", "ag2.session.closed", "ag2.context.set"))
        for _ in range(rng.choice((1, 1, 1, 4))):
            text = rng.choice(("ask", "note")) + f" {rng.randint(0, 99)}"
            await speaker.say(session_id, text, **fields)

    async def close(self, rng: random.Random) -> None:
        """A member or the operator closes a session."""
        session_id, members = rng.choice(self.sessions)
        if rng.random() < 0.7:
            await members[0].once(lambda client: client.close_session(session_id, "enough"))
        else:
            await self._operate(lambda hub: hub.close_session(session_id))

    async def change_rule(self, rng: random.Random) -> None:
        """The operator changes somebody's rule."""
        member = rng.choice(self.members)
        if not member.left:
            rule = _draw_rule(rng, blocks=member is self.members[0])
            await self._operate(lambda hub: hub.set_rule(member.agent_id, rule))

    async def _operate(self, act: Any) -> None:
        hub = self.world.hub
        if hub is not None and not hub.is_closed:
            try:
                with trio.move_on_after(10):
                    await act(hub)
            except AgorioError as refusal:
                self.world.note("operator", type(refusal).__name__)

    async def work(self, rng: random.Random) -> None:
        """Somebody works on a task in a session, or outside of all."""
        session_id, members = rng.choice(self.sessions)
        member, where = rng.choice(members), session_id if rng.random() < 0.7 else ""
        if not member.left:
            await member.once(partial(_work, rng, where))

    async def replace(self, rng: random.Random) -> None:
        """An agent leaves for good, and another comes."""
        crew = [member for member in self.members if not member.left and member.agent_id]
        if len(crew) > 3 and self.leavers < 2:
            self.leavers = number = self.leavers + 1
            leaver = rng.choice(crew)
            self.members.remove(leaver)
            await leaver.leave()
            rule = _draw_rule(rng, blocks=False)
            self.members.append(self.world.add(f"fresh{number}", rule=rule, wire=self.wires.random() < 0.3))


async def mixed(world: World) -> None:
    """A bit of everything; the scenario of the command line. If cancelled: it ends."""
    await Mixed(world).play()


async def _work(rng: random.Random, session_id: str, client: AgentClient) -> bool:
    ttl = rng.choice((1.0, 60.0))
    async with client.task("work", session_id=session_id, capability=rng.choice((None, "tea")), ttl=ttl) as task:
        await trio.sleep(rng.uniform(0, 2))
        await task.progress({"done": 1})
    return True


def _draw_rule(rng: random.Random, *, blocks: bool) -> Rule:
    """Only one of them makes senders wait: two whose turns wait for room at each other would wait for ever."""
    overflow: Overflow = rng.choice(("reject", "reject", "block" if blocks else "reject", "drop_oldest", "drop_newest"))
    inbox = InboxBlock(max_pending=rng.choice((None, 1, 2, 5)), overflow=overflow)
    inbound = rng.choice((("*",), ("*",), ("*",), ("agent*",), ("agent1", "agent2")))
    rate = RateBlock(envelopes_per_minute=rng.choice((None, None, None, 30)))
    limits = LimitsBlock(max_concurrent_sessions=rng.choice((None, 4)))
    return Rule(access=AccessBlock(inbound_from=inbound), inbox=inbox, rate=rate, limits=limits)


def _round_robin(members: list[Member]) -> dict[str, Any]:
    names = tuple(member.name for member in members)
    return TransitionGraph(names[0], default_target=RoundRobinTarget(names), max_turns=6).to_dict()
