"""Escalation: whoever cannot decide calls a tool that the graph waits for, and the next level has the word."""

from __future__ import annotations

from itertools import pairwise

import trio

from agorio import (
    AgentTarget,
    AllOf,
    Finish,
    FromSpeaker,
    Hub,
    HubClient,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    Tool,
    ToolCalled,
    Transition,
    TransitionGraph,
)

LEVELS = ("clerk", "manager", "director")


async def escalate(reason: str) -> str:
    """Pass the case on to the next level."""
    return f"passed on: {reason}"


async def clerk(text: str) -> str:
    amount = int(text.split()[-1])
    if amount > 100:
        return str(await Tool(escalate)(reason=f"{amount} is more than I may spend"))
    return "Granted."


async def manager(text: str) -> str:
    return str(await Tool(escalate)(reason="the budget of this year is used up"))


async def director(text: str) -> Finish:
    return Finish("Granted from the reserve.", "granted")


async def ignore(envelope: object) -> None:
    """The applicant only asks and watches."""


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        for agent in (clerk, manager, director):
            await hc.register(agent)
        applicant = await hc.register(None, Passport("applicant"), handler=ignore)

        upwards = [
            Transition(AllOf((FromSpeaker(level), ToolCalled("escalate"))), AgentTarget(above))
            for level, above in pairwise(LEVELS)
        ]
        graph = TransitionGraph("applicant", [*upwards, Transition(FromSpeaker("applicant"), AgentTarget("clerk"))])
        session = await applicant.open("workflow", LEVELS, knobs={"graph": graph.to_dict()})
        await session.send("I ask for 5000")
        print("closed as", (await session.wait_closed()).close_reason)
        names = await hc.names(session.metadata.participant_ids)
        render = hc.adapter(session.metadata.manifest).render
        for envelope in await session.history():
            if said := render(envelope):
                print(f"{names[envelope.sender_id]}: {said.splitlines()[0]}")


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
