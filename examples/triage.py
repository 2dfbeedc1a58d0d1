"""Triage with tasks: tickets go to the agent whose track record in that field is best, and the hub keeps the record."""

from __future__ import annotations

import trio

from agorio import Hub, HubClient, LocalLink, MemoryKnowledgeStore, Resume, Toolbox, task

TICKETS = ("billing: paid twice", "network: no link", "billing: no invoice", "network: slow", "network: noisy line")


class Specialist:
    """Works on tickets as tasks that the hub observes."""

    def __init__(self, name: str, gives_up_on: str = "") -> None:
        self.name = name
        self.gives_up_on = gives_up_on

    async def ask(self, text: str) -> str:
        field, _, problem = text.partition(": ")
        async with task(problem, capability=field) as work:
            if self.gives_up_on and self.gives_up_on in problem:
                await work.fail("I do not know this")
                return f"{self.name} gives up on {problem!r}"
            await work.progress({"state": "found"})
            await work.complete({"fixed": problem})
        return f"{self.name} has fixed {problem!r}"


async def desk(text: str, tools: Toolbox) -> str:
    """Send each ticket to the best in its field; one that is given up goes to the next."""
    lines = []
    for ticket in text.splitlines():
        field = ticket.partition(":")[0]
        for peer in await tools.get("peers")(capability=field, sort_by="track_record"):
            lines.append(await tools.get("delegate")(target=peer["name"], prompt=ticket))
            if "gives up" not in lines[-1]:
                break
    return "\n".join(lines)


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(Specialist("zed", gives_up_on="no link"), resume=Resume(["network"]))
        await hc.register(Specialist("ida"), resume=Resume(["network", "billing"]))
        await hc.register(desk)
        caller = await hc.register(Specialist("caller"), resume=Resume())

        session = await caller.open("consulting", "desk")
        print((await session.ask("\n".join(TICKETS))).text)
        for name in ("ida", "zed"):
            observed = (await hc.get_resume(name)).observed
            record = {field: f"{stat.completed} of {stat.n}" for field, stat in sorted(observed.items())}
            print(f"track record of {name}: {record}")


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
