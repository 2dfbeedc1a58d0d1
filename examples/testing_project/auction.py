"""An auction as a session type, and an agent that bids: what the tests beside it are about."""

from __future__ import annotations

import attrs

from agorio import Envelope, Manifest, ParticipantSchema, SessionAdapter, SessionSetup, TurnError

PASS = "pass"


@attrs.frozen
class Auction:
    """How an auction stands."""

    bidders: tuple[str, ...]
    """Everybody, by id."""
    best: int = 0
    """The highest bid."""
    holder: str = ""
    """Whose it is."""
    passed: tuple[str, ...] = ()
    """Who bids no more."""


class AuctionAdapter(SessionAdapter):
    """Numbers are bids, which must rise; "pass" ends one's bidding; anything else is talk.

    When all others have passed, the best bid wins.
    """

    manifest = Manifest("auction", participants=ParticipantSchema(2, None), ttl_default="10m")

    def initial_state(self, setup: SessionSetup) -> Auction:
        return Auction(setup.participants)

    def validate_send(self, state: Auction, envelope: Envelope) -> None:
        text, sender = envelope.text, envelope.sender_id
        if sender in state.passed:
            raise TurnError(f"{sender} has passed")
        if sender == state.holder and (text == PASS or text.isdecimal()):
            raise TurnError(f"{sender} holds the best bid")
        if text.isdecimal() and int(text) <= state.best:
            raise TurnError(f"bid more than {state.best}")

    def fold(self, state: Auction, envelope: Envelope) -> Auction:
        if envelope.text == PASS:
            return attrs.evolve(state, passed=(*state.passed, envelope.sender_id))
        if envelope.text.isdecimal():
            return attrs.evolve(state, best=int(envelope.text), holder=envelope.sender_id)
        return state

    def auto_close_reason(self, state: Auction) -> str | None:
        others = [one for one in state.bidders if one != state.holder]
        return "sold" if state.holder and set(others) <= set(state.passed) else None

    def summary(self, state: Auction) -> str:
        return f"sold for {state.best}"


@attrs.define
class Bidder:
    """An agent that goes one higher until its limit."""

    name: str
    limit: int

    async def ask(self, text: str) -> str:
        if not text.isdecimal():
            return ""
        return str(int(text) + 1) if int(text) < self.limit else PASS
