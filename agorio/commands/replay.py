"""`agorio replay`: a session step by step, and again under another session type or other rules."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import default_adapters
from ..actors.sessions.rule import Rule, SessionTypes, check_rule
from ..demo.screen import plain
from ..hub.records import converter
from ..hub.stores.protocol import KnowledgeStore
from ..mailbox.errors import AgorioError, BadFrame
from ..testing.comparison import Difference, compare
from ..testing.replay import Recorded, describe, headline, read_log, record_session, replay, standing, write_log
from .output import print_json, print_raw, say
from .running import DONE, WRONG, CommandError, complain, run_async
from .stores import documents, find_session, open_store
from .transfer import load

SQLITE = b"SQLite format 3"


@attrs.frozen
class Request:
    """What is asked."""

    adapter: SessionAdapter | None
    """The session type to run again as."""
    recorded_adapter: SessionAdapter | None
    """The one that it ran as, where the command line names it."""
    rules: dict[str, Rule]
    """Rules by the names of agents."""
    is_comparing: bool
    """Whether anything is run again."""
    as_json: bool
    """Whether JSON lines are wanted."""

    def before(self, recorded: Recorded) -> SessionAdapter | None:
        """The session type as it was; None where it is not at hand."""
        manifest, known = recorded.setup.manifest, default_adapters()
        given = self.recorded_adapter
        if given is not None and given.manifest.type == manifest.type:
            return given
        return known.get(manifest.type, manifest.version) if manifest.type in known else None

    def after(self, recorded: Recorded) -> SessionAdapter:
        """The session type as it is to be."""
        return self.adapter or self.before(recorded) or SessionAdapter()

    def concerns(self, recorded: Recorded) -> bool:
        """Whether the session is among those to run again, where all of a store are."""
        return self.adapter is None or self.adapter.manifest.type == recorded.setup.manifest.type

    def differences(self, recorded: Recorded) -> list[Difference]:
        """Run it again. Where only the rules change, a session type that is not at hand may stand for itself."""
        before, after = self.before(recorded), self.after(recorded)
        return compare(recorded, after if self.adapter is None else before, after, self.rules)


def run(args: argparse.Namespace) -> int:
    """Show a session, or compare sessions with another run of them; 1 where that differs."""
    return run_async("replay", replay_log, args)


async def replay_log(args: argparse.Namespace) -> int:
    """Show it. If cancelled: nothing has changed."""
    request = _request(args)
    async with _open(args.log) as source:
        if isinstance(source, Recorded):
            return _one(source, request, args)
        if args.session is not None:
            return _one(await record_session(source, await find_session(source, args.session)), request, args)
        if not request.is_comparing:
            raise CommandError(f"{args.log}: holds many sessions; name one, `agorio sessions` lists them")
        return await _all(source, request)


def _request(args: argparse.Namespace) -> Request:
    adapter = None if args.adapter is None else load_adapter(args.adapter, args.app_dir)
    recorded = None if args.recorded_adapter is None else load_adapter(args.recorded_adapter, args.app_dir)
    is_comparing = adapter is not None or args.rules is not None
    return Request(adapter, recorded, load_rules(args.rules), is_comparing, args.json)


def _one(recorded: Recorded, request: Request, args: argparse.Namespace) -> int:
    """One session: its log, its steps, or what is different."""
    if args.jsonl:
        print_raw(write_log(recorded).rstrip("\n").encode())
        return DONE
    _complain_of_strangers(request, [recorded])
    if not request.is_comparing:
        _show(recorded, request)
        return DONE
    if not request.as_json:
        _show(recorded, request)
    return _report(recorded, request.differences(recorded), request)


def _show(recorded: Recorded, request: Request) -> None:
    adapter = request.before(recorded)
    if adapter is None:
        kind = recorded.setup.manifest.type
        complain("replay", f"session type {kind!r} is not built in: turns are not shown without --recorded-adapter")
    for line in _steps(recorded, adapter) if request.as_json else describe(recorded, adapter or SessionAdapter()):
        print_json(line) if isinstance(line, dict) else _line(line)


def _steps(recorded: Recorded, known: SessionAdapter | None) -> Iterator[dict[str, Any]]:
    adapter = known or SessionAdapter()
    for envelope, live in replay(recorded, adapter):
        expected = adapter.expected_next(live.adapter_state) if live.state == "active" else None
        yield {
            "session": recorded.setup.session_id,
            "step": envelope.sequence,
            "at": envelope.created_at,
            "sender": recorded.name(envelope.sender_id),
            "type": envelope.event_type,
            "text": envelope.text,
            "state": live.state,
            "next": None if expected is None else list(map(recorded.name, expected)),
            "close_reason": live.close_reason,
            "stands": standing(recorded, live, adapter),
        }


async def _all(store: KnowledgeStore, request: Request) -> int:
    """Every session that is concerned: 1 where any differs or cannot be read."""
    code, seen = DONE, []
    async for document in documents(store, "session/"):
        try:
            recorded = await record_session(store, document.key.partition("/")[2])
            if not request.concerns(recorded):
                continue
            seen.append(attrs.evolve(recorded, log=()))
            differences = request.differences(recorded)
        except AgorioError as error:
            complain("replay", f"{document.key}: {error}")
            code = WRONG
            continue
        if not request.as_json:
            say(headline(recorded))
        code = max(code, _report(recorded, differences, request))
    _complain_of_strangers(request, seen)
    if not seen:
        raise CommandError("the store has no session of this type")
    return code


def _report(recorded: Recorded, differences: Sequence[Difference], request: Request) -> int:
    if request.as_json:
        for difference in differences:
            step = {"session": recorded.setup.session_id, "step": difference.sequence, "said": difference.said}
            print_json({**step, "before": difference.before, "after": difference.after})
    elif not differences:
        say("nothing would have come differently")
    else:
        count = f"{len(differences)} differences, the first" if len(differences) > 1 else "1 difference,"
        say(f"{count} at step {differences[0].sequence}:")
        for one in differences:
            _line(f"{one.sequence:4}  {one.said}")
            _line(f"        then  {one.before}")
            _line(f"        now   {one.after}")
    return WRONG if differences else DONE


def _line(text: str) -> None:
    """One line that keeps its columns and cannot steer a terminal."""
    start = len(text) - len(text.lstrip())
    columns = [plain(part) for part in text[start:].split("  ")]
    sys.stdout.write(" " * start + "  ".join(columns) + "\n")


def _complain_of_strangers(request: Request, seen: Sequence[Recorded]) -> None:
    """A rule for somebody who takes part in nothing is a name misspelled."""
    members = {recorded.name(who) for recorded in seen for who in recorded.setup.participants}
    for name in request.rules.keys() - members:
        complain("replay", f"the rule of {name!r} concerns nobody: no such member")


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[KnowledgeStore | Recorded]:
    """What the file holds: a store, an export of one, or one session's log."""
    head = _head(path)
    if head.startswith(SQLITE):
        async with open_store(path) as store:
            yield store
    elif b'"agorio_export"' in head:
        yield await load(path)
    else:
        yield _read(path)


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise CommandError(f"{path}: there is no such file")
    with path.open("rb") as file:
        return file.readline()


def _read(path: Path) -> Recorded:
    try:
        return read_log(path.read_text(encoding="utf-8"))
    except (BadFrame, UnicodeDecodeError) as exc:
        raise CommandError(f"{path}: neither a store, nor an export, nor a session's log: {exc}") from exc


def load_adapter(target: str, folder: Path) -> SessionAdapter:
    """The session type that `module:name` stands for. Raises `CommandError`.

    The folder comes last in the search, so that a file in it cannot take a library's name.
    """
    module, _, path = target.partition(":")
    if not module or not path:
        raise CommandError(f"{target!r} is not of the form module:name")
    sys.path.append(str(folder.absolute()))
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as exc:
        raise CommandError(f"{target}: {exc}") from exc
    try:
        adapter = found() if callable(found) and not isinstance(found, SessionAdapter) else found
    except TypeError as exc:
        raise CommandError(f"{target} is called without arguments to make a session type: {exc}") from exc
    if not isinstance(adapter, SessionAdapter) or not hasattr(adapter, "manifest"):
        raise CommandError(f"{target} is a {type(adapter).__name__}, not a SessionAdapter with a manifest")
    return adapter


def load_rules(path: Path | None) -> dict[str, Rule]:
    """Rules by the names of agents. Raises `CommandError`."""
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        plain = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        return {name: _rule(name, rule) for name, rule in plain.items()}
    except (AgorioError, CommandError, ValueError, AttributeError) as exc:
        raise CommandError(f"{path}: {exc}") from exc


def _rule(name: str, plain: Any) -> Rule:
    _check_fields(plain, Rule, name)
    try:
        return check_rule(converter.structure(plain, Rule))
    except (TypeError, ValueError, KeyError) as exc:
        raise CommandError(f"the rule of {name!r}: {exc!r}") from exc


def _check_fields(plain: Any, record: Any, where: str) -> None:
    """Refuse a field that no rule has: a typing error would otherwise loosen the rule."""
    if not isinstance(plain, dict) or not attrs.has(record):
        return
    known = {field.name: field.default for field in attrs.fields(record) if field.name != "extra"}
    for key, value in plain.items():
        if key not in known:
            raise CommandError(f"{where}.{key}: no such field; there are {', '.join(known)}")
        _check_fields(value, SessionTypes if key == "session_types" else type(known[key]), f"{where}.{key}")
