"""The one arbiter: every gate is asked before the fact, and a gate that fails refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest

from agorio import (
    AccessDeniedError,
    AgentClient,
    Arbiter,
    Envelope,
    NetworkError,
    Passport,
    ProtocolError,
    RateLimited,
    Rule,
    Session,
    SessionSetup,
)
from tests.hub.network import Network, converse, settle


@attrs.define
class Recorder(Arbiter):
    """Remembers what it was asked, and answers with what it was told to."""

    asked: list[tuple[str, str]] = attrs.Factory(list)
    answers: dict[str, Any] = attrs.Factory(dict)

    def _answer(self, gate: str, about: str) -> NetworkError | None:
        self.asked.append((gate, about))
        answer = self.answers.get(gate)
        if isinstance(answer, type):
            raise answer(f"no {gate} today")
        result: NetworkError | None = answer
        return result

    def authorize_register(self, passport: Passport, rule: Rule) -> NetworkError | None:
        return self._answer("register", passport.name)

    def authorize_session(self, creator: Passport, setup: SessionSetup) -> NetworkError | None:
        return self._answer("session", f"{creator.name} {setup.manifest.type}")

    def authorize_send(self, envelope: Envelope, sender: Passport, recipients: Sequence[str]) -> NetworkError | None:
        return self._answer("send", f"{sender.name} {envelope.text} {len(recipients)}")

    def authorize_delivery(self, envelope: Envelope, recipient: Passport) -> NetworkError | None:
        return self._answer("delivery", f"{envelope.text} {recipient.name}")

    def authorize_close(self, session_id: str, agent: Passport) -> NetworkError | None:
        return self._answer("close", agent.name)


async def echo(text: str) -> str:
    return ""


async def pair(net: Network) -> tuple[AgentClient, AgentClient]:
    return await net.agent("ann"), await net.agent("bob", echo)


async def test_every_gate_is_asked_and_only_members_close_through_it(open_network: Any) -> None:
    arbiter = Recorder()
    async with open_network(arbiter=arbiter) as net:
        ann, bob = await pair(net)
        session = await converse(ann, bob)
        await session.send("hi")
        await session.close()
        other = await converse(ann, bob)
        await net.hub.close_session(other.session_id)
        await net.hc.register(None, Passport("ann"), attach=True, attach_plugin=False)
    assert arbiter.asked == [
        ("register", "ann"),
        ("register", "bob"),
        ("session", "ann conversation"),
        ("send", "ann hi 1"),
        ("delivery", "hi bob"),
        ("close", "ann"),
        ("session", "ann conversation"),
        ("register", "ann"),
    ]


ACTS: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "close": lambda session: session.close(),
    "send": lambda session: session.send("hi"),
    "delivery": lambda session: session.send("hi"),
}
GATES = ["register", "session", "send", "delivery", "close"]


async def knock(net: Network, arbiter: Recorder, gate: str, answer: Any) -> NetworkError:
    """Bring the network to where the gate is asked, and return its refusal."""
    if gate == "register":
        arbiter.answers[gate] = answer
        with pytest.raises(NetworkError) as caught:
            await net.agent("ann")
        return caught.value
    ann, bob = await pair(net)
    session = await converse(ann, bob) if gate != "session" else None
    before = await net.picture()
    arbiter.answers[gate] = answer
    with pytest.raises(NetworkError) as caught:
        await (ann.open("conversation", "bob") if session is None else ACTS[gate](session))
    await settle()
    assert await net.picture() == before
    return caught.value


@pytest.mark.parametrize("gate", GATES)
async def test_a_refusal_keeps_its_type_and_reason_and_is_audited_with_the_actor(open_network: Any, gate: str) -> None:
    arbiter = Recorder()
    async with open_network(arbiter=arbiter) as net:
        error = await knock(net, arbiter, gate, RateLimited("come back tomorrow", retry_after=86400.0))
        assert isinstance(error, RateLimited)
        assert (str(error), error.retry_after) == ("come back tomorrow", 86400.0)
        (record,) = await net.audit("denied")
        assert (record.name, record.code, record.reason) == ("ann", "rate_limited", "come back tomorrow")


@pytest.mark.parametrize("gate", GATES)
async def test_a_refusal_may_be_raised(open_network: Any, gate: str) -> None:
    arbiter = Recorder()
    async with open_network(arbiter=arbiter) as net:
        assert type(await knock(net, arbiter, gate, ProtocolError)) is ProtocolError


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("answer", [ZeroDivisionError, True, "no"])
async def test_a_gate_that_fails_refuses_and_is_reported(
    open_network: Any, gate: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    arbiter = Recorder()
    async with open_network(arbiter=arbiter) as net:
        error = await knock(net, arbiter, gate, answer)
        assert type(error) is AccessDeniedError
        assert f"authorize_{gate}" in str(error)
        assert net.hub._open_services().crashes
        arbiter.answers.clear()
        await net.agent("carol")  # the hub goes on
        assert net.hub.health().status == "ok"


async def test_an_async_gate_refuses_instead_of_never_being_awaited(open_network: Any) -> None:
    class Late(Arbiter):
        async def authorize_register(self, passport: Passport, rule: Rule) -> None:  # type: ignore[override]
            return None

    async with open_network(arbiter=Late()) as net:
        with pytest.raises(AccessDeniedError, match="coroutine"):
            await net.agent("ann")


async def test_a_refused_delivery_takes_no_slot_and_no_token(open_network: Any) -> None:
    arbiter = Recorder()
    async with open_network(arbiter=arbiter) as net:
        ann, bob = await net.agent("ann"), await net.agent("bob")
        session = await converse(ann, bob)
        arbiter.answers["delivery"] = AccessDeniedError("not to bob")
        for _ in range(3):
            with pytest.raises(AccessDeniedError):
                await session.send("hi")
        assert net.pending("bob") == 0
