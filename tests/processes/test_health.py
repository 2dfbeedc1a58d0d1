"""The health endpoint: HTTP, for whoever keeps watch over a hub without being one of its agents."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from agorio import Hub, MemoryKnowledgeStore
from agorio.commands.health_endpoint import MAX_AT_ONCE, MAX_REQUEST, PATIENCE, HealthEndpoint
from tests.commands.processes import Program, agorio, url_in

CONFIG = "[listen]\nport = 0\n[health]\nport = {port}\n"


@pytest.mark.slow
def test_a_served_hub_tells_how_it_is(start: Callable[..., Program], tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(CONFIG.format(port=0))
    hub = start("serve", "--config", path)
    url = hub.wait_line("its health at").split()[-1]
    hub_url = url_in(hub.wait_line("a hub at"))
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.status == 200
        assert json.load(answer) == {"status": "ok", "reasons": []}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url + "/secrets", timeout=30)
    assert agorio("health", "--hub", hub_url).stdout.startswith("ok: ")
    assert hub.stop() == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=30)


@pytest.mark.slow
def test_its_port_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path.write_text(CONFIG.format(port=port))
        done = agorio("serve", "--config", path, code=2)
    assert done.stderr == f"agorio serve: health: 127.0.0.1, port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /health HTTP/1.1", b"200"),
        (b"GET /health?verbose HTTP/1.0", b"200"),
        (b"HEAD / HTTP/1.1", b"200"),
        (b"GET /etc/passwd HTTP/1.1", b"404"),
        (b"POST /health HTTP/1.1", b"405"),
        (b"\xff\x00", b"405"),
        (b"", b"405"),
    ],
)
async def test_what_may_be_asked(request_line: bytes, status: bytes) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        head, _, body = HealthEndpoint(hub).respond(request_line + b"\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        assert bool(body) is not request_line.startswith(b"HEAD")


async def test_a_degraded_hub_says_so() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hub._open_services().quarantined["registry/x"] = "unreadable"
        answer = HealthEndpoint(hub).respond(b"GET /health HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["reasons"] == ["registry/x is set aside"]


async def test_slow_and_endless_requests_are_hung_up_on(autojump_clock: object) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, trio.open_nursery() as nursery:
        endpoint = HealthEndpoint(hub)
        near, far = memory_stream_pair()
        start = trio.current_time()
        nursery.start_soon(endpoint.answer, far)
        await near.send_all(b"GET")
        assert await near.receive_some() == b""
        assert trio.current_time() - start == pytest.approx(PATIENCE)
        near, far = memory_stream_pair()
        nursery.start_soon(endpoint.answer, far)
        await near.send_all(b"x" * (MAX_REQUEST + 1))
        assert (await near.receive_some()).startswith(b"HTTP/1.1 405 ")


async def test_a_flood_is_turned_away(autojump_clock: object) -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub, trio.open_nursery() as nursery:
        endpoint = HealthEndpoint(hub)
        held = []
        for _ in range(MAX_AT_ONCE):
            near, far = memory_stream_pair()
            held.append(near)
            nursery.start_soon(endpoint.answer, far)
        await trio.testing.wait_all_tasks_blocked()
        near, far = memory_stream_pair()
        await endpoint.answer(far)
        assert await near.receive_some() == b""
        await held[0].send_all(b"GET /health HTTP/1.1\r\n\r\n")
        assert (await held[0].receive_some()).startswith(b"HTTP/1.1 200 ")
