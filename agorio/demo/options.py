"""The demo's command line. It imports neither trio nor rich, so that `agorio --help` is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

import attrs

MAX_READERS = 32
"""The most files that may be worked on at once."""


@attrs.frozen
class Options:
    """What the command line asks for."""

    files: tuple[Path, ...]
    """The files to work on."""
    base: Path | None
    """The folder that they are named from; None names them as they were given."""
    out: Path
    """Where the digest goes."""
    crash: bool = False
    """Whether the checker has its accident."""
    readers: int = 3
    """Readers at work, and so files worked on at once."""
    remote: bool = False
    """Whether the agents reach the hub over a websocket."""
    processes: bool = False
    """Whether each reader and the checker is a process of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo's arguments, for its own parser and for the `demo` command of `agorio`."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="text files or folders (default: agorio's own documents)"
    )
    parser.add_argument("--out", type=Path, default=Path("digest.md"), metavar="FILE", help="the digest (digest.md)")
    parser.add_argument("--force", action="store_true", help="overwrite FILE even if it is no digest")
    parser.add_argument("--crash", action="store_true", help="crash the checker in the middle of a turn")
    parser.add_argument("--remote", action="store_true", help="let the agents reach the hub over a websocket")
    parser.add_argument("--processes", action="store_true", help="run every reader and the checker as its own process")
    parser.add_argument("--readers", type=int, default=3, metavar="N", help="files worked on at once (3)")
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    parser.add_argument("--plain", action="store_true", help="no colour, no moving parts")
