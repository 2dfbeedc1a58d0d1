"""Hierarchical delegation: a director asks leads, who ask workers, all on one connection and from inside their turns.

The hub counts how deep it goes and would stop at `Rule.limits.delegation_depth`; a worker who asks its own director is
told at once that the two would wait for each other for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from agorio import AskCycle, Hub, HubClient, LocalLink, MemoryKnowledgeStore, Passport, Toolbox


def lead(*team: str) -> Callable[[str, Toolbox], Awaitable[str]]:
    """An agent that asks everybody in its team at once and joins what they say."""

    async def ask(text: str, tools: Toolbox) -> str:
        replies: dict[str, str] = {}

        async def collect(name: str) -> None:
            replies[name] = await tools.get("delegate")(target=name, prompt=text)

        async with trio.open_nursery() as nursery:
            for name in team:
                nursery.start_soon(collect, name)
        return "(" + ", ".join(replies[name] for name in team) + ")"

    return ask


def worker(name: str) -> Callable[[str], Awaitable[str]]:
    async def ask(text: str) -> str:
        return f"{name} did {text}"

    return ask


async def doubter(text: str, tools: Toolbox) -> str:
    try:
        return str(await tools.get("delegate")(target="director", prompt="Do you mean it?"))
    except AskCycle as exc:
        return f"cannot ask back: {' -> '.join(exc.details['cycle'])}"


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(lead("design", "build"), Passport("director"))
        await hc.register(lead("draw", "doubter"), Passport("design"))
        await hc.register(lead("saw", "nail"), Passport("build"))
        for name in ("draw", "saw", "nail"):
            await hc.register(worker(name), Passport(name))
        await hc.register(doubter)
        owner = await hc.register(None, Passport("owner"), attach_plugin=False)

        session = await owner.open("consulting", "director")
        print((await session.ask("a table")).text)
        depths = sorted(info.depth for info in await hub.list_sessions())
        print("delegation depths:", depths)


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
