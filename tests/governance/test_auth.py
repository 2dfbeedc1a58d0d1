"""Who may act under a name: schemes, challenges, tokens, and that no secret leaves the adapter."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from agorio import (
    AccessDeniedError,
    Arbiter,
    AuthBlock,
    AuthError,
    AuthRegistry,
    Challenge,
    HmacAuth,
    HmacCredentials,
    InvalidInput,
    JwtAuth,
    MemoryKnowledgeStore,
    NameTaken,
    NoAuth,
    Passport,
)
from agorio.actors.sessions.operations import AuthChallenge, GetAgent, Register
from tests.hub.network import Network, settle

CANARY = "canary-5f1d-never-shown"


def hmac_only(**secrets: str) -> AuthRegistry:
    return AuthRegistry(HmacAuth(secrets))


async def join(net: Network, name: str, credentials: Any = None, **options: Any) -> Any:
    return await net.hc.register(None, Passport(name), credentials=credentials, attach_plugin=False, **options)


def test_a_registry_takes_adapters_one_by_one_or_as_a_list() -> None:
    for registry in (AuthRegistry(NoAuth(), HmacAuth({})), AuthRegistry([NoAuth(), HmacAuth({})])):
        assert registry.schemes() == ("", "hmac")
    with pytest.raises(InvalidInput, match="already"):
        AuthRegistry(NoAuth(), NoAuth())
    with pytest.raises(InvalidInput, match="verify"):
        AuthRegistry(object())  # type: ignore[arg-type]


async def test_by_default_everybody_is_believed(open_network: Any) -> None:
    async with open_network() as net:
        assert (await join(net, "ann")).passport.auth == AuthBlock()


async def test_a_shared_secret_proves_a_name(open_network: Any) -> None:
    async with open_network(auth=hmac_only(ann="open sesame")) as net:
        ann = await join(net, "ann", HmacCredentials("open sesame"))
        assert ann.passport.auth == AuthBlock("hmac")
        assert (await net.hub.get_passport(ann.agent_id)).auth == AuthBlock("hmac")


@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_an_unknown_name_and_a_wrong_secret_are_answered_alike(open_network: Any, name: str) -> None:
    async with open_network(auth=hmac_only(ann="open sesame")) as net:
        with pytest.raises(AuthError) as caught:
            await join(net, name, HmacCredentials("open barley"))
        assert str(caught.value) == f"the credentials do not prove '{name}'"
        assert not net.hub.agents()


async def test_a_taken_name_is_told_only_to_who_has_proven_it(open_network: Any) -> None:
    async with open_network(auth=hmac_only(ann="right", bob="wrong")) as net:
        await join(net, "ann", HmacCredentials("right"))
        for name in ("ann", "bob"):
            with pytest.raises(AuthError, match="do not prove"):
                await join(net, name, HmacCredentials("neither"))
        with pytest.raises(NameTaken):
            await join(net, "ann", HmacCredentials("right"))


async def test_an_answer_is_good_once(open_network: Any) -> None:
    async with open_network(auth=hmac_only(ann="s")) as net:
        wire = await net.wire()
        answer = HmacCredentials("s")(await wire.request(AuthChallenge("ann", "hmac")))
        await wire.request(Register(Passport("ann"), credentials=answer))
        with pytest.raises(AuthError, match="do not prove"):
            await wire.request(Register(Passport("ann"), credentials=answer, attach=True))


async def test_an_answer_expires_on_the_hubs_clock(open_network: Any) -> None:
    async with open_network(auth=AuthRegistry(HmacAuth({"ann": "s"}, lifetime=10))) as net:
        wire = await net.wire()
        answer = HmacCredentials("s")(await wire.request(AuthChallenge("ann", "hmac")))
        await trio.sleep(10)
        with pytest.raises(AuthError, match="do not prove"):
            await wire.request(Register(Passport("ann"), credentials=answer))


@pytest.mark.parametrize("change", ["name", "nonce", "late"])
async def test_an_answer_is_good_for_its_own_question_only(open_network: Any, change: str) -> None:
    async with open_network(auth=hmac_only(ann="s", bob="s")) as net:
        wire = await net.wire()
        asked = await wire.request(AuthChallenge("bob" if change == "name" else "ann", "hmac"))
        nonce = {"name": asked.nonce, "nonce": "f" * 40, "late": "9" + asked.nonce}[change]
        answer = HmacCredentials("s")(Challenge("hmac", "ann", nonce, ""))
        with pytest.raises(AuthError, match="do not prove"):
            await wire.request(Register(Passport("ann"), credentials=answer))


async def test_questions_are_forgotten_and_used_answers_expire() -> None:
    adapter = HmacAuth({"ann": "s"}, lifetime=10)

    class Clock:
        now = 0.0

        def time(self) -> float:
            return self.now

    clock = Clock()
    adapter.use_clock(clock)
    for _ in range(100):
        adapter.challenge("ann")
    assert not adapter._used
    for _ in range(3):
        await adapter.verify(Passport("ann"), HmacCredentials("s")(adapter.challenge("ann")))
        clock.now += 20
    assert len(adapter._used) == 1


@pytest.mark.parametrize("is_async", [True, False])
async def test_secrets_may_be_looked_up(open_network: Any, is_async: bool) -> None:
    async def later(name: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return "s" if name == "ann" else None

    def now(name: str) -> bytes | None:
        return b"s" if name == "ann" else None

    lookup: Callable[[str], str | bytes | Awaitable[str | None] | None] = later if is_async else now
    async with open_network(auth=AuthRegistry(HmacAuth(lookup))) as net:
        await join(net, "ann", HmacCredentials("s"))
        with pytest.raises(AuthError):
            await join(net, "bob", HmacCredentials("s"))


@pytest.mark.parametrize("credentials", [None, AuthBlock("hmac"), AuthBlock("hmac", {"nonce": 1, "answer": None})])
async def test_no_answer_is_no_proof(open_network: Any, credentials: AuthBlock | None) -> None:
    async with open_network(auth=hmac_only(ann="s")) as net:
        with pytest.raises(AuthError):
            await join(net, "ann", credentials)


async def test_a_scheme_that_asks_nothing_says_so(open_network: Any) -> None:
    async with open_network() as net:
        wire = await net.wire()
        with pytest.raises(AuthError, match="asks no question"):
            await wire.request(AuthChallenge("ann", ""))
        with pytest.raises(AuthError, match="unknown"):
            await wire.request(AuthChallenge("ann", "hmac"))
        with pytest.raises(InvalidInput):
            await wire.request(AuthChallenge("*", ""))


async def test_the_proven_scheme_is_pinned_over_a_restart(open_network: Any) -> None:
    store = MemoryKnowledgeStore()
    auth = AuthRegistry(NoAuth(), HmacAuth({"ann": "s"}))
    async with open_network(store, auth=auth) as net:
        ann = await join(net, "ann", HmacCredentials("s"))  # the passport itself names no scheme
    async with open_network(store, auth=auth) as net:
        for credentials in (None, AuthBlock(""), HmacCredentials("other")):
            with pytest.raises(AuthError, match="do not prove"):
                await join(net, "ann", credentials, attach=True)
        again = await join(net, "ann", HmacCredentials("s"), attach=True)
        assert again.agent_id == ann.agent_id


async def test_a_name_of_no_scheme_cannot_be_taken_with_another(open_network: Any) -> None:
    async with open_network(auth=AuthRegistry(NoAuth(), HmacAuth({"ann": "s"}))) as net:
        await join(net, "ann")
        with pytest.raises(AuthError):
            await join(net, "ann", HmacCredentials("s"), attach=True)


async def test_a_failed_proof_is_audited_with_the_name(open_network: Any) -> None:
    async with open_network(auth=hmac_only(ann="s")) as net:
        with pytest.raises(AuthError):
            await join(net, "ann", HmacCredentials("t"))
        (record,) = await net.audit("denied")
        assert (record.name, record.op, record.code, record.agent_id) == ("ann", "register", "auth_failed", None)


def jwt_auth(**options: Any) -> AuthRegistry:
    pytest.importorskip("jwt")
    return AuthRegistry(JwtAuth("k" * 32, **options))


def token(net: Network, **claims: Any) -> AuthBlock:
    import jwt

    now = net.hub._open_services().clock.time()
    key, algorithm = claims.pop("key", "k" * 32), claims.pop("algorithm", "HS256")
    payload = {"sub": "ann", "exp": now + 60, **claims}
    signed = jwt.encode({k: v for k, v in payload.items() if v is not None}, key, algorithm=algorithm)
    return AuthBlock("jwt", {"token": signed})


async def test_a_token_proves_its_subject(open_network: Any) -> None:
    async with open_network(auth=jwt_auth()) as net:
        assert (await join(net, "ann", token(net))).name == "ann"


BAD: dict[str, dict[str, Any]] = {
    "another subject": {"sub": "bob"},
    "no subject": {"sub": None},
    "no end": {"exp": None},
    "over": {"exp": 1},
    "nonsense": {"exp": True},
    "not yet": {"nbf": 9_000_000_000},
    "another key": {"key": "x" * 32},
    "another algorithm": {"algorithm": "HS512", "key": "k" * 64},
    "unsigned": {"algorithm": "none", "key": None},
    "another issuer": {"iss": "elsewhere", "aud": "agorio"},
    "another audience": {"iss": "here", "aud": "other"},
    "no audience": {"iss": "here"},
}


@pytest.mark.parametrize("case", list(BAD))
async def test_a_bad_token_proves_nothing(open_network: Any, case: str) -> None:
    options = {"issuer": "here", "audience": "agorio"} if "issuer" in case or "audience" in case else {}
    async with open_network(auth=jwt_auth(**options)) as net:
        with pytest.raises(AuthError):
            await join(net, "ann", token(net, **BAD[case]))


async def test_a_token_ends_on_the_hubs_clock(open_network: Any) -> None:
    async with open_network(auth=jwt_auth(issuer="here", audience="agorio")) as net:
        good = token(net, iss="here", aud="agorio")
        await join(net, "ann", good)
        await trio.sleep(61)
        with pytest.raises(AuthError, match="expired"):
            await join(net, "ann", good, attach=True)


@pytest.mark.parametrize("algorithms", [(), ("none",), "HS256"])
def test_a_token_adapter_needs_algorithms(algorithms: Any) -> None:
    pytest.importorskip("jwt")
    with pytest.raises(InvalidInput, match="algorithms"):
        JwtAuth("k", algorithms=algorithms)


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ImportError, match=r"agorio\[jwt\]"):
        JwtAuth("k")


class Door:
    """An adapter of somebody's own, which talks too much."""

    scheme = "door"

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        password = credentials.claim["password"]
        if password == "bug" + CANARY:
            raise KeyError(password)
        if password != "open":
            raise AuthError(f"{password!r} is wrong", seen=password)


async def test_an_adapter_of_ones_own(open_network: Any) -> None:
    async with open_network(auth=AuthRegistry(Door())) as net:
        await join(net, "ann", AuthBlock("door", {"password": "open"}))
        with pytest.raises(AuthError) as caught:
            await join(net, "bob", AuthBlock("door", {"password": "wrong one"}))
        assert str(caught.value) == "the credentials do not prove 'bob'"
        assert not caught.value.details


async def test_no_claim_is_stored_logged_or_shown(
    open_network: Any, make_store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = make_store()
    shown: list[str] = []
    async with open_network(store, auth=AuthRegistry(Door(), NoAuth(), HmacAuth({"eve": CANARY}))) as net:
        net.hub.subscribe(lambda event: shown.append(repr(event)))
        for password in (CANARY, "bug" + CANARY):
            block = AuthBlock("door", {"password": password})
            shown.append(repr(Register(Passport("ann", auth=block), credentials=block)))
            with pytest.raises(AuthError) as caught:
                await join(net, "ann", block)
            shown.append(repr((caught.value, caught.value.details)))
        await net.hc.register(
            None,
            Passport("ann", auth=AuthBlock("", {"token": CANARY})),
            attach_plugin=False,
        )
        await join(net, "eve", HmacCredentials(CANARY))
        shown += [repr(await net.hub.list_agents()), repr(HmacCredentials(CANARY)), repr(net.hub.health())]
        await settle()
        shown += [str(dict(record)) for record in await net.audit()]
        documents = [document.body for document in await store.scan("")]
        streams = [record.body for record in await store.read("audit")]
    assert CANARY not in caplog.text
    assert CANARY not in "\n".join(shown)
    assert not [body for body in (*documents, *streams) if CANARY.encode() in body]


async def test_a_revoked_identity_acts_no_more(open_network: Any) -> None:
    secrets = {"ann": "s"}
    async with open_network(auth=AuthRegistry(HmacAuth(secrets))) as net:
        ann = await join(net, "ann", HmacCredentials("s"))
        del secrets["ann"]
        assert net.hub.detach("ann")
        assert not net.hub.detach("ann")
        with pytest.raises(Exception, match=r"link|taken|act as"):
            await ann.set_skill("x")
        other = await net.client()
        with pytest.raises(AuthError):
            await other.register(None, Passport("ann"), credentials=HmacCredentials("s"), attach=True)
        assert [info.connected for info in net.hub.agents()] == [False]
        assert (await net.audit("denied"))[0].reason == "revoked"


async def test_a_stranger_reads_nothing(open_network: Any) -> None:
    async with open_network() as net:
        await net.agent("ann")
        wire = await net.wire()
        with pytest.raises(AccessDeniedError):
            await wire.request(GetAgent("ann"))


async def test_two_that_register_one_name_at_once_with_different_schemes(open_network: Any) -> None:
    gate = trio.Event()

    class Slow:
        scheme = "slow"

        async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
            await gate.wait()

    async with open_network(auth=AuthRegistry(NoAuth(), Slow()), arbiter=Arbiter()) as net:
        errors: list[Exception] = []

        async def late() -> None:
            try:
                await join(net, "ann", AuthBlock("slow"), attach=True)
            except AuthError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await settle()
            await join(net, "ann")
            gate.set()
        assert len(errors) == 1
