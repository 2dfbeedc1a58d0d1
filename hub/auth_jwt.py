"""JSON web tokens: signed elsewhere, checked here, by PyJWT. Times are compared on the hub's clock, not the wall's."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

from ..actors.sessions.identity import AuthBlock, Passport
from ..mailbox.clock import Clock
from ..mailbox.errors import AuthError, InvalidInput
from .auth import unproven

MAX_TOKEN = 16_384
_CHECKED_HERE = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class JwtAuth:
    """Proves names by tokens, `AuthBlock("jwt", {"token": ...})`, whose `sub` is the agent's name.

    `key` is the shared secret or the public key; `algorithms` is what a token may be signed with, never taken from the
    token. `exp` and `sub` must be there, `iss` and `aud` where `issuer` and `audience` are given. `leeway` is how many
    seconds the signer's clock may differ. Needs `pip install agorio[jwt]`, and `cryptography` for public keys.
    """

    def __init__(
        self,
        key: Any,
        *,
        algorithms: Sequence[str] = ("HS256",),
        issuer: str | None = None,
        audience: str | Sequence[str] | None = None,
        leeway: float = 0.0,
        scheme: str = "jwt",
    ) -> None:
        self._jwt = _load()
        if isinstance(algorithms, str) or not algorithms or any(name.lower() == "none" for name in algorithms):
            raise InvalidInput(f"algorithms={algorithms!r} must list signing algorithms", field="algorithms")
        self.scheme = scheme
        self._key = key
        self._algorithms = list(algorithms)
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._clock: Clock | None = None

    def __repr__(self) -> str:
        return f"<JwtAuth of scheme {self.scheme!r} with {', '.join(self._algorithms)}>"

    def use_clock(self, clock: Clock) -> None:
        """Take the time from the hub."""
        self._clock = clock

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        """Return if the token proves the name. If cancelled: nothing is proven."""
        token = credentials.claim.get("token")
        if not isinstance(token, str) or len(token) > MAX_TOKEN:
            raise AuthError(f"scheme {self.scheme!r} takes a claim {{'token': ...}}")
        claims = self._decode(token, passport.name)
        if claims.get("sub") != passport.name:
            raise unproven(passport.name)
        self._check_time(claims)

    def _decode(self, token: str, name: str) -> dict[str, Any]:
        required = ["exp", "sub", *(["iss"] if self._issuer else []), *(["aud"] if self._audience else [])]
        options = {**_CHECKED_HERE, "require": required, "verify_aud": self._audience is not None}
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options=options,
            )
        except self._jwt.PyJWTError:
            raise unproven(name) from None
        return claims

    def _check_time(self, claims: dict[str, Any]) -> None:
        if self._clock is None:
            raise AuthError(f"the adapter of auth scheme {self.scheme!r} belongs to no open hub")
        now = self._clock.time()
        if now >= _instant(claims, "exp", -math.inf) + self._leeway:
            raise AuthError("the token has expired on the hub's clock; get a new one")
        if now < _instant(claims, "nbf", -math.inf) - self._leeway:
            raise AuthError("the token is not valid yet on the hub's clock")


def _instant(claims: dict[str, Any], claim: str, default: float) -> float:
    """Seconds since 1970; an absent one is the default, and nonsense is a time that no clock fits."""
    value = claims.get(claim, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return -math.inf if claim == "exp" else math.inf
    return float(value)


def _load() -> Any:
    try:
        return importlib.import_module("jwt")
    except ImportError as exc:
        raise ImportError("JwtAuth needs PyJWT: pip install 'agorio[jwt]'") from exc
