"""A person in a discussion: type your line when it is your turn; an empty line or the end of the input leaves.

    python examples/human.py

Two agents and you talk about a subject round by round. Standard input may be a terminal or a pipe.
"""

from __future__ import annotations

import sys

import trio

from agorio import (
    EV_SESSION_CLOSED,
    Envelope,
    Hub,
    HubClient,
    HumanClient,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    Session,
)

ROUNDS = 3


async def optimist(text: str) -> str:
    return f"Good point about {subject(text)!r}. It will work out."


async def sceptic(text: str) -> str:
    return f"About {subject(text)!r} I am not so sure."


def subject(text: str) -> str:
    """The longest word of what was said, without the speaker's name."""
    words = text.partition("]: ")[2].split() or ["nothing"]
    return max(words, key=len).strip(".,!?'\"")


async def read_line() -> str:
    """A line from the person, read in a thread since a terminal blocks. If cancelled: the thread is left behind."""
    line: str = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return line.strip()


async def speak(human: HumanClient, session: Session) -> None:
    """Ask the person for a line and say it, or close the discussion where they leave."""
    print("you> ", end="", flush=True)
    line = await read_line()
    if line:
        await human.say(session, line)
    else:
        print()
        await human.close(session, "left")


async def talk(human: HumanClient, session: Session, names: dict[str, str]) -> None:
    """Show what is said, and let the person speak whenever it is their turn."""
    await speak(human, session)
    async for envelope in human.messages():
        if envelope.event_type == EV_SESSION_CLOSED:
            print(f"(the discussion is over: {envelope.event_data['reason']})")
            return
        show(envelope, names)
        if human.agent_id in ((await session.info()).expected_next or ()):
            await speak(human, session)


def show(envelope: Envelope, names: dict[str, str]) -> None:
    if envelope.text:
        print(f"{names[envelope.sender_id]}: {envelope.text}")


async def run() -> None:
    async with Hub.open(MemoryKnowledgeStore()) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)
        await hc.register(optimist)
        await hc.register(sceptic)
        human = await hc.register_human(Passport("you"))
        session = await human.open("discussion", ["optimist", "sceptic"], knobs={"max_rounds": ROUNDS})
        names = await hc.names(session.metadata.participant_ids)
        print("You are in a discussion with optimist and sceptic. What is it about?")
        await talk(human, session, names)


def main() -> None:
    trio.run(run)


if __name__ == "__main__":
    main()
