"""The third agent, a program of its own: it waits for the others, starts the line and prints what comes of it."""

from __future__ import annotations

import os
import sys

import trio

from agorio import HubClient, Passport, TransitionGraph, WsLink

STAFF = ("drafter", "editor")


async def ignore(envelope: object) -> None:
    """The desk only starts the line and watches."""


async def run(url: str) -> None:
    async with HubClient(WsLink(url)) as hub_client:
        desk = await hub_client.register(None, Passport("desk"), handler=ignore, attach=True)
        graph = TransitionGraph.sequence(["desk", *STAFF])
        session = await desk.open("workflow", list(STAFF), knobs={"graph": graph.to_dict()}, intent="a slogan")
        await session.send("We need a slogan.")
        print("closed as", (await session.wait_closed()).close_reason)
        names = await hub_client.names(session.metadata.participant_ids)
        for envelope in await session.history():
            if envelope.text:
                print(f"{names[envelope.sender_id]}: {envelope.text}")
        print(f"this was process {os.getpid()}", file=sys.stderr)


if __name__ == "__main__":
    trio.run(run, sys.argv[1])
