"""`agorio replay`: a session step by step, and again under another session type or other rules."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import default_adapters
from ..actors.sessions.rule import Rule, check_rule
from ..hub.records import converter
from ..testing.replay import Difference, Recorded, compare, describe, export_session, read_log, write_log
from .output import say
from .running import DONE, WRONG, CommandError, run_sync
from .stores import find_session, open_store

SQLITE = b"SQLite format 3"


def run(args: argparse.Namespace) -> int:
    """Show a session, and compare it with another run of it; 1 where that differs."""
    return run_sync("replay", replay_log, args)


def replay_log(args: argparse.Namespace) -> int:
    """Show it."""
    recorded = read_log(_text(args))
    if args.jsonl:
        say(write_log(recorded).rstrip("\n"))
        return DONE
    before, after = _adapters(recorded, args)
    say("\n".join(describe(recorded, before)))
    if args.adapter is None and args.rules is None:
        return DONE
    differences = compare(recorded, before, after, _rules(args.rules))
    say("\n".join(_report(differences)))
    return WRONG if differences else DONE


def _report(differences: Sequence[Difference]) -> Iterator[str]:
    yield f"{len(differences)} differences:" if differences else "nothing would have come differently"
    for difference in differences:
        yield f"{difference.sequence or '':>4}  {difference.what}"


def _text(args: argparse.Namespace) -> str:
    """The session's log, from a file of its own or from a store."""
    path: Path = args.log
    if not path.is_file():
        raise CommandError(f"{path}: there is no such file")
    with path.open("rb") as file:
        is_store = file.read(len(SQLITE)) == SQLITE
    if not is_store:
        return path.read_text(encoding="utf-8")
    if args.session is None:
        raise CommandError(f"{path}: a store holds many sessions; name one, `agorio sessions` lists them")
    return trio.run(_from_store, path, args.session)


async def _from_store(path: Path, session: str) -> str:
    async with open_store(path) as store:
        return await export_session(store, await find_session(store, session))


def _adapters(recorded: Recorded, args: argparse.Namespace) -> tuple[SessionAdapter, SessionAdapter]:
    """The session type as it was and as it is to be; one that is not built in was already the given one."""
    manifest, known = recorded.setup.manifest, default_adapters()
    given = None if args.adapter is None else _load(args.adapter, args.app_dir)
    before = known.get(manifest.type, manifest.version) if manifest.type in known else given or SessionAdapter()
    return before, given or before


def _load(name: str, folder: Path) -> SessionAdapter:
    module, _, attribute = name.partition(":")
    sys.path.append(str(folder.resolve()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise CommandError(f"--adapter {name}: {exc}") from exc
    adapter = found() if isinstance(found, type) else found
    if not isinstance(adapter, SessionAdapter):
        raise CommandError(f"--adapter {name} is a {type(adapter).__name__}, not a SessionAdapter")
    return adapter


def _rules(path: Path | None) -> dict[str, Rule]:
    """Rules by the names of agents."""
    if path is None:
        return {}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {name: check_rule(converter.structure(rule, Rule)) for name, rule in plain.items()}
    except Exception as exc:
        raise CommandError(f"--rules {path}: {exc}") from exc
