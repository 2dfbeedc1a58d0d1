"""The shared secret: a question by the hub, answered with a keyed hash, so that the secret itself never crosses a link.

Nonces are not stored: each carries its time and a seal of the hub's own, so that a flood of questions costs no memory.
Only those that were answered rightly are remembered, until they expire, and are refused when they come again.
"""

from __future__ import annotations

import heapq
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import TypeAlias

from ..actors.sessions.credentials import HMAC_SCHEME, Challenge, hmac_answer, secret_bytes
from ..actors.sessions.identity import AuthBlock, Passport
from ..mailbox.clock import Clock, iso
from ..mailbox.errors import AuthError, InvalidInput
from .auth import unproven

Secret: TypeAlias = str | bytes
Lookup: TypeAlias = Callable[[str], Secret | Awaitable[Secret | None] | None]
LIFETIME = 60.0


class HmacAuth:
    """Proves names by shared secrets: a mapping of name to secret, or a function that finds one, sync or async.

    `lifetime` is how many seconds on the hub's clock a question may wait for its answer. A mapping is looked at anew
    each time, so removing a name revokes it.
    """

    def __init__(
        self,
        secrets_by_name: Mapping[str, Secret] | Lookup,
        *,
        scheme: str = HMAC_SCHEME,
        lifetime: float = LIFETIME,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not lifetime > 0:
            raise InvalidInput(f"lifetime={lifetime!r} must be a positive number of seconds", field="lifetime")
        self.scheme = scheme
        self._lookup = secrets_by_name
        self._lifetime = lifetime
        self._token_bytes = token_bytes
        self._seal_key = token_bytes(32)
        self._nobody = token_bytes(32)
        self._used: set[str] = set()
        self._expiring: list[tuple[float, str]] = []
        self._clock: Clock | None = None

    def __repr__(self) -> str:
        return f"<HmacAuth of scheme {self.scheme!r}>"

    def use_clock(self, clock: Clock) -> None:
        """Take the time from the hub."""
        self._clock = clock

    def _now(self) -> float:
        if self._clock is None:
            raise AuthError(f"the adapter of auth scheme {self.scheme!r} belongs to no open hub")
        return self._clock.time()

    def challenge(self, name: str) -> Challenge:
        """A question; whether the name is known plays no part."""
        until = self._now() + self._lifetime
        body = f"{int(until * 1000)}.{self._token_bytes(16).hex()}"
        return Challenge(self.scheme, name, f"{body}.{self._seal(name, body)}", iso(until))

    def _seal(self, name: str, body: str) -> str:
        return hmac.new(self._seal_key, f"{name}\n{body}".encode(), sha256).hexdigest()

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        """Return if the answer fits a question of ours. If cancelled: nothing is proven, the answer is still good."""
        nonce, answer = credentials.claim.get("nonce"), credentials.claim.get("answer")
        if not isinstance(nonce, str) or not isinstance(answer, str):
            raise AuthError(f"scheme {self.scheme!r} answers a challenge: pass credentials=HmacCredentials(secret)")
        name = passport.name
        secret = await self._secret(name)
        # An unknown name is judged against a secret that nobody has, so that it takes the same time and answer.
        expected = hmac_answer(
            self._nobody if secret is None else secret_bytes(secret), Challenge(self.scheme, name, nonce, "")
        )
        is_right = hmac.compare_digest(expected.encode(), answer.encode("utf-8", "replace"))
        if not (self._take(name, nonce, is_right and secret is not None)):
            raise unproven(name)

    async def _secret(self, name: str) -> Secret | None:
        if isinstance(self._lookup, Mapping):
            return self._lookup.get(name)
        found = self._lookup(name)
        return await found if inspect.isawaitable(found) else found

    def _take(self, name: str, nonce: str, is_right: bool) -> bool:
        """Whether the nonce is ours, fresh and unused; with a right answer it is used up."""
        now = self._now()
        body, _, seal = nonce.rpartition(".")
        is_ours = hmac.compare_digest(self._seal(name, body).encode(), seal.encode("utf-8", "replace"))
        if not (is_ours and is_right):
            return False
        until = int(body.partition(".")[0]) / 1000
        self._forget(now)
        if now >= until or nonce in self._used:
            return False
        self._used.add(nonce)
        heapq.heappush(self._expiring, (until, nonce))
        return True

    def _forget(self, now: float) -> None:
        while self._expiring and self._expiring[0][0] <= now:
            self._used.discard(heapq.heappop(self._expiring)[1])
