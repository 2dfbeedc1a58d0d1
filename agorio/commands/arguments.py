"""The arguments of every command. It imports neither trio nor rich, so that `agorio --help` is quick."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], int]
STATES = ("open", "pending", "active", "closing", "closed", "expired")


def add_commands(commands: Commands) -> None:
    """Add every command of this package."""
    for add in (
        _serve,
        _agent,
        _health,
        _sessions,
        _log,
        _replay,
        _audit,
        _dead_letters,
        _agents,
        _resume,
        _doctor,
        _export,
        _import,
        _completion,
    ):
        add(commands)


def _run(module: str, function: str = "run") -> Run:
    """The command's function, imported when it is called."""

    def run(args: argparse.Namespace) -> int:
        code: int = getattr(importlib.import_module(f".{module}", __package__), function)(args)
        return code

    return run


def _command(commands: Commands, name: str, help: str, run: Run, **options: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **options)
    parser.set_defaults(run=run)
    return parser


def _reader(commands: Commands, name: str, help: str, run: Run) -> argparse.ArgumentParser:
    """A command that reads a store."""
    parser = _command(commands, name, help, run)
    parser.add_argument("store", type=Path, metavar="STORE", help="the store's file; no hub may have it open")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    return parser


def _serve(commands: Commands) -> None:
    parser = _command(commands, "serve", "run a hub until SIGTERM or Ctrl-C", _run("serve"))
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; the options here go before it")
    parser.add_argument("--store", type=Path, metavar="PATH", help="keep everything in this file (default: in memory)")
    parser.add_argument("--host", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port; 0 takes a free one (8765)")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="the certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    _ready_file(parser, "the hub's URL")


def _agent(commands: Commands) -> None:
    parser = _command(commands, "agent", "run an agent on a hub until SIGTERM or Ctrl-C", _run("agent"))
    parser.add_argument("target", metavar="MODULE:NAME", help="an async function, an agent, or what makes one")
    _hub(parser)
    parser.add_argument("--name", help="its name on the hub (default: its own)")
    parser.add_argument(
        "--capability", action="append", default=[], metavar="C", help="what it can do; may be repeated"
    )
    parser.add_argument("--attach", action="store_true", help="take up the name where the hub knows it already")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="turns in hand at once (1)")
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help="proves the name with this shared secret")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="proves the name with this JSON web token")
    parser.add_argument(
        "--app-dir", type=Path, default=Path(), metavar="DIR", help="where modules are looked for too (.)"
    )
    _ready_file(parser, "the agent's id")


def _health(commands: Commands) -> None:
    parser = _command(commands, "health", "ask a running hub whether it answers", _run("health"))
    _hub(parser)
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="seconds to wait (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _hub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hub", required=True, metavar="URL", help="ws://host:port or wss://host:port")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="trust this certificate authority, PEM")


def _ready_file(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help=f"written with {what} once it is up")


def _sessions(commands: Commands) -> None:
    parser = _reader(commands, "sessions", "list the sessions of a store", _run("sessions"))
    parser.add_argument("--state", choices=STATES, help="only these; `open` is all that have not ended")
    parser.add_argument("--agent", metavar="NAME", help="only those of this agent, by name or id")


def _log(commands: Commands) -> None:
    parser = _reader(commands, "log", "print the log of a session", _run("session_log"))
    parser.add_argument("session", metavar="SESSION", help="its id, or a part of it that only one session has")
    parser.add_argument("--type", metavar="T", help="only events of this type, with or without `ag2.`")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="only what came after this sequence")
    parser.add_argument("--from", dest="sender", metavar="NAME", help="only what this agent said, by name or id")
    _follow(parser, "until the session ends")
    _archive(parser)


def _replay(commands: Commands) -> None:
    help = "show a session step by step, and where other rules would have made something else of it"
    parser = _command(commands, "replay", help, _run("replay"))
    parser.add_argument("log", type=Path, metavar="LOG", help="a store's file, an export of one, or one session's log")
    parser.add_argument(
        "session", nargs="?", metavar="SESSION", help="its id or a part of it; without one all are compared"
    )
    parser.add_argument("--adapter", metavar="MODULE:NAME", help="run it again as this session type, and compare")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="run it again under these rules, by name")
    parser.add_argument("--recorded-adapter", metavar="MODULE:NAME", help="what it ran as, if not built in")
    parser.add_argument(
        "--app-dir", type=Path, default=Path(), metavar="DIR", help="where modules are looked for too (.)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object per step, or per difference")
    output.add_argument("--jsonl", action="store_true", help="write the session's log as a file of its own instead")


def _audit(commands: Commands) -> None:
    parser = _reader(commands, "audit", "print the audit log of a store", _run("audit"))
    parser.add_argument("--kind", metavar="K", help="only records of this kind")
    parser.add_argument("--tail", type=int, metavar="N", help="only the newest N")
    parser.add_argument("--agent", metavar="NAME", help="only records that concern this agent, by name or id")
    parser.add_argument("--session", metavar="ID", help="only records of this session")
    _follow(parser, "until Ctrl-C")
    _archive(parser)


def _dead_letters(commands: Commands) -> None:
    help = "list the deliveries that were given up, or put some of them back"
    parser = _reader(commands, "dead-letters", help, _run("audit", "run_dead_letters"))
    parser.add_argument(
        "--redeliver", type=int, nargs="+", metavar="N", help="put these back into their inboxes, by their numbers"
    )
    _archive(parser)


def _agents(commands: Commands) -> None:
    help = "list the agents of a store, what they have used up and who is parked"
    parser = _reader(commands, "agents", help, _run("operate", "run_agents"))
    parser.add_argument("--parked", action="store_true", help="only those that wait to be resumed")


def _resume(commands: Commands) -> None:
    help = "resume an agent that was parked: its mail is delivered again"
    parser = _reader(commands, "resume", help, _run("operate", "run_resume"))
    parser.add_argument("agent", metavar="AGENT", help="its name or id")
    parser.add_argument("--session", metavar="ID", help="where it is parked in this session only")
    parser.add_argument("--keep-counts", action="store_true", help="what it has used goes on counting")


def _follow(parser: argparse.ArgumentParser, end: str) -> None:
    parser.add_argument("--follow", "-f", action="store_true", help=f"go on {end}; a hub may have the store open")


def _archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--archive", type=Path, metavar="DIR", help="the store's archive (STORE.archive)")


def _doctor(commands: Commands) -> None:
    help = "check every checksum of a store and its archive, and fold every session"
    _archive(_reader(commands, "doctor", help, _run("doctor")))


def _export(commands: Commands) -> None:
    parser = _command(commands, "export", "write a store as JSON lines", _run("transfer", "run_export"))
    parser.add_argument("store", type=Path, metavar="STORE", help="the store's file; no hub may have it open")
    parser.add_argument("file", type=Path, metavar="FILE.jsonl", help="the file to write; it must not exist")


def _import(commands: Commands) -> None:
    parser = _command(commands, "import", "make a store from JSON lines", _run("transfer", "run_import"))
    parser.add_argument("file", type=Path, metavar="FILE.jsonl", help="what `export` has written")
    parser.add_argument("store", type=Path, metavar="STORE", help="the store to make; it must not exist")


def _completion(commands: Commands) -> None:
    parser = _command(commands, "completion", "print a completion script for a shell", _run("completion"))
    parser.add_argument("shell", choices=("bash",), help='put `eval "$(agorio completion bash)"` into ~/.bashrc')
    parser.set_defaults(commands=commands.choices)
