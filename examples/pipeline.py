"""Pipeline: each agent takes what the one before it made, and the last one's turn ends the session."""

from __future__ import annotations

import trio

from agorio import Hub, HubClient, LocalLink, MemoryKnowledgeStore, Passport, TransitionGraph


async def drafter(text: str) -> str:
    return "the hub keeps order , agents talk"


async def editor(text: str) -> str:
    return text.partition("]: ")[2].replace(" ,", ",").capitalize() + "."


async def publisher(text: str) -> str:
    return f"*** {text.partition(']: ')[2]} ***"


async def ignore(envelope: object) -> None:
    """The desk only starts the line and watches."""


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        for agent in (drafter, editor, publisher):
            await hc.register(agent)
        desk = await hc.register(None, Passport("desk"), handler=ignore)

        graph = TransitionGraph.sequence(["desk", "drafter", "editor", "publisher"])
        session = await desk.open(
            "workflow", ["drafter", "editor", "publisher"], knobs={"graph": graph.to_dict()}, intent="a slogan"
        )
        await session.send("We need a slogan.")
        print("closed as", (await session.wait_closed()).close_reason)
        names = await hc.names(session.metadata.participant_ids)
        for envelope in await session.history():
            if envelope.text:
                print(f"{names[envelope.sender_id]}: {envelope.text}")


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
