"""Redundant experts: the same question to all who claim the capability, at once; the majority decides.

One of them never answers and one is wrong, which costs a timeout and a vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from agorio import Hub, HubClient, LocalLink, MemoryKnowledgeStore, NetworkError, Passport, Resume, Toolbox


def expert(answer: str) -> Callable[[str], Awaitable[str]]:
    async def ask(text: str) -> str:
        return answer

    return ask


async def sleeper(text: str) -> str:
    await trio.sleep_forever()
    raise AssertionError("nobody wakes it but the end of its session")


async def chair(text: str, tools: Toolbox) -> str:
    votes: Counter[str] = Counter()

    async def vote(name: str) -> None:
        with suppress(NetworkError, TimeoutError):
            votes[await tools.get("delegate")(target=name, prompt=text, timeout=0.5)] += 1

    peers = await tools.get("peers")(capability="geography")
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(vote, peer["name"])
    (answer, count), *_ = votes.most_common()
    return f"{answer} ({count} of {votes.total()} votes; asked {len(peers)})"


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        geographers = {"ada": expert("Canberra"), "bea": expert("Sydney"), "cid": expert("Canberra"), "dan": sleeper}
        for name, agent in geographers.items():
            await hc.register(agent, Passport(name), Resume(["geography"]))
        await hc.register(chair)
        caller = await hc.register(None, Passport("caller"), attach_plugin=False)

        session = await caller.open("consulting", "chair")
        print((await session.ask("What is the capital of Australia?")).text)


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
