"""The token bucket behind `Rule.rate`: pure arithmetic on times that the caller passes in."""

from __future__ import annotations


class TokenBucket:
    """Admits `burst` envelopes at once and `per_minute / 60` a second after that."""

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, per_minute: float, burst: float, now: float) -> None:
        self._per_second = per_minute / 60.0
        self._burst = max(1.0, burst)
        self._tokens = self._burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one token and return 0.0, or take none and return the seconds until one is there."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._per_second

    def retune(self, per_minute: float, burst: float) -> None:
        """Follow a changed rule. What was used up stays used up, or changing the rule would be a way around it."""
        self._per_second = per_minute / 60.0
        self._burst = max(1.0, burst)
        self._tokens = min(self._tokens, self._burst)

    def give_back(self) -> None:
        """Return a token that was taken for an envelope which was then refused for another reason."""
        self._tokens = min(self._burst, self._tokens + 1.0)
