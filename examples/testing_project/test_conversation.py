"""Conversations: what is said, what is refused, what happens when time passes."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from agorio import AUDIT_KIND_SESSION_EXPIRED, AUDIT_KIND_TURN_FAILED, Redelivery, TurnError
from agorio.testing import ScriptedAgent, open_test_hub
from auction import PASS, AuctionAdapter, Bidder


async def test_the_higher_limit_wins(autojump_clock: MockClock) -> None:
    async with open_test_hub(adapters=[AuctionAdapter()]) as net:
        await net.add(Bidder("bob", limit=4))
        ann = await net.add(Bidder("ann", limit=6))
        auction = await ann.open("auction", "bob")
        await auction.send("1")
        assert await net.closed(auction.session_id) == "sold"
        await net.assert_transcript(
            auction.session_id, "ann: 1", "bob: 2", "ann: 3", "bob: 4", "ann: 5", f"bob: {PASS}"
        )


async def test_bids_rise(autojump_clock: MockClock) -> None:
    async with open_test_hub(adapters=[AuctionAdapter()]) as net:
        bob = ScriptedAgent("bob", PASS)
        await net.add(bob)
        ann, cid = await net.person("ann"), await net.person("cid")
        auction = await ann.open("auction", ["bob", "cid"])
        await auction.send("5")
        his = await cid.session(auction.session_id)
        with pytest.raises(TurnError, match="bid more than 5"):
            await his.send("5")
        with pytest.raises(TurnError, match="holds the best bid"):
            await auction.send("7")
        await net.idle()
        await his.send("Let me think.")
        await net.assert_transcript(auction.session_id, "ann: 5", "bob: pass", "cid: Let me think.")
        bob.assert_finished()
        assert bob.questions == ["5"]


async def test_an_auction_that_nobody_ends_expires(autojump_clock: MockClock) -> None:
    async with open_test_hub(adapters=[AuctionAdapter()]) as net:
        await net.person("bob")
        ann = await net.person("ann")
        auction = await ann.open("auction", "bob", ttl="10m")
        await auction.send("1")
        await trio.sleep(700)  # costs no time: the clock jumps
        assert await net.closed(auction.session_id) == "ttl_expired"
        await net.audited(AUDIT_KIND_SESSION_EXPIRED, session_id=auction.session_id)


async def test_a_bidder_that_fails_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_test_hub(adapters=[AuctionAdapter()], redelivery=Redelivery(max_attempts=2)) as net:
        await net.add(ScriptedAgent("bob", RuntimeError("no connection"), PASS))
        ann = await net.person("ann")
        auction = await ann.open("auction", "bob")
        await auction.send("1")
        assert await net.closed(auction.session_id) == "sold"
        await net.audited(AUDIT_KIND_TURN_FAILED)
        await net.assert_audit("...", {"kind": AUDIT_KIND_TURN_FAILED}, "...", {"kind": "session_closed"})
