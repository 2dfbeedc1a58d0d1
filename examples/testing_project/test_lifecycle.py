"""Auctions live through whatever Hypothesis thinks of: wrong bids, crashes, restarts, people who come and go."""

from __future__ import annotations

from agorio import EV_TEXT
from agorio.testing import SessionLifecycle, invariant, run_lifecycle
from auction import PASS, AuctionAdapter


class Auctions(SessionLifecycle):
    adapters = (AuctionAdapter(),)
    session_type = "auction"
    payloads = tuple((EV_TEXT, {"text": text}) for text in ("1", "2", "3", PASS, "a lot"))

    @invariant()
    async def bids_rise(self) -> None:
        for session_id in self.sessions:
            texts = [envelope.text for envelope in await self.hub.read_wal(session_id)]
            bids = [int(text) for text in texts if text.isdecimal()]
            assert bids == sorted(set(bids)), f"{bids} do not rise"


def test_auctions() -> None:
    run_lifecycle(Auctions, examples=30, steps=15)
