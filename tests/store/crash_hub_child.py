"""Run by the crash loop: a hub with 32 sessions at work, which prints what it was told.

`crash_hub_child.py PATH RESUME`. RESUME is JSON: for each of the 32, the session that is open and the number of its
last text, or null. A line is `open NUMBER SESSION`, `sent SESSION TEXT SEQUENCE`, `closed SESSION` or `handled SESSION
TEXT`.
"""

from __future__ import annotations

import json
import sys

import trio

from agorio import EV_TEXT, AgentClient, DiskKnowledgeStore, Envelope, Hub, HubClient, LocalLink, Passport

SESSIONS = 32
LENGTH = 25


def text_of(number: int) -> str:
    """What the text says; the parent knows it too."""
    return f"{number}: " + "x" * (number * 97 % 900)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def silent(text: str) -> str:
    return ""


async def handle(envelope: Envelope) -> None:
    if envelope.event_type == EV_TEXT:
        say("handled", envelope.session_id, envelope.idempotency_key)


async def send(agent: AgentClient, session_id: str, number: int) -> None:
    data = {"text": text_of(number)}
    envelope = Envelope(session_id, agent.agent_id, None, EV_TEXT, data, idempotency_key=str(number))
    accepted = await agent.send_envelope(envelope)
    say("sent", session_id, number, accepted.sequence)


async def work(agent: AgentClient, index: int, session_id: str | None, number: int) -> None:
    """Send for ever; a session is closed after some texts, and the next one opened. The first is sent once more."""
    if session_id is not None and number:
        await send(agent, session_id, number)
    while True:
        if session_id is None:
            session_id, number = (await agent.open("conversation", f"recipient-{index}")).session_id, 0
            say("open", index, session_id)
        while number < LENGTH:
            number += 1
            await send(agent, session_id, number)
        await agent.close_session(session_id)
        say("closed", session_id)
        session_id = None


async def main() -> None:
    resume = json.loads(sys.argv[2])
    async with Hub.open(DiskKnowledgeStore(sys.argv[1])) as hub, trio.open_nursery() as nursery:
        hc = HubClient(LocalLink(hub), hub=hub)
        agents = []
        for index in range(SESSIONS):
            await hc.register(silent, Passport(f"recipient-{index}"), handler=handle, attach=True)
            agents.append(await hc.register(None, Passport(f"sender-{index}"), attach_plugin=False, attach=True))
        say("ready")
        for index, agent in enumerate(agents):
            session_id, number = resume[index] or (None, 0)
            nursery.start_soon(work, agent, index, session_id, number)


if __name__ == "__main__":
    trio.run(main)
