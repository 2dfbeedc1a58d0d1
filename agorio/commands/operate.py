"""`agorio agents`, `agorio resume` and redelivering: what an operator changes in a store while no hub has it open.

A hub is opened on the store for that, without sweepers and without a way in, so the change is made by the same code, is
audited, and is complete when the command is.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from ..hub.budgets import BudgetReport
from ..hub.hub import Hub
from ..hub.retention import Retention
from ..hub.stores.disk import DiskKnowledgeStore
from .output import print_json, print_table, say
from .running import DONE, WRONG, complain, run_async
from .stores import archive_of, existing

COLUMNS = ("agent", "id", "pending", "failed", "restarts", "tokens", "cost", "parked")


@asynccontextmanager
async def open_hub(path: Path, archive: Path | None = None) -> AsyncIterator[Hub]:
    """A hub at rest on an existing store. Raises `CommandError`, `StoreError` naming who has it open."""
    folder = archive_of(path, archive)
    retention = None if folder is None else Retention(folder, interval=0)
    store = DiskKnowledgeStore(existing(path))
    async with Hub.open(store, ttl_sweep_interval=0, expectation_sweep_interval=0, retention=retention) as hub:
        yield hub


def run_agents(args: argparse.Namespace) -> int:
    """List the agents."""
    return run_async("agents", agents, args)


def run_resume(args: argparse.Namespace) -> int:
    """Resume an agent."""
    return run_async("resume", resume, args)


async def agents(args: argparse.Namespace) -> int:
    """List the agents, what they have used and who is parked. If cancelled: nothing has changed."""
    async with open_hub(args.store) as hub:
        rows = [(info, hub.budget(info.agent_id)) for info in hub.agents()]
    wanted = [row for row in rows if not args.parked or row[0].parked is not None or row[0].parked_in]
    if args.json:
        for info, report in wanted:
            print_json({**attrs.asdict(info), "total": attrs.asdict(report.total), "counting": _counting(report)})
    else:
        print_table(COLUMNS, [_row(info, report) for info, report in wanted], whole=("id", "pending"))
    return DONE


def _counting(report: BudgetReport) -> dict[str, Any]:
    return attrs.asdict(report.counting)


def _row(info: Any, report: BudgetReport) -> list[object]:
    used = report.counting
    parked = info.parked or (f"in {', '.join(info.parked_in)}" if info.parked_in else "")
    counts = (used.failed_turns, used.restarts, used.tokens, f"{used.cost:g}")
    return [info.name, info.agent_id, info.pending, *counts, parked]


async def resume(args: argparse.Namespace) -> int:
    """Deliver a parked agent's mail again; 1 where it was not parked. If cancelled: it may be resumed."""
    async with open_hub(args.store) as hub:
        before = hub.budget(args.agent, session_id=args.session)
        after = await hub.resume_agent(args.agent, session_id=args.session, reset=not args.keep_counts)
    if args.json:
        print_json({"agent": after.name, "resumed": before.parked is not None, "counting": _counting(after)})
    if before.parked is None:
        complain("resume", f"{after.name} is not parked{' in that session' if args.session else ''}")
        return WRONG
    if not args.json:
        say(f"{after.name} is resumed; it was parked since {before.parked.reason}")
    return DONE


async def redeliver(args: argparse.Namespace) -> int:
    """Put dead letters back into their recipients' inboxes. If cancelled: some of them are."""
    async with open_hub(args.store, args.archive) as hub:
        for number in args.redeliver:
            letter = await hub.redeliver(number)
            name = (await hub.get_passport(letter.agent_id)).name
            if args.json:
                print_json({"audit_sequence": number, "agent": name, "envelope_id": letter.envelope.envelope_id})
            else:
                say(f"dead letter {number} waits for {name} again")
    return DONE
