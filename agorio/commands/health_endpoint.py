"""The health endpoint of `agorio serve`: HTTP for load balancers and orchestrators, on an address of its own.

200 says that the hub is well, 503 that it is degraded, and why. Nothing else can be asked, and whoever asks slowly or
asks for much is hung up on. It is not the agents' port, so that it need not be shown to whom that one is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
import trio

from ..hub.hub import Hub

MAX_REQUEST: Final = 8192
MAX_AT_ONCE: Final = 64
PATIENCE: Final = 5.0
GONE: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class HealthEndpoint:
    """Answers for one hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._asking = 0

    async def serve(self, host: str, port: int, *, task_status: trio.TaskStatus[int]) -> None:
        """Listen; the port is what starting it returns. Raises `OSError`. If cancelled: nobody is answered any more."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        bound: int = listeners[0].socket.getsockname()[1]
        task_status.started(bound)
        await trio.serve_listeners(self.answer, listeners)

    async def answer(self, stream: trio.abc.Stream) -> None:
        """One request, one answer. If cancelled: it is not answered."""
        if self._asking >= MAX_AT_ONCE:
            await trio.aclose_forcefully(stream)
            return
        self._asking += 1
        try:
            with trio.move_on_after(PATIENCE):
                request = await read_head(stream)
                await stream.send_all(self.respond(request))
                await stream.aclose()
        except GONE:
            return  # whoever asked has not waited for the answer
        finally:
            self._asking -= 1
            await trio.aclose_forcefully(stream)

    def respond(self, request: bytes) -> bytes:
        """The answer to the head of a request."""
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return response("405 Method Not Allowed", {"error": "use GET"})
        if path not in (b"/", b"/health"):
            return response("404 Not Found", {"error": "there is /health"})
        health = self._hub.health()
        told = {"status": health.status, "reasons": health.reasons}
        answer = response("200 OK" if health.status == "ok" else "503 Service Unavailable", told)
        return answer if method == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def response(status: str, body: Mapping[str, object]) -> bytes:
    """An HTTP response that ends the connection."""
    data = msgspec.json.encode(body) + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return f"{head}Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode() + data


async def read_head(stream: trio.abc.Stream) -> bytes:
    """A request's line and headers, up to so many bytes. If cancelled: what was read is lost."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_REQUEST:
        data = await stream.receive_some(MAX_REQUEST)
        if not data:
            break
        head += data
    return head


async def open_health(nursery: trio.Nursery, hub: Hub, host: str, port: int) -> int:
    """Answer for a hub as long as the nursery is open; the port. Raises `OSError`. If cancelled: not opened."""
    bound: int = await nursery.start(partial(HealthEndpoint(hub).serve, host, port))
    return bound
