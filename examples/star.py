"""Star: a coordinator in the middle hands over to one specialist after the other, and each reports back to it."""

from __future__ import annotations

import trio

from agorio import (
    AgentTarget,
    Finish,
    FromSpeaker,
    Handoff,
    Hub,
    HubClient,
    LocalLink,
    MemoryKnowledgeStore,
    MemoryStream,
    Not,
    Passport,
    Transition,
    TransitionGraph,
)

SPECIALISTS = ("weather", "traffic")


async def coordinator(text: str, stream: MemoryStream) -> Handoff | Finish:
    heard = [message.text for message in stream] + [text]
    for name in SPECIALISTS:
        if not any(line.startswith(f"[{name}]") for line in heard):
            return Handoff(name, f"what about the {name}?")
    reports = [line.partition("]: ")[2] for line in heard if line.startswith(tuple(f"[{n}]" for n in SPECIALISTS))]
    return Finish(" ".join(reports), "all_reported")


async def weather(text: str) -> str:
    return "It stays dry until six."


async def traffic(text: str) -> str:
    return "The bridge is closed."


async def ignore(envelope: object) -> None:
    """The traveller only asks and watches."""


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        for agent in (coordinator, weather, traffic):
            await hc.register(agent)
        traveller = await hc.register(None, Passport("traveller"), handler=ignore)

        # Whoever is not in the middle gives the word back to the middle; the middle says itself who is next.
        graph = TransitionGraph("traveller", [Transition(Not(FromSpeaker("coordinator")), AgentTarget("coordinator"))])
        session = await traveller.open(
            "workflow", ["coordinator", *SPECIALISTS], knobs={"graph": graph.to_dict(), "context_vars": {}}
        )
        await session.send("Shall I take the bicycle?")
        ended = await session.wait_closed()
        closing = (await session.history())[-1]
        print("closed as", ended.close_reason)
        print("answer:", closing.event_data["summary"])


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
