"""Challenges and their answers: how both ends of a link compute the proof of a shared secret. Pure.

The secret never crosses: the hub asks with a nonce of its own, the agent answers with a keyed hash over it, the name
and the scheme. An answer is good for one question, one name and one use.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TypeAlias

import attrs

from ...mailbox.errors import InvalidInput
from .identity import AuthBlock

HMAC_SCHEME = "hmac"
_PURPOSE = b"agorio hmac challenge 1"


@attrs.frozen
class Challenge:
    """A hub's question to whoever wants to act as `name`."""

    scheme: str
    """The adapter that asks."""
    name: str
    """Who is to prove itself."""
    nonce: str
    """Issued by the hub; good once and for a short time."""
    expires_at: str
    """ISO-8601 time on the hub's clock after which the nonce is worthless."""


Answerer: TypeAlias = Callable[[Challenge], AuthBlock | Awaitable[AuthBlock]]
"""Answers a hub's question. An attribute `scheme` says which adapter is to ask; without one the passport says it."""
Credentials: TypeAlias = AuthBlock | Answerer


class HmacCredentials:
    """Answers the challenges of the `hmac` scheme with a shared secret: `hc.register(..., credentials=...)`."""

    scheme = HMAC_SCHEME

    def __init__(self, secret: str | bytes, scheme: str = HMAC_SCHEME) -> None:
        self._secret = secret_bytes(secret)
        self.scheme = scheme

    def __repr__(self) -> str:
        return f"<HmacCredentials for scheme {self.scheme!r}>"

    def __call__(self, challenge: Challenge) -> AuthBlock:
        """The answer."""
        return AuthBlock(challenge.scheme, {"nonce": challenge.nonce, "answer": hmac_answer(self._secret, challenge)})


def hmac_answer(secret: bytes, challenge: Challenge) -> str:
    """The keyed hash, in hexadecimal. Every part is preceded by its length, so that no two questions look alike."""
    parts = [part.encode() for part in (challenge.scheme, challenge.name, challenge.nonce)]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in (_PURPOSE, *parts))
    return hmac.new(secret, message, sha256).hexdigest()


def secret_bytes(secret: str | bytes) -> bytes:
    """The secret as bytes. Raises `InvalidInput` for an empty one."""
    if not isinstance(secret, str | bytes) or not secret:
        raise InvalidInput("a shared secret is a text or bytes and not empty", field="secret")
    return secret.encode() if isinstance(secret, str) else secret
