"""What the hub expects of a session type, and what users expect of an auction over bad links and bad disks."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from agorio import EV_TEXT, Hub, HubClient, LocalLink, MemoryKnowledgeStore, Reconnect, StoreError
from agorio.testing import FaultyLink, FaultyStore, check_adapter, open_test_hub, read_transcript, wait_until
from auction import AuctionAdapter, Bidder


def test_the_session_type_keeps_the_promises_that_the_hub_builds_on() -> None:
    check_adapter(AuctionAdapter(), events=[(EV_TEXT, {"text": text}) for text in ("1", "2", "3", "pass")])


@pytest.mark.parametrize("seed", range(5))
async def test_a_link_that_breaks_loses_no_bid(autojump_clock: MockClock, seed: int) -> None:
    async with Hub.open(MemoryKnowledgeStore(), adapters=[AuctionAdapter()]) as hub:
        link = FaultyLink(LocalLink(hub), seed=seed, delay=(0.0, 0.5), reconnect=Reconnect())
        async with HubClient(link) as client:
            await client.register(Bidder("bob", limit=8))
            ann = await client.register(Bidder("ann", limit=9))
            auction = await ann.open("auction", "bob")
            link.odds["cut"] = 0.1
            await auction.send("1")
            await wait_until(lambda: link.injected["cut"], what="a cut", timeout=600)
            await link.heal()
            assert (await auction.wait_closed()).close_reason == "sold"
        bids = [line.partition(": ")[2] for line in await read_transcript(hub, auction.session_id)]
        assert bids == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "pass"]


async def test_a_bid_that_was_not_written_down_was_not_made(autojump_clock: MockClock) -> None:
    store = FaultyStore(slow=0.01)
    async with open_test_hub(store, adapters=[AuctionAdapter()]) as net:
        await net.person("bob")
        ann = await net.person("ann")
        auction = await ann.open("auction", "bob")
        store.refuse = 1.0
        with pytest.raises(StoreError):
            await auction.send("1")
        store.calm()
        await auction.send("1")
        await net.assert_transcript(auction.session_id, "ann: 1")
