"""What a reconnect costs and what it does not: one identity, a wait for a task, a question that was never sent."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from agorio import AuthError, Hub, HubClient, LinkClosed, MemoryKnowledgeStore, Passport, SessionClosedError, Superseded
from agorio.actors.sessions.credentials import Challenge, HmacCredentials
from agorio.actors.sessions.identity import AuthBlock
from agorio.actors.sessions.wire import WIRE
from agorio.hub.auth import AuthRegistry
from agorio.hub.auth_hmac import HmacAuth
from agorio.mailbox.envelope import Envelope
from agorio.transports.frames import SubscribeFrame
from agorio.transports.limits import Limits
from agorio.transports.websocket_server import WebsocketServer
from tests.websocket.memory import MemoryWsLink, eventually, open_memory_link
from tests.websocket.test_reconnecting import echo, ignore, scene


async def outcome_of(into: dict[str, Any], name: str, call: Any, *args: Any) -> None:
    try:
        into[name] = await call(*args)
    except Exception as error:
        into[name] = error


async def test_a_wait_for_a_task_goes_on_over_a_cut() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        bob = await stage.right.register(echo, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        done, outcomes = trio.Event(), dict[str, Any]()
        async with trio.open_nursery() as nursery:
            async with bob.task("slow work", session_id=session.session_id) as task:
                nursery.start_soon(outcome_of, outcomes, "waited", alice.wait_task, task.task_id)
                await trio.sleep(1)
                await stage.link.cut()
                await eventually(lambda: stage.link.opened == 4)
                done.set()
        assert outcomes["waited"].state == "completed"


async def test_a_cancel_request_after_a_cut_still_reaches_the_body_of_a_task() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        bob = await stage.right.register(echo, Passport("bob"), handler=ignore)
        session = await alice.open("conversation", "bob")
        async with bob.task("long work", session_id=session.session_id) as task:
            await stage.link.cut()
            await eventually(lambda: stage.link.opened == 4)
            await alice.cancel_task(task.task_id, "not needed any more")
            await trio.sleep(600)
        assert task.state == "cancelled"
        assert task.metadata.reason == "not needed any more"


async def test_what_was_never_sent_is_sent_later_whether_it_may_be_repeated_or_not() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        server, stage.link.server = stage.link.server, None
        await stage.link.cut()
        await eventually(lambda: not stage.left.is_connected)
        outcomes: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, outcomes, "skill", alice.set_skill, "# skill")
            await trio.sleep(5)
            stage.link.server = server
        assert outcomes["skill"] is None
        assert await stage.left.get_skill("alice") == "# skill"


async def test_what_was_sent_on_a_connection_that_failed_at_once_is_not_sent_twice() -> None:
    """The second connection takes it up and is lost before the answer: nobody knows whether it was carried out."""
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        server, stage.link.server = stage.link.server, None
        await stage.link.cut()
        await eventually(lambda: not stage.left.is_connected)
        outcomes: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, outcomes, "skill", alice.set_skill, "# skill")
            await trio.sleep(1)
            before = stage.hub.audit_log.anchor.sequence
            stage.link.mute_after = 3  # the handshake, the greeting, the identity; the answer does not get through
            stage.link.server = server
            await eventually(lambda: stage.hub.audit_log.anchor.sequence >= before + 2)
            stage.link.mute_after = None
            await stage.link.cut()
        assert isinstance(outcomes["skill"], LinkClosed)
        await eventually(lambda: stage.left.is_connected)
        await trio.sleep(1)
        assert len(await stage.hub.audit_log.read(kind="skill_set")) == 1


async def test_whoever_cannot_be_answered_any_more_hears_it_at_once() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        stage.link.freeze_answers()
        outcomes: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, outcomes, "skill", alice.set_skill, "# skill")
            await trio.sleep(1)
            server, stage.link.server = stage.link.server, None
            await stage.link.cut()
            await trio.sleep(1)
            assert isinstance(outcomes["skill"], LinkClosed)
            assert not stage.left.is_connected
            stage.link.server = server


async def test_another_connection_takes_an_identity_over() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        carol = await stage.left.register(echo, Passport("carol"), attach_plugin=False)
        await stage.right.register(echo, Passport("bob"))
        session = await alice.open("conversation", "bob")
        outcomes: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, outcomes, "wait", partial(session.wait, timeout=1000))
            await trio.sleep(1)
            again = await stage.right.register(echo, Passport("alice"), attach=True, attach_plugin=False)
        assert isinstance(outcomes["wait"], Superseded)
        assert "another connection" in str(outcomes["wait"])
        assert again.agent_id == alice.agent_id
        with pytest.raises(AuthError):
            await session.send("in whose name?")
        assert list(stage.left.clients.values()) == [carol]
        # The loser does not take it back when its connection is made again.
        await stage.link.cut()
        await eventually(lambda: stage.link.opened == 4)
        await trio.sleep(1)
        assert (await (await again.session(session.session_id)).ask("still me?")).text == "STILL ME?"
        assert (await carol.open("conversation", "bob")).session_id


async def test_an_identity_that_is_unregistered_elsewhere_is_told() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        await stage.right.register(echo, Passport("bob"))
        session = await alice.open("conversation", "bob")
        outcomes: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, outcomes, "wait", partial(session.wait, timeout=1000))
            await trio.sleep(1)
            await stage.hub.unregister(alice.agent_id)
        assert isinstance(outcomes["wait"], SessionClosedError)  # there was nobody left to talk to
        await eventually(lambda: not stage.left.clients)
        with pytest.raises(AuthError):
            await alice.set_skill("# nobody's")


class Fickle(HmacCredentials):
    """Credentials that stop to be computed."""

    is_broken = False

    def __call__(self, challenge: Challenge) -> AuthBlock:
        if self.is_broken:
            raise OSError("the key store is gone")
        return super().__call__(challenge)


@pytest.mark.parametrize("refusal", ["secret", "error"])
async def test_an_identity_that_is_refused_on_the_next_connection_is_lost_alone(refusal: str) -> None:
    known = HmacAuth({"alice": "a", "bob": "b"})
    async with scene(auth=AuthRegistry(known)) as stage:
        proof = Fickle("a")
        block = AuthBlock("hmac")
        alice = await stage.left.register(echo, Passport("alice", auth=block), credentials=proof, attach_plugin=False)
        bob = await stage.left.register(echo, Passport("bob", auth=block), credentials=HmacCredentials("b"))
        session = await alice.open("conversation", "bob")
        outcomes: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, outcomes, "wait", partial(session.wait, timeout=1000))
            await trio.sleep(1)
            if refusal == "error":
                proof.is_broken = True
            else:
                proof._secret = b"another"
            await stage.link.cut()
        assert isinstance(outcomes["wait"], AuthError)
        assert stage.left.is_connected
        assert list(stage.left.clients.values()) == [bob]
        with pytest.raises(AuthError):
            await session.send("no longer me")
        assert (await stage.left.get_passport("bob")).agent_id == bob.agent_id


async def test_a_hub_that_has_forgotten_everybody() -> None:
    """Another hub without the store: the name is made anew by the asking, and taken back."""
    async with trio.open_nursery() as nursery:
        link = MemoryWsLink(nursery)
        async with Hub.open(MemoryKnowledgeStore()) as first:
            link.server = WebsocketServer(first, WIRE, Limits(), ())
            async with HubClient(link) as hc:
                alice = await hc.register(echo, Passport("alice"), attach_plugin=False)
                async with Hub.open(MemoryKnowledgeStore()) as second:
                    link.server = WebsocketServer(second, WIRE, Limits(), ())
                    await link.cut()
                    with pytest.raises(LinkClosed, match="does not know 'alice' any more"):
                        await alice.set_skill("# anything")
                    await eventually(lambda: not second.agents())
        nursery.cancel_scope.cancel()


async def test_an_invitation_to_a_session_that_is_over_is_no_failure_of_the_handler() -> None:
    async with scene() as stage:
        alice = await stage.left.register(echo, Passport("alice"), attach_plugin=False)
        closing = trio.Event()

        async def dawdle(envelope: Envelope) -> None:
            await closing.wait()

        bob = await stage.right.register(None, Passport("bob"), handler=dawdle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, {}, "open", alice.open, "conversation", "bob")
            await trio.sleep(1)
            (pending,) = await stage.hub.list_sessions()
            await stage.hub.close_session(pending.session_id)
            closing.set()
        await trio.sleep(10)
        assert bob.statistics().total_failed == 0
        assert all(not info.pending for info in stage.hub.agents())


async def test_observers_of_a_closed_connection_are_not_kept() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, open_memory_link(hub) as link, HubClient(link) as hc:
        alice = await hc.register(echo, Passport("alice"), attach_plugin=False)
        await hc.register(echo, Passport("bob"))
        session = await alice.open("conversation", "bob")
        hc.connection.post(SubscribeFrame(1, session.session_id, alice.agent_id))
        table = hub._open_services().subscriptions._by_session  # the table itself is what must not grow
        await eventually(lambda: len(table) == 1)
        for _ in range(3):
            await link.cut()
            await eventually(lambda: hc.is_connected)
            await trio.sleep(1)
            assert [len(observers) for observers in table.values()] == [1]
        await hub.unregister(alice.agent_id)
        await eventually(lambda: not table)
