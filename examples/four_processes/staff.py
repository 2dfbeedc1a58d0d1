"""Two agents, each to be run as a process of its own by `agorio agent staff:NAME`."""

from __future__ import annotations


async def drafter(text: str) -> str:
    return "the hub keeps order , agents talk"


async def editor(text: str) -> str:
    return text.partition("]: ")[2].replace(" ,", ",").capitalize() + "."
