"""Listeners: typed events after the fact, each at its own pace, and never in anybody's way."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import agorio
from agorio import (
    AccessBlock,
    AccessDeniedError,
    ActorRestarted,
    AgentAttached,
    AgentRegistered,
    AgentUnregistered,
    DeadLettered,
    Denied,
    EnvelopeAccepted,
    EnvelopeRefused,
    EventsMissed,
    Expectation,
    ExpectationFired,
    HubClosedError,
    HubEvent,
    InboxBlock,
    InboxPressure,
    InvalidInput,
    NameTaken,
    Passport,
    Resume,
    ResumeSet,
    Rule,
    RuleSet,
    SessionClosed,
    SessionCreated,
    SessionExpired,
    SessionOpened,
    SkillSet,
    TurnFailed,
)
from agorio.hub.events import EVENTS
from tests.hub.network import Network, converse, settle


async def quiet(text: str) -> str:
    return ""


async def live(net: Network) -> None:
    """A little of everything."""

    async def fails(text: str) -> str:
        raise ValueError("never")

    ann = await net.agent("ann")
    bob = await net.agent("bob", quiet, rule=Rule(AccessBlock(session_types=["conv*", "disc*"])))
    eve = await net.agent("eve", fails)
    first = await converse(ann, bob, expectations=[Expectation("max_silence", params={"seconds": 60})], ttl=200)
    await first.send("hi")
    with pytest.raises(AccessDeniedError):
        await ann.open("consulting", "bob")
    await trio.sleep(300)
    second = await converse(ann, eve)
    await second.send("fail")
    await settle(30)
    with pytest.raises(agorio.ProtocolError):
        await second.send("no", event_type="ag2.session.closed")
    await second.close()
    await ann.set_resume(Resume(summary="x"))
    await ann.set_skill("# skill")
    await ann.set_rule(Rule(inbox=InboxBlock(5)))
    third = await converse(bob, ann)
    for text in "abcd":
        await third.send(text)
    await net.hc.register(None, Passport("ann"), attach=True, attach_plugin=False)
    await net.hc.unregister(eve)
    await settle()


async def test_every_kind_of_event_comes_once_and_in_order(open_network: Any) -> None:
    events: list[HubEvent] = []
    async with open_network() as net:
        net.hub.subscribe(events.append)
        await live(net)

        def of(*kinds: type) -> list[str]:
            return [type(event).__name__ for event in events if isinstance(event, kinds)]

        assert of(AgentRegistered, AgentUnregistered, AgentAttached) == [
            *["AgentRegistered"] * 3,
            "AgentAttached",
            "AgentUnregistered",
        ]
        assert of(ResumeSet, SkillSet, RuleSet) == ["ResumeSet", "SkillSet", "RuleSet"]
        assert of(SessionCreated, SessionOpened, SessionClosed, SessionExpired) == [
            *["SessionCreated", "SessionOpened", "SessionExpired"],
            *["SessionCreated", "SessionOpened", "SessionClosed"],
            *["SessionCreated", "SessionOpened"],
        ]
        assert of(ExpectationFired, Denied, InboxPressure, DeadLettered) == [
            "Denied",
            "ExpectationFired",
            "DeadLettered",
            "InboxPressure",
        ]
        assert len(of(TurnFailed)) == 5
        assert of(EnvelopeRefused) == ["EnvelopeRefused"]
        logged = [one.envelope for one in events if isinstance(one, EnvelopeAccepted)]
        assert len(logged) == net.hub.statistics().total_accepted
        assert not of(EventsMissed)
        assert all(type(event) in EVENTS for event in events)


def test_every_event_is_public() -> None:
    assert all(getattr(agorio, event.__name__) is event for event in EVENTS)


async def test_pressure_is_told_once_per_crossing(open_network: Any) -> None:
    async with open_network() as net:
        events: list[InboxPressure] = []
        net.hub.subscribe(events.append, InboxPressure)
        ann, bob = await net.agent("ann"), await net.agent("bob", rule=Rule(inbox=InboxBlock(10, high_water=3)))
        session = await converse(ann, bob)
        for _ in range(6):
            await session.send("x")
        await settle()
        assert [(event.name, event.pending, event.max_pending) for event in events] == [("bob", 3, 10)]


async def test_only_the_kinds_asked_for_are_told_until_unsubscribed(open_network: Any) -> None:
    async with open_network() as net:
        events: list[HubEvent] = []
        place = net.hub.subscribe(events.append, AgentRegistered, name="census")
        await net.agent("ann")
        await settle()
        place.unsubscribe()
        place.unsubscribe()
        await net.agent("bob")
        await settle()
        assert [getattr(event, "name", "") for event in events] == ["ann"]
        assert not net.hub._open_services().listeners
        net.hub.subscribe(events.append, name="census")
        with pytest.raises(NameTaken):
            net.hub.subscribe(events.append, name="census")


async def test_an_object_listens(open_network: Any) -> None:
    class Tail:
        def __init__(self) -> None:
            self.seen = 0

        async def on_event(self, event: HubEvent) -> None:
            self.seen += 1

    async with open_network() as net:
        tail = Tail()
        net.hub.register_listener(tail, AgentRegistered)
        await net.agent("ann")
        await settle()
        assert tail.seen == 1
        with pytest.raises(InvalidInput, match="on_event"):
            net.hub.register_listener(object())


async def test_what_is_no_listener_is_refused(open_network: Any) -> None:
    async with open_network() as net:
        with pytest.raises(InvalidInput, match="no kind of hub event"):
            net.hub.subscribe(print, str)
        with pytest.raises(InvalidInput, match="no function"):
            net.hub.subscribe("x")
        hub = net.hub
    with pytest.raises(HubClosedError):
        hub.subscribe(print)


async def test_a_slow_listener_slows_nobody_and_is_told_what_it_missed(open_network: Any) -> None:
    gate = trio.Event()
    slow: list[HubEvent] = []
    fast: list[HubEvent] = []

    async def dawdle(event: HubEvent) -> None:
        slow.append(event)
        await gate.wait()

    async with open_network() as net:
        net.hub.subscribe(dawdle, EnvelopeAccepted, capacity=3)
        net.hub.subscribe(fast.append, EnvelopeAccepted)
        ann, bob = await net.agent("ann"), await net.agent("bob", quiet)
        session = await converse(ann, bob)
        for number in range(50):
            await session.send(str(number))
        await settle()
        accepted = net.hub.statistics().total_accepted
        assert len(fast) == accepted
        assert len(slow) == 1
        gate.set()
        await settle()
        (missed,) = [event.count for event in slow if isinstance(event, EventsMissed)]
        assert missed + len(slow) - 1 == accepted
        last = slow[-1]
        assert isinstance(last, EnvelopeAccepted)
        assert last.envelope.text == "49"


async def test_a_failing_listener_is_restarted_with_backoff_audited_and_alone(open_network: Any) -> None:
    seen: list[tuple[float, HubEvent]] = []
    well: list[HubEvent] = []

    def fails(event: HubEvent) -> None:
        seen.append((trio.current_time(), event))
        raise ValueError("a listener's own fault")

    async with open_network() as net:
        net.hub.subscribe(fails, name="bad")
        net.hub.subscribe(well.append)
        for name in ("ann", "bob", "cid"):
            await net.agent(name)
        await settle(10)
        assert len([event for event in well if isinstance(event, AgentRegistered)]) == 3
        restarts = [record for record in await net.audit("actor_restarted") if "bad" in record.actor]
        assert len(restarts) == len(seen) == 3
        assert seen[2][0] - seen[1][0] > seen[1][0] - seen[0][0] > 0.099  # it rests longer each time
        assert len([event for event in well if isinstance(event, ActorRestarted)]) == 3
        assert net.hub.health().status == "ok"


async def test_what_is_queued_is_told_before_the_hub_has_closed(open_network: Any) -> None:
    seen: list[HubEvent] = []

    async def slowly(event: HubEvent) -> None:
        await trio.sleep(0.1)
        seen.append(event)

    async with open_network() as net:
        net.hub.subscribe(slowly, AgentRegistered)
        for number in range(10):
            await net.agent(f"a{number}")
    assert len(seen) == 10


async def test_with_nobody_listening_no_event_is_made(open_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("an event was made for nobody")

    monkeypatch.setattr("agorio.hub.services.EnvelopeAccepted", never)
    monkeypatch.setattr("agorio.hub.services.event_of", never)
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", quiet)
        await (await converse(ann, bob)).send("hi")
