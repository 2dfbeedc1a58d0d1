"""Questions and answers over one link, and what happens when it ends."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.agents.hub_client import HubClient
from agorio.actors.sessions.identity import Passport
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import HubClosedError, InboxFull, LinkClosed, LinkError, NameTaken, NotFoundError
from agorio.transports.frames import AcceptFrame, ErrorFrame, PingFrame, PongFrame, RequestFrame
from agorio.transports.local import LocalLink


async def echo(text: str) -> str:
    return text


async def test_refusals_arrive_as_their_types(autojump_clock: MockClock, scripted: Any) -> None:
    async with scripted() as (hub, hc):
        hub.rules["get_agent"] = lambda op: ErrorFrame("not_found", "nobody", details={"name": op.name_or_id})
        with pytest.raises(NotFoundError, match="nobody") as caught:
            await hc.get_agent("zoe")
        assert caught.value.details == {"name": "zoe"}
        client = await hc.register(echo)
        hub.rules["send"] = lambda frame: ErrorFrame("inbox_full", "full", frame.request_id)
        with pytest.raises(InboxFull):
            await client.send_envelope(Envelope("s", ""))


async def test_answers_may_come_in_any_order(autojump_clock: MockClock, scripted: Any) -> None:
    async with scripted() as (hub, hc):
        client = await hc.register(echo)
        held: list[Any] = []

        def hold(frame: Any) -> None:
            held.append(frame)

        hub.rules["send"] = hold
        results: dict[str, Envelope] = {}

        async def send(text: str) -> None:
            results[text] = await client.send_envelope(Envelope("s", "", event_data={"text": text}))

        async with trio.open_nursery() as nursery:
            for text in "abc":
                nursery.start_soon(send, text)
            await wait_all_tasks_blocked()
            for frame in reversed(held):
                hub.endpoint.send_nowait(AcceptFrame(frame.request_id, frame.envelope))
        assert {text: envelope.text for text, envelope in results.items()} == {"a": "a", "b": "b", "c": "c"}
        assert client.agent_id == results["a"].sender_id


async def test_a_cancelled_caller_leaves_nothing_and_tells_the_hub(
    autojump_clock: MockClock, scripted: Any, no_answer: object
) -> None:
    async with scripted() as (hub, hc):
        await hc.register(echo)
        hub.rules["get_agent"] = lambda op: no_answer
        with trio.move_on_after(1):
            await hc.get_agent("zoe")
        await wait_all_tasks_blocked()
        assert hc.statistics().current_calls == 0
        asked = next(f for f in hub.frames if isinstance(f, RequestFrame) and f.op == "get_agent")
        assert [op.request_id for op in hub.requests("cancel_request")] == [asked.request_id]


async def test_control_calls_are_bounded(autojump_clock: MockClock, scripted: Any, no_answer: object) -> None:
    async with scripted(request_timeout=7.0) as (hub, hc):
        await hc.register(echo)
        hub.rules["get_agent"] = lambda op: no_answer
        start = trio.current_time()
        with pytest.raises(TimeoutError, match="get_agent"):
            await hc.get_agent("zoe")
        assert trio.current_time() - start == pytest.approx(7.0)


async def test_the_end_of_the_link_wakes_everybody(autojump_clock: MockClock, scripted: Any, no_answer: object) -> None:
    async with scripted() as (hub, hc):
        client = await hc.register(echo, handler=None)
        hub.rules["get_session"] = lambda op: no_answer

        async def refused(call: Any, *args: Any) -> None:
            with pytest.raises(LinkClosed):
                await call(*args)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, hc.get_session, "s")
            nursery.start_soon(refused, client.wait_for_session_event, "s")
            await wait_all_tasks_blocked()
            hub.endpoint.close_nowait("gone")
        with pytest.raises(LinkClosed):
            await client.send_envelope(Envelope("s", ""))
        assert hc.statistics().is_closed


async def test_a_hub_that_closes_says_so(autojump_clock: MockClock, scripted: Any) -> None:
    async with scripted() as (hub, hc):
        await hc.register(echo)
        hub.endpoint.send_nowait(ErrorFrame("hub_closed", "the hub closes"))
        await wait_all_tasks_blocked()
        hub.endpoint.close_nowait("closed")
        await wait_all_tasks_blocked()
        with pytest.raises(HubClosedError, match="closes"):
            await hc.get_agent("zoe")


async def test_an_error_that_nobody_waits_for_ends_nothing(autojump_clock: MockClock, scripted: Any) -> None:
    async with scripted() as (hub, hc):
        await hc.register(echo)
        hub.endpoint.send_nowait(ErrorFrame("not_found", "a receipt for nothing"))
        hub.endpoint.send_nowait(PingFrame(7))
        await wait_all_tasks_blocked()
        assert PongFrame(7) in hub.frames
        assert await hc.can_send("s", "x")


async def test_two_first_users_open_one_link(autojump_clock: MockClock, net: Any) -> None:
    opened: list[Any] = []

    class Link(LocalLink):
        def client(self) -> Any:
            opened.append(1)
            return super().client()

    hc = HubClient(Link(net.hub), hub=net.hub)
    async with trio.open_nursery() as nursery:
        for name in ("ann", "bob"):
            nursery.start_soon(hc.register, echo, Passport(name=name))
    assert len(opened) == 1
    assert len(hc.clients) == 2
    await hc.close()


async def test_a_mute_hub_fails_the_greeting(autojump_clock: MockClock) -> None:
    hc = HubClient(LocalLink(_Mute()), request_timeout=5)
    with pytest.raises(TimeoutError, match="greeting"):
        await hc.__aenter__()


class _Mute:
    def accept_link(self, endpoint: Any) -> None:
        self.endpoint = endpoint


async def test_without_a_hub_it_is_a_block(autojump_clock: MockClock, scripted: Any) -> None:
    hc = HubClient(LocalLink(_Mute()))
    with pytest.raises(LinkError, match="async with"):
        await hc.register(echo)


async def test_closing_keeps_identities_and_is_final(autojump_clock: MockClock, net: Any) -> None:
    ann = await net.hc.register(echo, Passport(name="ann"))
    await net.hc.close()
    await net.hc.close()
    with pytest.raises(LinkClosed):
        await net.hc.register(echo, Passport(name="bob"))
    with pytest.raises(LinkClosed):
        await ann.open("conversation", "bob")
    async with net.client() as other:
        with pytest.raises(NameTaken):
            await other.register(echo, Passport(name="ann"))
        again = await other.register(echo, Passport(name="ann"), attach=True)
        assert again.agent_id == ann.agent_id
        await again.unregister()
        assert not other.clients
        await other.register(echo, Passport(name="ann"))
        await other.shutdown()
    assert [passport.name for passport in await net.hub.list_agents()] == []


async def test_a_closed_hub_fails_its_clients(autojump_clock: MockClock) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        ann = await hc.register(echo, Passport(name="ann"))
    with pytest.raises(HubClosedError):
        await ann.open("conversation", "bob")
    await hc.close()


async def test_a_cancelled_registration_is_taken_back(
    autojump_clock: MockClock, scripted: Any, no_answer: object
) -> None:
    async with scripted() as (hub, hc):
        held: list[Any] = []

        def hold(op: Any) -> object:
            held.append(op)
            return no_answer

        hub.rules["register"] = hold
        with trio.move_on_after(1):
            await hc.register(echo, Passport(name="ann"))
        del hub.rules["register"]
        register = next(f for f in hub.frames if isinstance(f, RequestFrame) and f.op == "register")
        for answer in hub._result(register):
            hub.endpoint.send_nowait(answer)
        await wait_all_tasks_blocked()
        assert [op.agent_id for op in hub.requests("unregister")] == ["id-ann"]
        assert not hc.clients


async def test_registration_teaches(autojump_clock: MockClock, net: Any) -> None:
    def sync(text: str) -> str:
        return text

    with pytest.raises(ValueError, match="async def"):
        await net.hc.register(sync, Passport(name="ann"))
    with pytest.raises(ValueError, match="register_human"):
        await net.hc.register(echo, Passport(name="ann", kind="human"))
    with pytest.raises(ValueError, match="concurrency"):
        await net.hc.register(echo, Passport(name="ann"), concurrency=0)
    with pytest.raises(ValueError, match="no agent"):
        await net.hc.register(42, Passport(name="ann"))
    assert not net.hc.clients
