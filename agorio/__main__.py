"""The command line: `agorio` and `python -P -m agorio`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from .commands.arguments import add_commands
from .demo.options import add_arguments


def build_parser() -> argparse.ArgumentParser:
    """The parser of every subcommand; each sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(prog="agorio", description="An actor-model runtime for networks of agents.")
    parser.add_argument("--version", action="version", version=f"agorio {version('agorio')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run a small newsroom of agents over your text files")
    add_arguments(demo)
    demo.set_defaults(run=_demo)
    add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(argv)
    code: int = args.run(args)
    return code


def _demo(args: argparse.Namespace) -> int:
    from .demo.main import run  # rich is slow to import, and --help and --version should not wait for it

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
