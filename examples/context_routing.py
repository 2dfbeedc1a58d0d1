"""Context-aware routing: variables of the workflow decide who is next, and everybody may read and set them."""

from __future__ import annotations

import trio

from agorio import (
    AgentTarget,
    ContextCompare,
    ContextEquals,
    Finish,
    FromSpeaker,
    Hub,
    HubClient,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    Toolbox,
    Transition,
    TransitionGraph,
)


async def intake(text: str, tools: Toolbox) -> str:
    """Reads the letter and notes what it is about; where it goes is the graph's business."""
    context = tools.get("context")
    await context(action="set", key="language", value="fr" if "Bonjour" in text else "en")
    await context(action="set", key="urgency", value=text.count("!"))
    return "I have noted what it is about."


async def french(text: str, tools: Toolbox) -> Finish:
    urgency = await tools.get("context")(action="read", key="urgency")
    return Finish(f"Bien reçu ({urgency})")


async def english(text: str) -> Finish:
    return Finish("Got it.")


async def hotline(text: str, tools: Toolbox) -> Finish:
    letter = (await tools.get("context")(action="quote", speaker="reader", limit=1))[0]
    return Finish(f"Calling you now about {letter['text']!r}")


async def ignore(envelope: object) -> None:
    """The reader only writes and watches."""


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        for agent in (intake, french, english, hotline):
            await hc.register(agent)
        reader = await hc.register(None, Passport("reader"), handler=ignore)

        graph = TransitionGraph(
            "reader",
            [
                Transition(FromSpeaker("reader"), AgentTarget("intake")),
                Transition(ContextCompare("urgency", ">=", 3), AgentTarget("hotline"), priority=1),
                Transition(ContextEquals("language", "fr"), AgentTarget("french"), priority=2),
            ],
            default_target=AgentTarget("english"),
        )
        knobs = {"graph": graph.to_dict(), "context_vars": {"language": "en", "urgency": 0}}
        for letter in ("Hello, a question.", "Bonjour, une question!", "Help!!! It smokes."):
            session = await reader.open("workflow", ["intake", "french", "english", "hotline"], knobs=knobs)
            await session.send(letter)
            await session.wait_closed()
            print(f"{letter} -> {(await session.history())[-1].event_data['summary']}")


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
