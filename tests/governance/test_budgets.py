"""Budgets at the hub: everything that is used counts once and durably, and whoever is beyond is parked."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from agorio import (
    AUDIT_KIND_AGENT_PARKED,
    AUDIT_KIND_AGENT_RESUMED,
    AUDIT_KIND_TURN_FAILED,
    AgentParked,
    AgentResumed,
    BudgetBlock,
    ConflictError,
    Hub,
    InvalidInput,
    MemoryKnowledgeStore,
    NotFoundError,
    ParkedError,
    Redelivery,
    Refuse,
    Rule,
    SessionBudget,
    StoreError,
    Usage,
    current_turn,
)
from agorio.actors.sessions.operations import ReportUsage
from agorio.hub.stores.protocol import Put
from tests.hub.network import Network, local_link, open_on, settle
from tests.hub.stores import FailingStore, copied


@attrs.frozen
class Reply:
    """What an agent answers that knows what it has used."""

    body: str
    usage: Any = None


def spender(tokens: int = 10, cost: float = 0.5) -> Any:
    async def answer(text: str) -> Reply:
        return Reply(f"re: {text}", {"total_tokens": tokens, "cost": cost})

    return answer


async def failing(text: str) -> str:
    raise RuntimeError("no")


async def answers(net: Network, session: Any) -> list[str]:
    return [text for text in await net.texts(session.session_id) if text.startswith("re:")]


def limited(per_session: SessionBudget | None = None, **limits: Any) -> Rule:
    return Rule(budget=BudgetBlock(per_session=per_session or SessionBudget(), **limits))


def once() -> Redelivery:
    return Redelivery(max_attempts=1)


async def test_usage_of_replies_counts_per_agent_and_per_session(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann")
        await net.agent("bob", spender())
        first, second = [await ann.open(type="conversation", target="bob") for _ in range(2)]
        await first.send("one")
        await first.send("two")
        await second.send("three")
        await settle()
        report = net.hub.budget("bob")
        assert report.total == report.counting == Usage(tokens=30, cost=1.5)
        assert net.hub.budget("bob", session_id=first.session_id).total == Usage(tokens=20, cost=1.0)
        assert net.hub.budget("bob", session_id=second.session_id).total == Usage(tokens=10, cost=0.5)
        assert net.hub.budget("ann").total == Usage()


async def test_an_agent_over_budget_is_parked_its_mail_kept_and_resumed(open_network: Any) -> None:
    async with open_network() as net:
        events: list[Any] = []
        net.hub.subscribe(events.append, AgentParked, AgentResumed)
        ann = await net.agent("ann")
        bob = await net.agent("bob", spender(), rule=limited(max_tokens=15))
        session = await ann.open(type="conversation", target="bob")
        for number in range(5):
            await session.send(str(number))
        await settle()
        # The second turn was beyond it: it still ended, its reply counts, and nothing came after it.
        assert await answers(net, session) == ["re: 0", "re: 1"]
        (info,) = [info for info in net.hub.agents() if info.name == "bob"]
        assert info.parked == "20 tokens used, budget.max_tokens allows 15"
        assert (info.pending, net.hub.health().parked_agents) == (3, ("bob",))
        (record,) = await net.audit(AUDIT_KIND_AGENT_PARKED)
        assert (record.name, record.limit, record.session_id) == ("bob", "budget.max_tokens", None)
        with pytest.raises(ParkedError, match="resume_agent"):
            await (await bob.session(session.session_id)).send("me")
        with pytest.raises(ParkedError):
            await bob.open(type="conversation", target="ann")
        with pytest.raises(Refuse, match="parked"):
            await net.hub.ref("bob").ask("hello")
        with pytest.raises(ParkedError):
            await bob.hub_client.ref("ann", asker=bob).ask("hello")

        with pytest.raises(ConflictError, match="reset=True"):
            await net.hub.resume_agent("bob", reset=False)
        report = await net.hub.resume_agent("bob")
        assert (report.parked, report.counting, report.total) == (None, Usage(), Usage(tokens=20, cost=1.0))
        await settle()
        assert (await answers(net, session))[2:] == ["re: 2", "re: 3"]
        assert net.pending("bob") == 1
        await net.hub.set_rule(bob.agent_id, Rule())  # a wider rule alone resumes nobody
        await settle()
        assert net.pending("bob") == 1
        await net.hub.resume_agent("bob", reset=False)
        await settle()
        assert (net.pending("bob"), net.hub.health().parked_agents) == (0, ())
        assert [type(event).__name__ for event in events] == ["AgentParked", "AgentResumed"] * 2
        assert len(await net.audit(AUDIT_KIND_AGENT_RESUMED)) == 2
        assert (await net.hub.resume_agent("bob")).parked is None  # nothing to do
        await net.check()


async def test_failed_turns_and_restarts_count_once_each(open_network: Any) -> None:
    async with open_network(redelivery=Redelivery(max_attempts=3)) as net:
        ann = await net.agent("ann")
        await net.agent("bob", failing, rule=limited(max_failed_turns=3))
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle(5)
        assert net.hub.budget("bob").total == Usage(restarts=3, failed_turns=3)
        assert len(await net.audit(AUDIT_KIND_TURN_FAILED)) == 3
        await session.send("two")
        await settle(60)
        assert net.hub.budget("bob").total == Usage(restarts=4, failed_turns=4)
        assert (net.pending("bob"), len(net.hub.dead_letters())) == (1, 1)  # kept, not dead-lettered
        (record,) = await net.audit(AUDIT_KIND_AGENT_PARKED)
        assert record.limit == "budget.max_failed_turns"
        await net.hub.resume_agent("bob")
        await settle(60)
        assert net.hub.budget("bob").counting == Usage(restarts=2, failed_turns=2)
        assert len(net.hub.dead_letters()) == 2


async def test_a_nack_that_nobody_reported_counts_too(open_network: Any) -> None:
    async with open_network() as net:
        ann, wire = await net.agent("ann"), await net.wire()
        bob = await wire.register("bob", rule=limited(max_failed_turns=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.accept, bob)
            session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle()
        (frame,) = wire.notified(bob, texts=True)
        await wire.ack(frame, "nack", "no")
        await wire.ack(frame, "nack", "no")  # it is not out any more
        await settle()
        again = wire.notified(bob, texts=True)[-1]
        assert (again.attempt, net.hub.budget("bob").total) == (2, Usage(failed_turns=1))
        await wire.ack(again, "nack", "no")
        await settle(60)
        assert net.hub.budget("bob").parked is not None
        assert len(wire.notified(bob, texts=True)) == 2


async def test_restarts_of_the_hubs_own_actor_count(open_network: Any) -> None:
    async with open_network() as net:
        await net.agent("ann", rule=limited(max_restarts=1))
        for _ in range(2):
            inbox = net.hub._open_services().directory.entry("ann").inbox
            assert inbox.wake is not None
            inbox.wake(float("nan"))  # a timer that fails is a crash of the actor that runs it
            await settle(5)
        assert net.hub.budget("ann").total == Usage(restarts=2)
        parked = net.hub.budget("ann").parked
        assert parked is not None
        assert parked.limit == "budget.max_restarts"


async def test_parked_in_one_session_only(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann")
        bob = await net.agent("bob", spender(), rule=limited(SessionBudget(max_tokens=15)))
        loud, calm = [await ann.open(type="conversation", target="bob") for _ in range(2)]
        for number in range(4):
            await loud.send(str(number))
        await settle()
        await calm.send("calm")
        await settle()
        assert await answers(net, loud) == ["re: 0", "re: 1"]
        assert await net.texts(calm.session_id) == ["calm", "re: calm"]
        (info,) = [info for info in net.hub.agents() if info.name == "bob"]
        assert (info.parked, info.parked_in, info.pending) == (None, (loud.session_id,), 2)
        assert net.hub.health().parked_agents == ("bob",)
        with pytest.raises(ParkedError, match="in this session"):
            await (await bob.session(loud.session_id)).send("me")
        await net.hub.resume_agent("bob", session_id=loud.session_id)
        await settle()
        assert (await net.texts(loud.session_id))[-1] == "re: 3"
        await loud.close()
        await settle()
        report = await net.hub.resume_agent("bob", session_id=loud.session_id)  # it has ended: nobody is parked there
        assert (report.parked, report.total) == (None, Usage())


async def test_the_end_of_a_session_ends_a_parking_in_it(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann")
        await net.agent("bob", spender(), rule=limited(SessionBudget(max_tokens=5)))
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await session.send("two")
        await settle()
        assert net.pending("bob") == 1
        await session.close()
        await settle()
        assert (net.pending("bob"), net.hub.health().parked_agents) == (0, ())
        assert net.hub.statistics().current_sessions == 0


async def test_parking_and_counts_survive_a_restart(open_network: Any) -> None:
    store = MemoryKnowledgeStore()
    async with open_network(store) as net:
        ann = await net.agent("ann")
        rule = limited(SessionBudget(max_tokens=1000), max_tokens=15, within="1h")
        await net.agent("bob", spender(), rule=rule)
        session = await ann.open(type="conversation", target="bob")
        for number in range(3):
            await session.send(str(number))
        await settle()
    async with open_network(store) as net:
        assert net.hub.budget("bob", session_id=session.session_id).total == Usage(tokens=20, cost=1.0)
        assert net.hub.budget("bob").parked is not None
        await net.agent("bob", spender(), attach=True)
        await settle()
        assert net.pending("bob") == 1
        await trio.sleep(3700)
        assert net.hub.budget("bob").counting == Usage()  # it has left the window,
        assert net.hub.budget("bob").parked is not None  # which resumes nobody
        await net.hub.resume_agent("bob", reset=False)
        await settle()
        assert net.pending("bob") == 0
    async with open_network(store) as net:
        assert (net.hub.budget("bob").parked, net.hub.budget("bob").total.tokens) == (None, 30)


async def test_parked_in_a_session_survives_a_restart(open_network: Any) -> None:
    store = MemoryKnowledgeStore()
    async with open_network(store) as net:
        ann = await net.agent("ann")
        await net.agent("bob", spender(), rule=limited(SessionBudget(max_tokens=5)))
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await session.send("two")
        await settle()
    async with open_network(store) as net:
        await net.agent("bob", spender(), attach=True)
        await settle()
        assert net.pending("bob") == 1
        await net.hub.resume_agent("bob", session_id=session.session_id)
        await settle()
        assert net.pending("bob") == 0


async def test_a_report_that_comes_twice_counts_once(open_network: Any) -> None:
    async with open_network() as net:
        wire = await net.wire()
        bob = await wire.register("bob")
        for _ in range(3):
            await wire.request(ReportUsage(bob.agent_id, 5, 0.5, None, "k"))
        await wire.request(ReportUsage(bob.agent_id, 5, 0.5, None, "l"))
        assert net.hub.budget("bob").total == Usage(tokens=10, cost=1.0)
        for wrong in (
            ReportUsage(bob.agent_id, -1),
            ReportUsage(bob.agent_id, 0, -0.5),
            ReportUsage(bob.agent_id, 2**60),
        ):
            with pytest.raises(InvalidInput):
                await wire.request(wrong)
        with pytest.raises(NotFoundError):
            await wire.request(ReportUsage(bob.agent_id, 1, session_id="none"))
        assert net.hub.budget("bob").total.tokens == 10


async def test_own_code_reports_what_it_uses(open_network: Any) -> None:
    async def thinks(text: str) -> str:
        turn = current_turn()
        assert turn is not None
        await turn.client.report_usage({"input_tokens": 1, "output_tokens": 2})
        await turn.client.report_usage({"input_tokens": 1, "output_tokens": 2})
        return ""

    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", thinks)
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle()
        assert net.hub.budget("bob", session_id=session.session_id).total.tokens == 6
        await bob.report_usage({"cost": 2})
        assert net.hub.budget("bob").total == Usage(tokens=6, cost=2.0)
        with pytest.raises(InvalidInput, match="none of"):
            await bob.report_usage({"trees": 2})
        with pytest.raises(InvalidInput):
            await bob.report_usage({"cost": float("nan")})


async def test_a_redelivered_turn_that_was_answered_counts_once(open_network: Any) -> None:
    """The hub crashes before the receipt is durable: the turn comes again, and is not paid for again."""
    async with open_network() as net:
        ann = await net.agent("ann")
        await net.agent("bob", spender())
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        with trio.fail_after(5):
            while not await answers(net, session):
                await trio.sleep(0.001)
        crashed = copied(net.store)
    async with open_network(crashed) as net:
        assert net.pending("bob") == 1
        await net.agent("bob", spender(), attach=True)
        await settle()
        assert net.pending("bob") == 0
        assert await answers(net, session) == ["re: one"]
        assert net.hub.budget("bob").total.tokens == 10


async def test_an_agent_that_reports_nonsense_fails_its_turn(open_network: Any) -> None:
    async def wrong(text: str) -> Reply:
        return Reply("never sent", {"cost": -1})

    async with open_network(redelivery=once()) as net:
        ann = await net.agent("ann")
        await net.agent("bob", wrong)
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle()
        assert await net.texts(session.session_id) == ["one"]
        assert net.hub.budget("bob").total == Usage(restarts=1, failed_turns=1)


async def test_a_rule_that_tightens_parks_at_once(open_network: Any) -> None:
    async with open_network() as net:
        ann, bob = await net.agent("ann"), await net.agent("bob", spender())
        session = await ann.open(type="conversation", target="bob")
        await session.send("one")
        await settle()
        await bob.set_rule(limited(SessionBudget(max_tokens=9), max_tokens=5))
        assert net.hub.budget("bob").parked is not None
        assert net.hub.budget("bob", session_id=session.session_id).parked is not None
        assert len(await net.audit(AUDIT_KIND_AGENT_PARKED)) == 2


async def test_parked_by_hand(open_network: Any) -> None:
    async with open_network() as net:
        ann = await net.agent("ann")
        await net.agent("bob", spender())
        await net.hub.park_agent("bob", "on leave")
        await net.hub.park_agent("bob", "again")  # it is
        async with trio.open_nursery() as nursery:
            session_opened: list[Any] = []

            async def open_it() -> None:
                session_opened.append(await ann.open(type="conversation", target="bob"))

            nursery.start_soon(open_it)
            await settle()
            assert session_opened == []  # the invitation is mail as well
            await net.hub.resume_agent("bob")
        assert len(session_opened) == 1
        records = await net.audit(AUDIT_KIND_AGENT_PARKED)
        assert [record.reason for record in records] == ["on leave"]
        with pytest.raises(InvalidInput):
            await net.hub.park_agent("bob", "")
        with pytest.raises(NotFoundError):
            await net.hub.resume_agent("nobody")


async def test_a_struck_off_agent_leaves_no_account(open_network: Any) -> None:
    async with open_network() as net:
        bob = await net.agent("bob")
        await bob.report_usage({"cost": 2})
        await bob.unregister()
        await net.audit()
        assert await net.store.scan("budget/") == []


async def test_what_a_full_disk_refuses_is_counted_and_written_later() -> None:
    def is_account(changes: Any) -> bool:
        return any(isinstance(change, Put) and change.key.startswith("budget/") for change in changes)

    store = FailingStore()
    async with open_on(local_link, True, store) as net:
        hub, bob = net.hub, await net.agent("bob", rule=limited(max_tokens=5))
        store.refuses = is_account
        with pytest.raises(StoreError):
            await bob.report_usage({"total_tokens": 9}, key="k")
        assert hub.budget("bob").parked is not None
        with pytest.raises(StoreError):
            await hub.resume_agent("bob")
        assert hub.budget("bob").parked is not None
        assert hub.budget("bob").counting.tokens == 9
        store.refuses = None
        await bob.report_usage({"total_tokens": 9}, key="k")  # the same report, durable now
        assert hub.budget("bob").total.tokens == 9
    async with Hub.open(store) as hub:
        assert hub.budget("bob").total.tokens == 9
        assert hub.budget("bob").parked is not None
