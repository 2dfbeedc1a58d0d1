"""Feedback loop: a drafter and a reviewer go round until the reviewer is content, or the turns run out."""

from __future__ import annotations

import trio

from agorio import (
    AgentTarget,
    ContextEquals,
    ContextUpdates,
    FromSpeaker,
    Hub,
    HubClient,
    LocalLink,
    MemoryKnowledgeStore,
    Packet,
    Passport,
    TerminateTarget,
    Transition,
    TransitionGraph,
)

DRAFTS = iter(["Hub good.", "The hub is good.", "The hub keeps order."])


async def drafter(text: str) -> str:
    return next(DRAFTS)


async def reviewer(text: str) -> Packet:
    draft = text.partition("]: ")[2]
    if "keeps" in draft:
        return Packet(updates=ContextUpdates({"approved": True}), body="Print it.")
    return Packet(updates=ContextUpdates({"approved": False}), body=f"Say what it does, not: {draft}")


async def ignore(envelope: object) -> None:
    """The client only asks and watches."""


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(drafter)
        await hc.register(reviewer)
        client = await hc.register(None, Passport("client"), handler=ignore)

        graph = TransitionGraph(
            "client",
            [
                Transition(ContextEquals("approved", True), TerminateTarget("approved")),
                Transition(FromSpeaker("drafter"), AgentTarget("reviewer"), priority=1),
            ],
            default_target=AgentTarget("drafter"),
            max_turns=12,
        )
        session = await client.open("workflow", ["drafter", "reviewer"], knobs={"graph": graph.to_dict()})
        await session.send("One sentence about the hub, please.")
        print("closed as", (await session.wait_closed()).close_reason)
        names = await hc.names(session.metadata.participant_ids)
        render = hc.adapter(session.metadata.manifest).render
        for envelope in await session.history():
            if said := render(envelope):
                print(f"{names[envelope.sender_id]}: {said}")


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
