"""Every public async call, cancelled at every checkpoint: the hub stays consistent and no task is left behind."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.hub_client import HubClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.identity import Passport, Resume, ResumeExample
from agorio.actors.sessions.rule import InboxBlock, LimitsBlock, Rule
from agorio.hub.audit import AuditLog
from agorio.hub.hub import Hub
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AgorioError
from tests.hub.cancelling import Moment, cancelled_at
from tests.hub.conftest import STORES, OpenNetwork
from tests.hub.network import Network, converse, settle

LIMIT = 60
Call = Callable[[], Awaitable[Any]]


@pytest.fixture(params=["local", "local-slow"])
def network_kind(request: pytest.FixtureRequest) -> str:
    """Tasks of a link over a network are not this test's to count."""
    kind: str = request.param
    return kind


@pytest.fixture(params=["waiting", "woken"])
def moment(request: pytest.FixtureRequest) -> Moment:
    """When exactly."""
    chosen: Moment = request.param
    return chosen


async def echo(text: str) -> str:
    return f"re: {text}"


@attrs.define
class Scene:
    """Fresh agents and sessions for one cancellation."""

    net: Network
    number: int
    alice: AgentClient
    bob: AgentClient
    carol: AgentClient
    session: Session
    """With bob, who replies."""
    other: Session
    """With carol, who has one unhandled message."""
    hc: HubClient
    """A client of its own."""

    def name(self, name: str) -> str:
        return f"{name}-{self.number}"

    def text(self) -> Envelope:
        return Envelope(self.session.session_id, self.alice.agent_id, event_data={"text": "x"})


async def scene(net: Network, number: int) -> Scene:
    hc = HubClient(net.link, hub=net.hub)
    rule = Rule(limits=LimitsBlock(max_concurrent_sessions=100))
    alice = await net.agent(f"alice-{number}", hc=hc, rule=rule)
    bob = await net.agent(f"bob-{number}", echo, hc=hc)
    carol = await net.agent(f"carol-{number}", hc=hc, rule=Rule(inbox=InboxBlock(4)))
    session = await alice.open(target=bob.agent_id)
    other = await converse(alice, carol)
    await other.send("unhandled")
    return Scene(net, number, alice, bob, carol, session, other, hc)


async def closing(client: HubClient, call: Call) -> None:
    try:
        await call()
    finally:
        with trio.CancelScope(shield=True):
            await client.close()


RULE = Rule(limits=LimitsBlock(max_concurrent_sessions=50))

CALLS: dict[str, Callable[[Scene], Call]] = {
    "Hub.get_session": lambda s: partial(s.net.hub.get_session, s.session.session_id),
    "Hub.get_resume": lambda s: partial(s.net.hub.get_resume, s.alice.agent_id),
    "Hub.get_passport": lambda s: partial(s.net.hub.get_passport, s.alice.agent_id),
    "Hub.get_rule": lambda s: partial(s.net.hub.get_rule, s.alice.agent_id),
    "Hub.get_skill": lambda s: partial(s.net.hub.get_skill, s.alice.agent_id),
    "Hub.read_wal": lambda s: partial(s.net.hub.read_wal, s.session.session_id),
    "Hub.list_sessions": lambda s: partial(s.net.hub.list_sessions, state="open"),
    "Hub.list_agents": lambda s: s.net.hub.list_agents,
    "Hub.list_tasks": lambda s: s.net.hub.list_tasks,
    "Hub.get_task": lambda s: partial(s.net.hub.get_task, "none"),
    "Hub.close_session": lambda s: partial(s.net.hub.close_session, s.session.session_id),
    "Hub.set_rule": lambda s: partial(s.net.hub.set_rule, s.alice.agent_id, Rule()),
    "Hub.set_resume": lambda s: partial(s.net.hub.set_resume, s.alice.agent_id, Resume(["x"])),
    "Hub.set_skill": lambda s: partial(s.net.hub.set_skill, s.alice.agent_id, "# x"),
    "Hub.unregister": lambda s: partial(s.net.hub.unregister, s.carol.agent_id),
    "Hub.redeliver": lambda s: partial(s.net.hub.redeliver, 1),
    "Hub.park_agent": lambda s: partial(s.net.hub.park_agent, s.carol.agent_id),
    "Hub.resume_agent": lambda s: partial(s.net.hub.resume_agent, s.carol.agent_id),
    "Hub.unregister_sweeper": lambda s: partial(s.net.hub.unregister_sweeper, "mine"),
    "Hub.stop_client": lambda s: partial(s.net.hub.stop_client, s.hc.name),
    "Hub._retention_tick": lambda s: s.net.hub._retention_tick,
    "Hub._ttl_tick": lambda s: s.net.hub._ttl_tick,
    "Hub._expectation_tick": lambda s: s.net.hub._expectation_tick,
    "AuditLog.get": lambda s: partial(s.net.hub.audit_log.get, 1),
    "AuditLog.read": lambda s: s.net.hub.audit_log.read,
    "AuditLog.read_all": lambda s: s.net.hub.audit_log.read_all,
    "AuditLog.tail": lambda s: s.net.hub.audit_log.tail,
    "AuditLog.verify": lambda s: s.net.hub.audit_log.verify,
    "HubClient.register": lambda s: partial(s.net.agent, s.name("dave"), echo, hc=s.hc),
    "HubClient.register.attach": lambda s: partial(s.net.agent, s.name("carol"), echo, hc=s.hc, attach=True),
    "HubClient.register.elsewhere": lambda s: partial(s.net.agent, s.name("carol"), attach=True),
    "HubClient.register_human": lambda s: partial(s.hc.register_human, Passport(s.name("eve"), kind="human")),
    "HubClient.unregister": lambda s: partial(s.hc.unregister, s.carol.agent_id),
    "HubClient.connect": lambda s: connecting(s, "connect"),
    "HubClient.__aenter__": lambda s: connecting(s, "__aenter__"),
    "HubClient.close": lambda s: s.hc.close,
    "HubClient.shutdown": lambda s: s.hc.shutdown,
    "HubClient.get_agent": lambda s: partial(s.hc.get_agent, s.name("bob")),
    "HubClient.get_passport": lambda s: partial(s.hc.get_passport, s.name("bob")),
    "HubClient.find_agent_id": lambda s: partial(s.hc.find_agent_id, s.name("bob")),
    "HubClient.get_resume": lambda s: partial(s.hc.get_resume, s.name("bob")),
    "HubClient.get_rule": lambda s: partial(s.hc.get_rule, s.name("bob")),
    "HubClient.get_skill": lambda s: partial(s.hc.get_skill, s.name("bob")),
    "HubClient.list_agents": lambda s: s.hc.list_agents,
    "HubClient.names": lambda s: partial(s.hc.names, [s.bob.agent_id]),
    "HubClient.set_resume": lambda s: partial(s.hc.set_resume, s.alice, Resume(["y"])),
    "HubClient.set_skill": lambda s: partial(s.hc.set_skill, s.alice, "# y"),
    "HubClient.set_rule": lambda s: partial(s.hc.set_rule, s.alice, RULE),
    "HubClient.close_session": lambda s: partial(s.hc.close_session, s.session.session_id, agent=s.alice),
    "HubClient.get_task": lambda s: partial(s.hc.get_task, "none", agent=s.alice),
    "HubClient.list_tasks": lambda s: partial(s.hc.list_tasks, agent=s.alice),
    "HubClient.get_session": lambda s: partial(s.hc.get_session, s.session.session_id),
    "HubClient.session_setup": lambda s: partial(s.hc.session_setup, s.session.session_id),
    "HubClient.list_sessions": lambda s: s.hc.list_sessions,
    "HubClient.can_send": lambda s: partial(s.hc.can_send, s.session.session_id, s.alice.agent_id),
    "HubClient.default_view_policy": lambda s: partial(s.hc.default_view_policy, s.session.session_id, s.bob.agent_id),
    "HubClient.read_wal": lambda s: partial(s.hc.read_wal, s.session.session_id),
    "HubClient.read_before": lambda s: partial(s.hc.read_before, s.session.session_id, 3),
    "HubClient.read_tail": lambda s: partial(s.hc.read_tail, s.session.session_id, 2),
    "AgentClient.open": lambda s: partial(s.alice.open, target=s.bob.agent_id),
    "AgentClient.open.unanswered": lambda s: partial(s.bob.open, target=s.carol.agent_id, invite_ack_timeout=1),
    "AgentClient.close_session": lambda s: partial(s.alice.close_session, s.session.session_id),
    "AgentClient.session": lambda s: partial(s.alice.session, s.session.session_id),
    "AgentClient.wait_for_session_event": lambda s: partial(s.carol.wait_for_session_event, s.other.session_id),
    "AgentClient.send_envelope": lambda s: partial(s.alice.send_envelope, s.text()),
    "AgentClient.set_resume": lambda s: partial(s.alice.set_resume, Resume(["x"])),
    "AgentClient.add_example": lambda s: partial(s.alice.add_example, ResumeExample("x")),
    "AgentClient.set_skill": lambda s: partial(s.alice.set_skill, "# x"),
    "AgentClient.set_rule": lambda s: partial(s.alice.set_rule, RULE),
    "AgentClient.report_usage": lambda s: partial(s.alice.report_usage, {"cost": 1}),
    "AgentClient.unregister": lambda s: s.carol.unregister,
    "AgentClient.disconnect": lambda s: s.carol.disconnect,
    "AgentClient.close": lambda s: s.carol.close,
    "AgentClient.get_task": lambda s: partial(s.alice.get_task, "none"),
    "AgentClient.list_tasks": lambda s: s.alice.list_tasks,
    "AgentClient.cancel_task": lambda s: partial(s.alice.cancel_task, "none"),
    "AgentClient.read_checkpoint": lambda s: partial(s.alice.read_checkpoint, "none"),
    "AgentClient.wait_task": lambda s: partial(s.alice.wait_task, "none", timeout=1),
    "Session.send": lambda s: partial(s.session.send, "x", audience=[s.bob.agent_id], idempotency_key="k"),
    "Session.send.capped": lambda s: partial(s.other.send, "x"),
    "Session.ask": lambda s: partial(s.session.ask, "x"),
    "Session.wait": lambda s: partial(s.other.wait, timeout=1),
    "Session.wait_closed": lambda s: partial(s.other.wait_closed, timeout=1),
    "Session.close": lambda s: s.session.close,
    "Session.info": lambda s: s.session.info,
    "Session.history": lambda s: s.session.history,
}

ELSEWHERE = {
    "Hub.close": "below",
    "Hub.get_agent": "another name of get_passport",
    "Hub.serve": "below",
    "AuditLog.open": "part of opening a hub",
    "AuditLog.close": "part of closing a hub",
    "AuditLog.next_page": "what its subscriptions wait in, with their tests",
    "AgentClient.handle": "called by its turns, with the tests of turns",
    "AgentClient.answer_invite": "called by its turns, with the tests of turns",
}


def connecting(scene: Scene, how: str) -> Call:
    client = HubClient(scene.net.link, hub=scene.net.hub)
    return partial(closing, client, getattr(client, how))


def public_calls(cls: type) -> set[str]:
    found = set()
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        function = member.__func__ if isinstance(member, classmethod) else member
        if inspect.iscoroutinefunction(function) and (not name.startswith("_") or name == "__aenter__"):
            found.add(f"{cls.__name__}.{name}")
    return found


def test_no_public_call_is_left_out() -> None:
    public = set().union(*(public_calls(cls) for cls in (Hub, HubClient, AgentClient, Session, AuditLog)))
    assert public - set(CALLS) - set(ELSEWHERE) == set()


@pytest.mark.parametrize("name", list(CALLS))
async def test_a_cancelled_call(open_network: OpenNetwork, moment: Moment, name: str) -> None:
    base = trio.lowlevel.current_statistics().tasks_living
    async with open_network(ttl_sweep_interval=0, expectation_sweep_interval=0) as net:
        await net.agent("probe-a")
        await net.agent("probe-b")
        quiet = await tasks_at_rest(net)
        for step in range(1, LIMIT):
            if not await one_cancellation(net, moment, name, step):
                break
            assert await tasks_at_rest(net) == quiet
        else:
            raise AssertionError(f"{name} was cancelled {LIMIT} times and never done")
        store = net.store
        statistics = net.hub.statistics()
        assert statistics.total_failed_commits == 0
    assert trio.lowlevel.current_statistics().tasks_living == base
    async with open_network(store) as net:
        assert net.hub.health().status == "ok"
        await net.check()


async def one_cancellation(net: Network, moment: Moment, name: str, step: int) -> bool:
    if name == "Hub.unregister_sweeper":
        net.hub.register_sweeper("mine", 1000, net.hub._ttl_tick)
    scene_ = await scene(net, step)
    was_cancelled = await cancelled_at(step, moment, partial(tolerant, CALLS[name](scene_)))
    await settle(2)
    await net.check()
    assert await net.hub.list_sessions(state="pending") == [], "an opening that nobody waits for"
    a, b = [client for client in net.hc.clients.values() if client.name.startswith("probe")]
    fresh = await converse(a, b)
    await fresh.send("hello")
    assert (await b.wait_for_session_event(fresh.session_id, timeout=5)).text == "hello"
    await fresh.close()
    await settle()
    for info in net.hub.agents():
        if info.name.startswith("probe"):
            assert (info.pending, info.open_sessions) == (0, 0)
    if name == "Hub.unregister_sweeper" and "mine" in net.hub.health().sweepers:
        await net.hub.unregister_sweeper("mine")
    await leave(net, scene_)
    return was_cancelled


async def leave(net: Network, scene_: Scene) -> None:
    """Take the scene away again, however much of it is left: whatever a cancelled call held must be free by now."""
    here = {client.agent_id for client in (*net.hc.clients.values(), *scene_.hc.clients.values())}
    for info in net.hub.agents():
        if info.name in (scene_.name("dave"), scene_.name("eve")):
            assert info.agent_id in here, "registered, but nobody has it in hand"
    await scene_.hc.close()
    for info in net.hub.agents():
        if info.name.endswith(f"-{scene_.number}"):
            await net.hub.unregister(info.agent_id)
    await settle()
    statistics = net.hub.statistics()
    assert (statistics.current_agents, statistics.current_sessions, statistics.current_unsettled) == (2, 0, 0)


async def tolerant(call: Call) -> None:
    try:
        await call()
    except (AgorioError, TimeoutError):
        return  # some calls are refused in the end, which is an outcome like any other


async def tasks_at_rest(net: Network) -> int:
    """How many tasks there are when nothing has happened for a while."""
    await trio.sleep(60)
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("store_kind", list(STORES))
@pytest.mark.parametrize("form", ["block", "by hand", "serve"])
async def test_a_cancelled_opening_or_closing(moment: Moment, store_kind: str, form: str) -> None:
    """Wherever it is cancelled, the hub drains and lets the store go."""
    store = STORES[store_kind]()
    base = trio.lowlevel.current_statistics().tasks_living

    async def whole_life() -> None:
        if form == "block":
            async with Hub.open(store):
                await trio.sleep(1)
        elif form == "by hand":
            hub = await Hub.open(store)
            await hub.close()
        else:
            async with trio.open_nursery() as nursery:
                hub = await nursery.start(Hub.serve, store)
                await hub.close()

    for step in range(1, LIMIT):
        was_cancelled = await cancelled_at(step, moment, whole_life)
        assert trio.lowlevel.current_statistics().tasks_living == base
        async with Hub.open(store) as hub:
            assert hub.health().status == "ok"
        if not was_cancelled:
            break
    else:
        raise AssertionError("never done")
