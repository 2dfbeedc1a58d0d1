"""The command line: `agorio` and `python -P -m agorio`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version


def build_parser() -> argparse.ArgumentParser:
    """The parser of every subcommand; each sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(prog="agorio", description="An actor-model runtime for networks of agents.")
    parser.add_argument("--version", action="version", version=f"agorio {version('agorio')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run a small network of agents in this terminal")
    demo.add_argument("paths", nargs="*", metavar="PATH", help="files for the demo to work on")
    demo.set_defaults(run=_demo)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(argv)
    code: int = args.run(args)
    return code


def _demo(args: argparse.Namespace) -> int:
    # Imported here: trio takes long to import, and --help and --version should not wait for it.
    from .demo.main import main as run_demo

    return run_demo(args.paths)


if __name__ == "__main__":
    sys.exit(main())
