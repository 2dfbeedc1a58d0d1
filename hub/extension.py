"""What a program adds to its hub: listeners, sweepers, session types, expectations and reactions of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..actors.runtime.supervisor import Supervisor
from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.expectations import Evaluator
from ..mailbox.errors import AuthError, InvalidInput
from ..mailbox.events import AUDIT_KIND_DENIED
from .expectations import Reaction
from .listeners import CAPACITY, Listen, Listener, Subscribed
from .sweepers import sweeper_child

if TYPE_CHECKING:
    from .services import Services


class Extensible:
    """The part of a hub that can be extended while it runs."""

    def _open_services(self) -> Services:
        raise NotImplementedError

    def _require_top(self) -> Supervisor:
        raise NotImplementedError

    # Listeners.

    def subscribe(self, listen: Listen, *kinds: type, capacity: int = CAPACITY, name: str = "") -> Subscribed:
        """Call a function, async or quick, with every event of these kinds, or of all; returns how to stop.

        It runs as a supervised actor with `capacity` events waiting at most: too slow, it loses the oldest and is told
        so by `EventsMissed`; failing, it is restarted after a rest and goes on with the next event.
        """
        return self._open_services().listeners.add(listen, kinds, capacity=capacity, name=name)

    def register_listener(
        self, listener: Listener, *kinds: type, capacity: int = CAPACITY, name: str = ""
    ) -> Subscribed:
        """Like `subscribe`, for an object with an `on_event` method."""
        if not isinstance(listener, Listener):
            raise InvalidInput(f"{type(listener).__name__} has no method on_event(event)", field="listener")
        return self.subscribe(listener.on_event, *kinds, capacity=capacity, name=name)

    # Sweepers.

    def register_sweeper(self, name: str, interval: float, chore: Callable[[], Awaitable[Any]]) -> None:
        """Run an async chore every `interval` seconds as a supervised actor. Raises `NameTaken`, `InvalidInput`."""
        self._open_services()
        self._require_top().group("sweepers").start_soon(sweeper_child(name, chore, interval))

    async def unregister_sweeper(self, name: str) -> None:
        """Stop a sweeper. Raises `NotFoundError`. If cancelled: it goes on stopping."""
        self._open_services()
        await self._require_top().group("sweepers").stop(name)

    # Session types and what is expected in sessions.

    def register_adapter(self, adapter: SessionAdapter) -> None:
        """Admit a session type; open sessions of it that were held go on.

        Raises `InvalidInput` for a taken `(type, version)` or an unknown expectation.
        """
        services = self._open_services()
        services.expectations.check(adapter.manifest.expectations)
        services.sessions.adapters.register(adapter)
        services.sessions.unknown_types.retry()

    def register_expectation(self, name: str, evaluator: Evaluator) -> None:
        """Add an expectation: `evaluator(expectation, activity, setup)` says who is waited for, and since when."""
        self._open_services().expectations.add_evaluator(name, evaluator)

    def register_reaction(self, name: str, reaction: Reaction) -> None:
        """Add an `on_violation`: `reaction(violation)`, sync or async, is called once per firing, after the log."""
        self._open_services().expectations.add_reaction(name, reaction)

    # Identities.

    def detach(self, name_or_id: str, reason: str = "revoked") -> bool:
        """Take an identity from the connection that holds it; False where none does. Raises `NotFoundError`.

        It keeps its record and its mail. To act again, somebody has to prove to be it again.
        """
        services = self._open_services()
        entry = services.directory.entry(name_or_id)
        connection = entry.inbox.connection
        if connection is None:
            return False
        connection.refuse(AuthError(f"{entry.name!r} was taken from this connection: {reason}"), None)
        connection.unbind(entry)
        services.audit.write(
            AUDIT_KIND_DENIED,
            agent_id=entry.agent_id,
            name=entry.name,
            connection=connection.endpoint_id,
            code=AuthError.code,
            reason=reason,
            op="detach",
        )
        if not connection.bound:
            connection.close(reason)
        return True
