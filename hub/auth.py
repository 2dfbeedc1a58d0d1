"""How identities are proven: adapters by scheme. Credentials are shown to an adapter and never stored, logged or echoed."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..actors.sessions.identity import AuthBlock, Passport
from ..mailbox.errors import AuthError, InvalidInput


@runtime_checkable
class AuthAdapter(Protocol):
    """Proves identities of one scheme."""

    scheme: str

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        """Return if `credentials` prove `passport`; raise `AuthError` otherwise. If cancelled: nothing is proven."""


class NoAuth:
    """The empty scheme: everybody is believed. For hubs whose every agent is started by the same program."""

    scheme = ""

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        """Believe it. If cancelled: nothing is proven."""


class AuthRegistry:
    """Adapters by scheme."""

    def __init__(self, *adapters: AuthAdapter) -> None:
        self._adapters: dict[str, AuthAdapter] = {}
        for adapter in adapters:
            self.add(adapter)

    @classmethod
    def default(cls) -> AuthRegistry:
        """A fresh registry that holds `NoAuth` for the empty scheme."""
        return cls(NoAuth())

    def add(self, adapter: AuthAdapter) -> None:
        """Add an adapter; a scheme can be taken once."""
        if adapter.scheme in self._adapters:
            raise InvalidInput(f"scheme {adapter.scheme!r} has an adapter already", field="scheme")
        self._adapters[adapter.scheme] = adapter

    def get(self, scheme: str) -> AuthAdapter:
        """The adapter of a scheme. Raises `AuthError` for an unknown one."""
        adapter = self._adapters.get(scheme)
        if adapter is None:
            known = ", ".join(repr(s) for s in sorted(self._adapters)) or "none"
            raise AuthError(f"auth scheme {scheme!r} is unknown to this hub; known: {known}")
        return adapter

    def schemes(self) -> tuple[str, ...]:
        """The known schemes, sorted."""
        return tuple(sorted(self._adapters))
