"""A store that fails: nothing is half done, whoever waits is told, and the hub goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
import trio

from agorio.actors.sessions.identity import Resume
from agorio.actors.sessions.rule import InboxBlock, Rule
from agorio.hub.stores.protocol import Append, Change, KnowledgeStore
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import AgorioError, StoreError
from tests.hub.conftest import OpenNetwork
from tests.hub.network import Network, accept_next, converse, settle
from tests.hub.stores import FailingStore, SlowStore

Wrap = Callable[[FailingStore], KnowledgeStore]
WRAPS: dict[str, Wrap] = {"at once": lambda store: store, "slowly": SlowStore}


@pytest.fixture(params=list(WRAPS))
def wrap(request: pytest.FixtureRequest) -> Wrap:
    """With a medium and without."""
    return WRAPS[request.param]


@pytest.fixture
def network_kind() -> str:
    """Every test here brings its own store, which does not see the link."""
    return "local"


def about(text: bytes) -> Callable[[Sequence[Change]], bool]:
    """Commits that append a record with this text in it."""
    return lambda changes: any(isinstance(c, Append) and any(text in body for body in c.bodies) for c in changes)


async def scenario(net: Network, note: Callable[[str, AgorioError | None], None]) -> None:
    """A bit of everything; every step may fail, and the next is tried all the same."""

    async def attempt(name: str, call: Any, *args: Any, **options: Any) -> Any:
        try:
            result = await call(*args, **options)
        except AgorioError as error:
            note(name, error)
            return None
        note(name, None)
        return result

    alice = await attempt("register", net.agent, "alice", attach=True)
    bob = await attempt("register", net.agent, "bob", attach=True, rule=Rule(inbox=InboxBlock(3)))
    if alice is None or bob is None:
        return
    await attempt("resume", alice.set_resume, Resume(summary="x"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quietly, accept_next, bob)
        session = await attempt("open", alice.open, target="bob", invite_ack_timeout=30)
    if session is None:
        return
    for number in range(4):
        await attempt("send", session.send, str(number))
    other = await attempt("handle", bob.session, session.session_id)
    if other is not None:
        await attempt("reply", other.send, "re")
    await attempt("close", session.close)
    await attempt("unregister", bob.unregister)


async def quietly(call: Any, *args: Any) -> None:
    try:
        await call(*args)
    except (AgorioError, TimeoutError):
        return  # the opener is told


@pytest.mark.parametrize("error", [StoreError("the disk is full"), OSError(28, "No space left")], ids=["typed", "os"])
@pytest.mark.parametrize("number", range(1, 26))
async def test_the_nth_commit_fails(open_network: OpenNetwork, wrap: Wrap, number: int, error: Exception) -> None:
    failing = FailingStore()
    store = wrap(failing)
    told: list[AgorioError] = []
    done: list[str] = []
    async with open_network(store, expectation_sweep_interval=0) as net:
        failing.error, failing.countdown = error, number
        await scenario(net, lambda name, refusal: told.append(refusal) if refusal else done.append(name))
        await settle()
        failed, failing.countdown = failing.failed, 0
        await net.check()
        assert net.hub.statistics().total_failed_commits == failed
        alice, bob = await net.agent("alice", attach=True), await net.agent("carol")
        fresh = await converse(alice, bob)
        await fresh.send("works")
        assert (await bob.wait_for_session_event(fresh.session_id, timeout=5)).text == "works"
        await settle()
        await net.check()
        live = {m.session_id: m for m in await net.hub.list_sessions()}
        pending = {info.name: info.pending for info in net.hub.agents()}
    store = wrap(failing)
    async with open_network(store) as net:
        assert {m.session_id: m for m in await net.hub.list_sessions()} == live
        assert {info.name: info.pending for info in net.hub.agents()} == pending
        assert net.hub.health().status == "ok"
        await net.check()
    assert all(isinstance(refusal, AgorioError) for refusal in told)


async def test_a_send_that_cannot_be_stored(open_network: OpenNetwork, wrap: Wrap) -> None:
    failing = FailingStore()
    async with open_network(wrap(failing)) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob", rule=Rule(inbox=InboxBlock(2)))
        session = await converse(alice, bob)
        await session.send("before")
        failing.refuses = about(b"lost")
        before = await net.picture()
        for _ in range(5):
            with pytest.raises(StoreError, match="disk is full"):
                await session.send("lost", idempotency_key="k")
        await settle()
        assert await net.picture() == before
        assert net.hub.health().status == "degraded"
        failing.refuses = None
        retried = await session.send("lost", idempotency_key="k")
        assert retried.sequence == 5
        assert await net.texts(session.session_id) == ["before", "lost"]
        assert net.pending("bob") == 2
        await net.check()


async def test_what_followed_a_lost_one_is_told_so_and_hurts_nobody_after_it(open_network: OpenNetwork) -> None:
    failing = FailingStore(about(b"lost"))
    async with open_network(SlowStore(failing)) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        outcomes: dict[str, Any] = {}

        async def send(text: str, delay: float) -> None:
            await trio.sleep(delay)
            try:
                outcomes[text] = (await session.send(text)).sequence
            except AgorioError as error:
                outcomes[text] = type(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "lost", 0)
            nursery.start_soon(send, "on top of it", 0.005)
            for number in range(20):
                nursery.start_soon(send, f"after {number}", 0.012 + number * 0.004)
        assert (outcomes["lost"], outcomes["on top of it"]) == (StoreError, StoreError)
        accepted = [value for value in outcomes.values() if isinstance(value, int)]
        assert sorted(accepted) == list(range(4, 24))
        assert len(await net.texts(session.session_id)) == 20
        await net.check()


async def test_an_opening_that_cannot_be_stored(open_network: OpenNetwork, wrap: Wrap) -> None:
    failing = FailingStore()
    async with open_network(wrap(failing)) as net:
        alice, _ = await net.agent("alice"), await net.agent("bob")
        failing.refuses = about(b"session.invite")
        before = await net.picture()
        begin = trio.current_time()
        with pytest.raises(StoreError, match="disk is full"):
            await alice.open(target="bob")
        assert trio.current_time() - begin < 1
        await settle()
        assert await net.picture() == before
        assert net.hub.statistics().current_sessions == 0
        assert [info.open_sessions for info in net.hub.agents()] == [0, 0]
        await trio.sleep(100)
        assert await net.picture() == before


async def test_an_end_that_cannot_be_stored(open_network: OpenNetwork, wrap: Wrap) -> None:
    failing = FailingStore()
    async with open_network(wrap(failing), ttl_sweep_interval=10) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob, ttl=60)
        failing.refuses = about(b"ag2.session.")
        by_operator = partial(net.hub.close_session, session.session_id)
        closings: list[Callable[[], Awaitable[object]]] = [session.close, by_operator]
        for close in closings:
            with pytest.raises(StoreError):
                await close()
        assert (await session.info()).state == "active"
        await trio.sleep(100)
        assert (await session.info()).state == "active"
        failing.refuses = None
        await trio.sleep(100)
        assert (await session.info()).state == "expired", "the next sweep tries again"
        await net.check()


async def test_a_registration_that_cannot_be_stored(open_network: OpenNetwork, wrap: Wrap) -> None:
    failing = FailingStore()
    async with open_network(wrap(failing)) as net:
        await net.agent("alice")
        failing.refuses = about(b"agent_registered")
        before = await net.picture()
        with pytest.raises(StoreError):
            await net.agent("bob")
        assert await net.picture() == before
        assert "bob" not in net.hc.clients
        failing.refuses = None
        await net.agent("bob")


async def test_a_lost_audit_record_is_counted(open_network: OpenNetwork, wrap: Wrap) -> None:
    failing = FailingStore()
    async with open_network(wrap(failing)) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob", rule=Rule(inbox=InboxBlock(1)))
        session = await converse(alice, bob)
        await session.send("one")
        failing.refuses = about(b"denied")
        with pytest.raises(AgorioError, match="1 of 1"):
            await session.send("two")
        await settle()
        assert any("audit" in reason for reason in net.hub.health().reasons)
        failing.refuses = None


async def test_a_sender_whose_payload_cannot_be_encoded_holds_no_slot(open_network: OpenNetwork) -> None:
    """Whatever fails between admission and the log gives back what admission took."""
    async with open_network(FailingStore()) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob", rule=Rule(inbox=InboxBlock(1)))
        session = await converse(alice, bob)
        odd = Envelope(session.session_id, alice.agent_id, event_data={"text": "x"})
        object.__setattr__(odd, "trace_id", object())
        for _ in range(3):
            with pytest.raises(AgorioError):
                await alice.send_envelope(odd)
        await settle()
        assert net.pending("bob") == 0
        await session.send("fine")
        await net.check()
