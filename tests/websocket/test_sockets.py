"""The same over sockets of 127.0.0.1: what in-memory streams cannot show."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from agorio import EV_TEXT, Envelope, Hub, HubClient, MemoryKnowledgeStore, Passport, WebsocketServer, WsLink, serve_ws
from agorio.actors.sessions.identity import AuthBlock
from agorio.hub.auth import AuthRegistry
from agorio.hub.auth_hmac import HmacAuth
from agorio.mailbox.errors import AuthError, InvalidInput, LinkError
from agorio.transports.reconnect import Reconnect
from tests.websocket.raw import HELLO, RawPeer, handshake, ws_frame

# Real sockets need the system's time; nothing here waits for a deadline unless something is broken.
AT_MOST = 30


def url(server: WebsocketServer, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{server.port}"


async def shout(text: str) -> str:
    return text.upper()


async def converse(hc: HubClient, text: str) -> None:
    alice = await hc.register(shout, Passport("alice"), attach_plugin=False, attach=True)
    await hc.register(shout, Passport("bob"), attach=True)
    session = await alice.open("conversation", "bob")
    assert (await session.ask(text)).text == text.upper()


async def test_a_conversation() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            async with HubClient(WsLink(url(server))) as hc:
                await converse(hc, "grüße 🎉")
                seen = [hc.is_connected]
            assert [*seen, hc.is_connected] == [True, False]
            assert server.statistics().total_connections == 1
            assert server.statistics().total_faults == 0


async def test_what_ends_a_library_server_ends_one_connection_here() -> None:
    attacks = (
        b"GET / HTTP/1.1\r\n\r\n",
        handshake(b"Sec-WebSocket-Extensions: \xff"),
        handshake(protocol=b"\xff"),
        handshake() + b"\xff" * 100,
        b"\x16\x03\x01\x00\xa5\x01\x00",
        b"",
    )
    with trio.fail_after(AT_MOST):
        async with (
            Hub.open(MemoryKnowledgeStore()) as hub,
            serve_ws(hub) as server,
            HubClient(WsLink(url(server), reconnect=None)) as hc,
        ):
            await converse(hc, "before")
            for number in range(60):
                await probe(server.port, attacks[number % len(attacks)], reset=number % 2 == 0)
            await converse(hc, "after")
            async with HubClient(WsLink(url(server))) as other:
                await other.register(shout, Passport("carol"))


async def probe(port: int, data: bytes, *, reset: bool) -> None:
    """Connect, say something, and go, with a reset or without."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    if reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if data:
        await stream.send_all(data)
    await stream.aclose()


async def test_a_large_message_is_told_so_before_the_end() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port))
            await peer.say(handshake())
            await peer.until(b"\r\n\r\n")
            await peer.say(HELLO + ws_frame(b"x" * 3_000_000))
            assert (1009).to_bytes(2, "big") in await peer.to_the_end()
            await peer.stream.aclose()


async def test_the_server_says_goodbye() -> None:
    reasons: list[str] = []
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, trio.open_nursery() as nursery:
            async with serve_ws(hub) as server:
                link = WsLink(url(server), reconnect=Reconnect(give_up_after=0.1))
                hc = HubClient(link, on_link=lambda change: reasons.append(change.reason))
                ready = trio.Event()

                async def stay() -> None:
                    async with hc:
                        await hc.register(shout, Passport("alice"))
                        ready.set()
                        while hc.is_connected:
                            await trio.sleep(0.01)

                nursery.start_soon(stay)
                await ready.wait()
        assert any("the server is closing" in reason for reason in reasons)


@pytest.mark.parametrize("host", ["0.0.0.0", None])
async def test_a_hub_without_proof_is_not_shown_to_others(host: str | None) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        with pytest.raises(AuthError, match="allow_unauthenticated"):
            async with serve_ws(hub, host, 0):
                pass
        async with serve_ws(hub, host, 0, allow_unauthenticated=True):
            pass
    async with Hub.open(MemoryKnowledgeStore(), auth=AuthRegistry(HmacAuth({"a": "b"}))) as hub, serve_ws(hub, host, 0):
        pass


async def test_an_unproven_identity_gets_nowhere() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore(), auth=AuthRegistry(HmacAuth({"alice": "secret"}))) as hub:
            async with serve_ws(hub) as server, HubClient(WsLink(url(server))) as hc:
                with pytest.raises(AuthError):
                    await hc.register(shout, Passport("alice"))
                with pytest.raises(AuthError):
                    await hc.register(shout, Passport("alice", auth=AuthBlock("hmac", {"answer": "guess"})))


@pytest.mark.parametrize("address", ["http://x", "ws://", "ws://host:0x1", "ws://host:99999", "nonsense", 5])
def test_addresses_that_are_none(address: Any) -> None:
    with pytest.raises(InvalidInput):
        WsLink(address)


async def test_nobody_there_and_somebody_else_there() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub) as server:
            port = server.port
            link = WsLink(url(server), headers=((b"Origin", b"https://evil.example"),))
            with pytest.raises(LinkError, match="403"):
                await link.client().open()
        with pytest.raises(LinkError, match="cannot be reached"):
            await WsLink(f"ws://127.0.0.1:{port}").client().open()


async def test_an_allowed_origin() -> None:
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub, origins=["https://good.example"]) as server:
            link = WsLink(url(server), headers=((b"Origin", b"https://good.example"),)).client()
            await link.open()
            await link.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, made for this test."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "hub.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hub"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "cert")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "cert").read_bytes())
    return path


async def test_tls(certificate: Path) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=str(certificate.parent / "cert"))
    with trio.fail_after(AT_MOST):
        async with Hub.open(MemoryKnowledgeStore()) as hub, serve_ws(hub, ssl_context=served) as server:
            with pytest.raises(LinkError):
                await WsLink(url(server, "wss")).client().open()
            with pytest.raises(LinkError):
                await WsLink(url(server)).client().open()
            async with HubClient(WsLink(url(server, "wss"), ssl_context=trusted)) as hc:
                await converse(hc, "in private")


async def test_a_backlog_shares_messages() -> None:
    handled: list[Envelope] = []
    done = trio.Event()

    async def handle(envelope: Envelope) -> None:
        if envelope.event_type == EV_TEXT:
            handled.append(envelope)
            if len(handled) == 400:
                done.set()

    with trio.fail_after(AT_MOST):
        async with (
            Hub.open(MemoryKnowledgeStore()) as hub,
            serve_ws(hub) as server,
            HubClient(WsLink(url(server))) as hc,
        ):
            alice = await hc.register(shout, Passport("alice"), attach_plugin=False)
            await hc.register(None, Passport("bob"), handler=handle)
            session = await alice.open("conversation", "bob")
            async with trio.open_nursery() as nursery:
                for number in range(400):
                    nursery.start_soon(session.send, str(number))
            await done.wait()
    assert sorted(int(one.text) for one in handled) == list(range(400))
    assert [one.sequence for one in handled] == sorted(one.sequence for one in handled)
