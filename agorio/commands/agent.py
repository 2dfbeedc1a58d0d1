"""`agorio agent`: one agent as a program of its own, until SIGTERM or Ctrl-C. A hub that goes away is waited for."""

from __future__ import annotations

import argparse
import importlib
import inspect
import random
import ssl
import sys
import traceback
from pathlib import Path
from typing import Any

import attrs
import trio

from ..actors.agents.agent_client import AgentClient
from ..actors.agents.calling import agent_name, make_asker
from ..actors.agents.hub_client import HubClient
from ..actors.agents.resuming_link import LinkChange
from ..actors.agents.websocket import WsLink
from ..actors.sessions.credentials import Credentials, HmacCredentials
from ..actors.sessions.identity import AuthBlock, Passport, Resume, check_passport
from ..mailbox.errors import HubClosedError, InvalidInput, LinkError
from ..transports.reconnect import Reconnect
from .running import CommandError, complain, leaves_of, run_async
from .serve import check_private, read_secret
from .signals import Stop, announce, run_until_stopped

LOOK_EVERY = 0.1
PASSING = (LinkError, HubClosedError, TimeoutError)


def run(args: argparse.Namespace) -> int:
    """Run an agent."""
    return run_async("agent", agent, args)


async def agent(args: argparse.Namespace) -> int:
    """Run an agent until it is told to stop. If cancelled: its turns in hand are cancelled."""
    one = load_agent(args.target, args.app_dir)
    passport = Passport(args.name or _own_name(one, args.target))
    check_passport(passport)  # the hub checks it too, but it may not be there yet
    if args.concurrency < 1:
        raise CommandError(f"--concurrency {args.concurrency}: must be at least 1")
    program = Program(
        one,
        passport,
        WsLink(args.hub, ssl_context=client_context(args.ca)),
        Resume(args.capability),
        credentials_of(args),
        args.concurrency,
        args.ready_file,
        attach=args.attach,
    )
    return await run_until_stopped(program.run)


def _own_name(one: Any, target: str) -> str:
    try:
        return agent_name(one)
    except InvalidInput as exc:
        raise CommandError(f"{target} brings no name; give it one with --name") from exc


@attrs.define
class Program:
    """Keeps one agent registered at one hub."""

    agent: Any
    passport: Passport
    link: WsLink
    resume: Resume
    credentials: Credentials | None
    concurrency: int
    ready_file: Path | None
    attach: bool = attrs.field(kw_only=True)
    failures: int = 0
    is_down: bool = False

    async def run(self, stop: Stop) -> None:
        """Serve until told to stop, on one connection after the other. If cancelled: turns in hand are cancelled."""
        while not stop.asked.is_set():
            try:
                await self._serve(stop)
            except BaseException as exc:
                leaves = tuple(leaves_of(exc))
                if not all(isinstance(leaf, PASSING) for leaf in leaves):
                    raise
                self._lost(str(leaves[0]))
            await self._rest(stop)

    async def _serve(self, stop: Stop) -> None:
        """One connection, from its greeting to its end."""
        hub_client = HubClient(self.link, on_link=self._changed)
        with _until(stop) as connecting:
            async with hub_client:
                client = await self._register(hub_client)
                self._registered(client)
                stop.connecting = None
                while not stop.asked.is_set() and not hub_client.statistics().is_closed:
                    with trio.move_on_after(LOOK_EVERY):
                        await stop.asked.wait()
                if stop.asked.is_set():
                    complain("agent", "draining")
        if not connecting.cancelled_caught and not stop.asked.is_set():
            self._lost("the connection has ended")

    def _changed(self, change: LinkChange) -> None:
        """The client makes a lost connection again by itself; this only tells of it."""
        if change.is_connected == self.is_down and not change.is_final:
            complain("agent", "connected again" if change.is_connected else f"{change.reason}; trying again")
        self.is_down = not change.is_connected

    async def _register(self, hub_client: HubClient) -> AgentClient:
        return await hub_client.register(
            self.agent,
            self.passport,
            self.resume,
            attach=self.attach,
            credentials=self.credentials,
            concurrency=self.concurrency,
        )

    def _registered(self, client: AgentClient) -> None:
        self.attach, self.failures = True, 0
        announce(f"agorio: {client.name} is at {self.link.url} as {client.agent_id}", self.ready_file, client.agent_id)

    def _lost(self, why: str) -> None:
        if not self.failures:
            complain("agent", f"{why}; trying again")

    async def _rest(self, stop: Stop) -> None:
        delay = Reconnect().delay(self.failures, random.random())
        self.failures += 1
        with trio.move_on_after(delay):
            await stop.asked.wait()


def _until(stop: Stop) -> trio.CancelScope:
    """A scope that the first signal cancels as long as nothing is in hand."""
    stop.connecting = trio.CancelScope()
    if stop.asked.is_set():
        stop.connecting.cancel()
    return stop.connecting


def load_agent(target: str, folder: Path) -> Any:
    """The agent that `module:name` stands for. Raises `CommandError`.

    The folder comes last in the search, so that a file in it cannot take a library's name.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise CommandError(f"{target!r} is not of the form module:name")
    sys.path.append(str(folder.absolute()))
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as exc:
        raise CommandError(f"{target}: {exc}") from exc
    except Exception as exc:  # whatever a module of the user's raises is the user's to mend
        raise CommandError(f"{target}: importing it failed: {_told(exc)}") from exc
    agent = _made(found, target)
    make_asker(agent)
    return agent


def _told(exc: Exception) -> str:
    """An exception of the user's code in one line, with the place that it comes from."""
    place = traceback.extract_tb(exc.__traceback__)[-1]
    where = "" if isinstance(exc, SyntaxError) else f" ({place.filename}:{place.lineno})"
    return f"{type(exc).__name__}: {exc}{where}"


def _made(found: Any, target: str) -> Any:
    """The agent itself: an async function, an object with `ask`, or what a class or a plain function makes."""
    is_class = inspect.isclass(found)
    if not is_class and (inspect.iscoroutinefunction(found) or hasattr(found, "ask")):
        return found
    if not callable(found):
        raise CommandError(f"{target} is no agent: an async function, an object with `ask`, or what makes one")
    try:
        return found()
    except TypeError as exc:
        raise CommandError(f"{target} is called without arguments to make an agent: {exc}") from exc
    except Exception as exc:  # as above
        raise CommandError(f"{target}: making an agent failed: {_told(exc)}") from exc


def credentials_of(args: argparse.Namespace) -> Credentials | None:
    """What proves the name. Raises `CommandError`."""
    if args.secret_file is not None and args.token_file is not None:
        raise CommandError("--secret-file and --token-file: give one of them")
    path = args.secret_file or args.token_file
    if path is None:
        return None
    check_private(path)
    secret = read_secret(path)
    return HmacCredentials(secret) if args.secret_file is not None else AuthBlock("jwt", {"token": secret})


def client_context(authority: Path | None) -> ssl.SSLContext | None:
    """The client's side of TLS where it trusts an authority of its own. Raises `CommandError`."""
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(authority))
    except OSError as exc:
        raise CommandError(f"{authority}: {exc}") from exc
