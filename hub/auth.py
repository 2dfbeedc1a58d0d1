"""How identities are proven: adapters by scheme. Credentials are shown to one and never stored, logged or echoed.

An adapter is user code that holds secrets, so nothing of what it says passes unseen: an error that repeats a part of
the claim is replaced, and of an exception that is no refusal only the class is told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from ..actors.sessions.credentials import Challenge
from ..actors.sessions.identity import AuthBlock, Passport
from ..mailbox.clock import Clock
from ..mailbox.errors import AuthError, InvalidInput

_log = logging.getLogger("agorio.hub")


@runtime_checkable
class AuthAdapter(Protocol):
    """Proves identities of one scheme. An adapter with a text `scheme` says itself which."""

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        """Return if `credentials` prove `passport`; raise `AuthError` otherwise. If cancelled: nothing is proven."""


@runtime_checkable
class ChallengingAdapter(AuthAdapter, Protocol):
    """An adapter that asks a question first."""

    def challenge(self, name: str) -> Challenge:
        """A question for whoever wants to act as `name`; unknown names are asked as well."""


@runtime_checkable
class ClockedAdapter(AuthAdapter, Protocol):
    """An adapter that looks at the time: it gets the hub's clock when the hub opens."""

    def use_clock(self, clock: Clock) -> None:
        """Take the time from this clock from now on."""


class NoAuth:
    """The empty scheme: everybody is believed. For hubs whose every agent is started by the same program."""

    scheme = ""

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        """Believe it. If cancelled: nothing is proven."""


class AuthRegistry:
    """Adapters by scheme: `AuthRegistry(NoAuth(), JwtAuth(key))`, or with one list of them."""

    def __init__(self, *adapters: AuthAdapter | Iterable[AuthAdapter]) -> None:
        self._adapters: dict[str, AuthAdapter] = {}
        for item in adapters:
            for adapter in item if isinstance(item, Iterable) else (item,):
                self.add(adapter)

    def __repr__(self) -> str:
        return f"<AuthRegistry of {', '.join(map(repr, self.schemes()))}>"

    @classmethod
    def default(cls) -> AuthRegistry:
        """A fresh registry that holds `NoAuth` for the empty scheme."""
        return cls(NoAuth())

    def add(self, adapter: AuthAdapter) -> None:
        """Add an adapter for its own `scheme`; a scheme can be taken once."""
        scheme = _scheme_of(adapter)
        if scheme in self._adapters:
            raise InvalidInput(f"scheme {scheme!r} has an adapter already", field="scheme")
        self._adapters[scheme] = adapter

    def register(
        self, *given: str | AuthAdapter, scheme: str | None = None, adapter: AuthAdapter | None = None
    ) -> None:
        """Have an adapter prove the identities of a scheme, instead of whatever did before.

        `register("token", adapter)`, in either order, or `register(adapter)` for an adapter that has a `scheme`.
        """
        for one in given:
            if isinstance(one, str):
                scheme = one
            else:
                adapter = one
        if not isinstance(adapter, AuthAdapter):
            raise InvalidInput("register takes a scheme and an adapter with async `verify`", field="adapter")
        self._adapters[_scheme_of(adapter) if scheme is None else scheme] = adapter

    def get(self, scheme: str) -> AuthAdapter:
        """The adapter of a scheme. Raises `AuthError` for an unknown one."""
        adapter = self._adapters.get(scheme)
        if adapter is None:
            known = ", ".join(repr(s) for s in self.schemes()) or "none"
            raise AuthError(f"the auth scheme that was presented is unknown to this hub; known: {known}")
        return adapter

    def schemes(self) -> tuple[str, ...]:
        """The known schemes, sorted."""
        return tuple(sorted(self._adapters))

    def use_clock(self, clock: Clock) -> None:
        """Give every adapter that looks at the time the hub's clock."""
        for adapter in self._adapters.values():
            if isinstance(adapter, ClockedAdapter):
                adapter.use_clock(clock)

    def challenge(self, scheme: str, name: str) -> Challenge:
        """A question of the scheme's adapter. Raises `AuthError` where the scheme asks none."""
        adapter = self.get(scheme)
        if not isinstance(adapter, ChallengingAdapter):
            raise AuthError(f"auth scheme {scheme!r} asks no question; present the credentials with the registration")
        return adapter.challenge(name)

    async def verify(self, passport: Passport, credentials: AuthBlock, pinned: str | None) -> None:
        """Return if the credentials prove the passport; `pinned` is the scheme of a stored identity.

        Raises `AuthError`, without a word of the credentials. If cancelled: nothing is proven.
        """
        adapter = self.get(credentials.scheme)
        if pinned is not None and credentials.scheme != pinned:
            raise unproven(passport.name)
        try:
            await adapter.verify(passport, credentials)
        except AuthError as error:
            raise _without(error, passport.name, credentials) from None
        except Exception as exc:  # foreign code: its failure proves nothing, and its words may hold secrets
            _log.error("auth adapter %r failed with %s", credentials.scheme, type(exc).__name__)
            raise AuthError(f"the hub's adapter of auth scheme {credentials.scheme!r} has failed") from None


def _scheme_of(adapter: AuthAdapter) -> str:
    scheme = getattr(adapter, "scheme", None)
    if not isinstance(adapter, AuthAdapter) or not isinstance(scheme, str):
        raise InvalidInput(f"{type(adapter).__name__} has no text `scheme` and async `verify`", field="adapter")
    return scheme


def unproven(name: str) -> AuthError:
    """The one refusal for a wrong claim, an unknown name and another scheme than the registered one."""
    return AuthError(f"the credentials do not prove {name!r}")


def _without(error: AuthError, name: str, credentials: AuthBlock) -> AuthError:
    """The refusal without its details, and without its words if they repeat the claim."""
    message = str(error)
    if not message or any(text and text in message for text in _texts(credentials.claim) if text != name):
        return unproven(name)
    return AuthError(message)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
