"""The newsroom on a hub: opens the network, shows what happens on it, writes the digest, balances the account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from ..actors.agents.hub_client import HubClient
from ..actors.agents.websocket import WsLink
from ..actors.runtime.events import ActorCrash, ActorRestart, Event
from ..actors.sessions.identity import Passport, Resume
from ..hub.events import EnvelopeAccepted
from ..hub.hub import Hub
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.websocket import serve_ws
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER, AUDIT_KIND_SESSION_CREATED, AUDIT_KIND_TURN_FAILED
from ..transports.local import LocalLink
from .digest import Section, render
from .files import Skipped
from .flow import Intake, MakeClient, Run, hire, lead, take_in
from .ledger import Ledger, SessionLog, account
from .newsroom import Client, Fuse, Worker
from .options import Options
from .processes import CHECKER, employed
from .screen import Screen

LAST_RECEIPTS = 5.0
"""Seconds to wait for the last receipts."""
MAX_SESSIONS = 1_000_000
MAX_EVENTS = 100_000


async def publish(options: Options, screen: Screen) -> int:
    """Run the whole edition and return the exit code.

    If cancelled: the hub drains and closes; no digest is written.
    """
    screen.title("agorio newsroom")
    intake = await take_in(options.files, options.base)
    for skipped in intake.skipped:
        screen.warn(f"left out: {skipped.name}: {skipped.reason}")
    if not intake.sources:
        screen.warn("there is nothing to read")
        return 1
    reporter = Reporter(screen)
    async with Hub.open(MemoryKnowledgeStore(), on_event=reporter.happened) as hub:
        sections, failed, ledger = await edition(hub, options, screen, intake, reporter)
    write(options.out, render(sections, [*intake.skipped, *failed]))
    for one in failed:
        screen.warn(f"not done: {one.name}: {one.reason}")
    claims = sum(len(section.checked.verified) for section in sections)
    screen.result(str(options.out), ledger, f"{len(sections)} documents digested, {claims} claims verified")
    return 1 if failed or not ledger.balanced else 0


async def edition(
    hub: Hub, options: Options, screen: Screen, intake: Intake, reporter: Reporter
) -> tuple[list[Section], list[Skipped], Ledger]:
    """Hire the staff, have the files done, show the trail and the tree.

    If cancelled: questions asked stay asked.
    """
    async with connected(hub, remote=options.remote or options.processes) as (hc, url):
        return await _edition(hub, hc, url, options, screen, intake, reporter)


@asynccontextmanager
async def connected(hub: Hub, *, remote: bool) -> AsyncIterator[tuple[HubClient, str]]:
    """The agents' client: in the hub's nursery, or behind a real websocket on this machine; and the hub's address.

    If cancelled: not connected.
    """
    if not remote:
        yield HubClient(LocalLink(hub), hub=hub), ""
        return
    async with serve_ws(hub) as server:
        url = f"ws://127.0.0.1:{server.port}"
        async with HubClient(WsLink(url)) as hub_client:
            yield hub_client, url


async def _edition(
    hub: Hub, hc: HubClient, url: str, options: Options, screen: Screen, intake: Intake, reporter: Reporter
) -> tuple[list[Section], list[Skipped], Ledger]:
    async def make(worker: Worker, passport: Passport, resume: Resume) -> Client:
        client = await hc.register(worker, passport, resume)
        screen.names[client.agent_id] = worker.name
        return client

    async with reporter.listening(hub):
        sections, failed, left = await written(hub, url, options, screen, intake, make)
    records = await hub.audit_log.read_all()
    screen.audit(records)
    screen.tree(hub.tree())
    return sections, failed, account(await session_logs(hub), records, left)


async def written(
    hub: Hub, url: str, options: Options, screen: Screen, intake: Intake, make: MakeClient
) -> tuple[list[Section], list[Skipped], int]:
    """Hire the staff and have the files done. If cancelled: questions asked stay asked."""
    readers = min(options.readers, len(intake.sources))
    async with AsyncExitStack() as stack:
        if options.processes:
            names = await stack.enter_async_context(employed(url, readers, screen, crash=options.crash))
        on_read = stack.enter_context(screen.reading(intake.sources))
        if options.processes:
            staff = await lead(make, names, CHECKER)
        else:
            fuse = Fuse(turn=1 if options.crash else 0)
            staff = await hire(make, readers=readers, fuse=fuse, on_read=on_read)
        sections, failed = await Run(staff, on_read).edition(intake.sources)
        return sections, failed, await quiet(hub)


@attrs.define
class Reporter:
    """Shows what is said and what goes wrong, as it happens."""

    screen: Screen
    members: dict[str, tuple[str, ...]] = attrs.Factory(dict)

    @asynccontextmanager
    async def listening(self, hub: Hub) -> AsyncIterator[None]:
        """Listen to the hub while the block runs, and hear everything out at its end.

        If cancelled: what has not been shown yet is not shown.
        """
        said = hub.subscribe(self.said, EnvelopeAccepted, capacity=MAX_EVENTS)
        stop = hub.audit_log.watch(self.recorded)
        try:
            yield
        finally:
            stop()
            said.unsubscribe()
        await said.ref.stopped()

    def said(self, event: EnvelopeAccepted) -> None:
        """An envelope was accepted."""
        self.screen.said(event.envelope, self.members.get(event.envelope.session_id, ()))

    def happened(self, event: Event) -> None:
        """An agent's worker crashed or was restarted, as the kernel tells it."""
        if isinstance(event, ActorCrash):
            self.screen.accident(f"{last(event.name)} crashed: {event.cause!r}")
        elif isinstance(event, ActorRestart):
            self.screen.recovery(f"{last(event.name)} is restarted as incarnation {event.incarnation + 1}")

    def recorded(self, record: Mapping[str, Any]) -> None:
        """An audit record was written: a session's members, or what becomes of an envelope whose turn failed."""
        what = f"envelope …{str(record.get('envelope_id'))[-4:]} of session {str(record.get('session_id'))[-4:]}"
        if record["kind"] == AUDIT_KIND_SESSION_CREATED:
            self.members[record["session_id"]] = tuple(record["participants"])
        elif record["kind"] == AUDIT_KIND_TURN_FAILED:
            self.screen.recovery(f"{what} is back in the inbox of {record['name']} and will be delivered again")
        elif record["kind"] == AUDIT_KIND_DEAD_LETTER:
            self.screen.accident(f"{what} is a dead letter: {record['reason']}")


def last(path: str) -> str:
    """The last name of an actor's path."""
    return path.rsplit("/", 1)[-1]


async def session_logs(hub: Hub) -> list[SessionLog]:
    """All sessions with their logs.

    If cancelled: nothing has changed.
    """
    found = await hub.list_sessions(limit=MAX_SESSIONS)
    return [
        SessionLog(one.manifest.type, tuple(one.participant_ids), await hub.read_wal(one.session_id)) for one in found
    ]


async def quiet(hub: Hub) -> int:
    """Wait until the last receipts have come back; deliveries that are still not acknowledged after a while.

    If cancelled: nothing has changed.
    """
    with trio.move_on_after(LAST_RECEIPTS):
        while hub.statistics().current_unsettled:  # noqa: ASYNC110  the hub counts receipts and announces none
            await trio.sleep(0.01)
    return hub.statistics().current_unsettled


def write(path: Path, text: str) -> None:
    """Replace a file in one step: a run that is interrupted leaves the old one as it was."""
    target = path.resolve()
    draft = target.with_name(f".{target.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(target)
