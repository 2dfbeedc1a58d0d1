"""What a link is: four methods on the agents' side, four on the hub's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from .frames import Frame

TURN: Final = 64  # frames that are handed on before everybody else gets a turn of the loop


def drain_of(frames: AsyncIterator[Frame]) -> Callable[[], Sequence[Frame]]:
    """What takes the frames that have arrived together with the one just taken, up to `TURN` in a row.

    An iterator of frames may offer it as `drain_nowait`: to wait for each frame by itself costs more than most of what
    is done with it. From one that does not, they come one by one.
    """
    drain: Any = getattr(frames, "drain_nowait", _nothing)
    return drain  # type: ignore[no-any-return]


def _nothing() -> Sequence[Frame]:
    return ()


@runtime_checkable
class LinkClient(Protocol):
    """The agents' end of a link. Other transports plug in here."""

    async def open(self) -> None:
        """Connect. Raises `LinkError` when the hub cannot be reached. If cancelled: not connected."""

    async def send_frame(self, frame: Frame) -> None:
        """Send one frame, in order. Raises `LinkClosed`. If cancelled: the frame was not sent."""

    def frames(self) -> AsyncIterator[Frame]:
        """The frames that arrive, until the link closes. One reader at a time."""

    async def close(self) -> None:
        """Close both directions; closing again does nothing. If cancelled: closed all the same."""


@runtime_checkable
class LinkEndpoint(Protocol):
    """The hub's end of a link."""

    kind: str
    """`local` or `websocket`, for the operator."""

    def send_nowait(self, frame: Frame) -> None:
        """Queue one frame, in order. Raises `LinkClosed`, also when the peer reads too slowly."""

    def frames(self) -> AsyncIterator[Frame]:
        """The frames that arrive, until the link closes."""

    def close_nowait(self, reason: str = "") -> None:
        """Close both directions at once."""

    def note_identities(self, count: int) -> None:
        """How many identities act over it now: a transport may be stricter with a peer that has proven none."""


@runtime_checkable
class Attended(Protocol):
    """An end of a link that can hand a frame over at once, where a frame takes no reading from a medium."""

    def attend(self, receive: Callable[[Frame], None]) -> None:
        """Whenever the reader of `frames` is asleep, a frame may be given to `receive` instead."""


@runtime_checkable
class LinkHost(Protocol):
    """What a link needs of a hub."""

    def accept_link(self, endpoint: LinkEndpoint) -> None:
        """Serve this endpoint until it closes. Raises `HubClosedError`."""


@runtime_checkable
class Link(Protocol):
    """A transport factory bound to a hub or an address."""

    def client(self) -> LinkClient:
        """A fresh, unopened agents' end."""
