"""Listeners: who is told what has happened, each at its own pace.

Every listener is a supervised actor with a bounded mailbox: a slow one loses its oldest events and is told how many, a
failing one is restarted after a rest, and neither holds up the hub or another listener. With nobody listening, an event
costs the hub one look at an empty table.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import attrs

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.child import Backoff, Child
from ..actors.runtime.ref import Ref
from ..actors.runtime.supervisor import Supervisor
from ..mailbox.errors import ActorStopped, InvalidInput
from .events import EVENTS, ActorRestarted, EventsMissed, HubEvent

GROUP = "listeners"
CAPACITY = 1000

Listen: TypeAlias = Callable[[Any], Awaitable[None] | None]


@runtime_checkable
class Listener(Protocol):
    """An object that listens: `hub.register_listener(listener)`."""

    def on_event(self, event: HubEvent, /) -> Awaitable[None] | None:
        """Take note of an event. May be async; a sync one must be quick, it runs on the hub's own loop."""


class ListenerActor(Actor):
    """Calls one listener, event by event."""

    def __init__(self, listen: Listen, missed: Callable[[int], int]) -> None:
        self._listen = listen
        self._missed = missed

    async def receive(self, message: Any, ctx: Context) -> None:
        """Tell of the losses first, then of the event. If cancelled: the listener was cancelled in the middle."""
        lost = self._missed(ctx.ref.statistics().total_dropped)
        if lost:
            await self._tell(EventsMissed(lost))
        await self._tell(message)

    async def _tell(self, event: Any) -> None:
        result = self._listen(event)
        if inspect.isawaitable(result):
            await result


@attrs.define(eq=False)
class Subscribed:
    """A listener's place at the hub."""

    name: str
    """Its name in the supervision tree."""
    kinds: tuple[type, ...]
    """What it is told of."""
    ref: Ref
    """Its actor."""
    _listeners: Listeners
    _dropped: int = 0

    def unsubscribe(self) -> None:
        """Take no more events; what is queued is still told. Doing it again does nothing."""
        self._listeners.remove(self)

    def missed(self, total: int) -> int:
        """How many events were lost since the last call."""
        lost, self._dropped = total - self._dropped, total
        return lost


class Listeners:
    """Who listens to what."""

    def __init__(self) -> None:
        self._by_kind: dict[type, tuple[Subscribed, ...]] = {}
        self._names = 0
        self.group: Supervisor | None = None
        self.grace = 5.0

    def __bool__(self) -> bool:
        return bool(self._by_kind)

    def wants(self, kind: type) -> bool:
        """Whether anybody listens to this kind: saves making the event."""
        return kind in self._by_kind

    def add(self, listen: Listen, kinds: tuple[type, ...], *, capacity: int = CAPACITY, name: str = "") -> Subscribed:
        """Start a listener. Raises `InvalidInput` for what is no event, `NameTaken` for a name in use."""
        _check(listen, kinds)
        assert self.group is not None
        self._names += 1
        name = name or f"listener-{self._names}"
        places: list[Subscribed] = []
        child = Child(
            name,
            lambda: ListenerActor(listen, lambda total: places[0].missed(total)),
            grace=self.grace,
            capacity=capacity,
            overflow="drop_oldest",
            backoff=Backoff(min=0.1, max=30.0),
            max_restarts=1_000_000,
        )
        place = Subscribed(name, kinds or EVENTS, self.group.start_soon(child), self)
        places.append(place)
        for kind in place.kinds:
            self._by_kind[kind] = (*self._by_kind.get(kind, ()), place)
        return place

    def remove(self, place: Subscribed) -> None:
        """Stop a listener."""
        for kind in place.kinds:
            left = tuple(other for other in self._by_kind.get(kind, ()) if other is not place)
            if left:
                self._by_kind[kind] = left
            else:
                self._by_kind.pop(kind, None)
        if self.group is not None and place.name in self.group:
            self.group.stop_soon(place.name)

    def publish(self, event: HubEvent) -> None:
        """Tell everybody who listens to this kind of event. Never waits."""
        for place in self._by_kind.get(type(event), ()):
            if isinstance(event, ActorRestarted) and event.actor == place.ref.path:
                continue  # a listener that fails on its own restart would go on for ever
            try:
                place.ref.tell(event)
            except ActorStopped:
                self.remove(place)


def _check(listen: Listen, kinds: tuple[type, ...]) -> None:
    if not callable(listen):
        raise InvalidInput(f"{listen!r} is no function; for an object use register_listener(obj)", field="listener")
    for kind in kinds:
        if kind not in EVENTS:
            known = ", ".join(event.__name__ for event in EVENTS)
            raise InvalidInput(f"{kind!r} is no kind of hub event; there are: {known}", field="kinds")
