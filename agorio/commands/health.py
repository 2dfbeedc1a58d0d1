"""`agorio health`: the greeting and one ping, there and back. It proves no identity, so it tells nothing else."""

from __future__ import annotations

import argparse
from time import perf_counter

import trio

from ..actors.agents.websocket import WsLink
from ..mailbox.errors import LinkClosed, error_from_wire
from ..transports.frames import ErrorFrame, Frame, HelloFrame, PingFrame, PongFrame, WelcomeFrame
from ..transports.link import LinkClient
from .agent import client_context
from .output import print_json, say
from .running import DONE, WRONG, complain, exit_code, run_async


def run(args: argparse.Namespace) -> int:
    """Ask the hub."""
    return run_async("health", health, args)


async def health(args: argparse.Namespace) -> int:
    """Ask the hub; 1 where it does not answer. If cancelled: nothing has changed."""
    link = WsLink(args.hub, ssl_context=client_context(args.ca)).client()
    started = perf_counter()
    try:
        with trio.fail_after(args.timeout):
            await link.open()
            welcome = await ask(link)
    except trio.TooSlowError:
        complain("health", f"{args.hub} has not answered within {args.timeout:g} s")
        return WRONG
    except BaseException as exc:
        if exit_code("health", exc) is None:
            raise
        return WRONG
    finally:
        await link.close()
    report(args, welcome, (perf_counter() - started) * 1000)
    return DONE


async def ask(link: LinkClient) -> WelcomeFrame:
    """Greet and ping. Raises `LinkError`. If cancelled: nothing has changed."""
    frames = link.frames()

    async def answer() -> Frame:
        frame = await anext(frames, None)
        if frame is None:
            raise LinkClosed("the hub has closed the link")
        if isinstance(frame, ErrorFrame):
            raise error_from_wire(frame.code, frame.message)
        return frame

    await link.send_frame(HelloFrame(client="agorio health"))
    welcome = await answer()
    await link.send_frame(PingFrame(1))
    pong = await answer()
    if not isinstance(welcome, WelcomeFrame) or not isinstance(pong, PongFrame):
        raise LinkClosed("it answers, but not as a hub does")
    return welcome


def report(args: argparse.Namespace, welcome: WelcomeFrame, milliseconds: float) -> None:
    """What was answered."""
    if args.json:
        print_json(
            {
                "ok": True,
                "hub": args.hub,
                "protocol": welcome.version,
                "hub_time": welcome.hub_time,
                "milliseconds": round(milliseconds, 2),
            }
        )
    else:
        say(f"ok: {args.hub} answers, protocol {welcome.version}, {milliseconds:.1f} ms")
