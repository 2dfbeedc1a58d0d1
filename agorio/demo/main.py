"""`agorio demo`: the newsroom at work on the user's files, in this terminal."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from .digest import is_ours
from .files import PathProblem, find_files
from .options import MAX_READERS, Options, add_arguments
from .processes import NotStarted
from .screen import Screen, open_console
from .shipped import checkout, write_documents


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every file's claims were checked, 1 when something failed, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="agorio demo", description="A newsroom of agents digests your texts.")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Run the demo with parsed arguments."""
    screen = Screen(open_console(plain_output=args.plain), quiet=args.quiet)
    try:
        with documents(args.paths, args.out) as (files, base):
            check_out(args.out, force=args.force)
            if not 1 <= args.readers <= MAX_READERS:
                raise PathProblem(f"--readers {args.readers}: must be between 1 and {MAX_READERS}")
            options = Options(files, base, args.out, args.crash, args.readers, args.remote, args.processes)
            return start(options, screen)
    except PathProblem as exc:
        print(f"agorio demo: {exc}", file=sys.stderr)
        return 2


def start(options: Options, screen: Screen) -> int:
    """Run the network; an interruption by the user ends it in order and is no traceback."""
    # Imported here: a wrong command line is answered without loading the hub.
    from .network import publish

    try:
        return trio.run(publish, options, screen)
    except BaseException as exc:
        if code := quiet_end(exc):
            return code
        raise


def quiet_end(exc: BaseException) -> int:
    """The exit code for Ctrl-C and for an agent that cannot be started, also in a group; 0 for anything else."""
    leaves = tuple(_leaves(exc))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        print("agorio demo: interrupted; no digest was written", file=sys.stderr)
        return 130
    if all(isinstance(leaf, NotStarted) for leaf in leaves):
        print(f"agorio demo: {leaves[0]}; no digest was written", file=sys.stderr)
        return 1
    return 0


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc


@contextmanager
def documents(paths: Sequence[str], out: Path) -> Iterator[tuple[tuple[Path, ...], Path | None]]:
    """The files to work on and the folder to name them from; agorio's own when none are given."""
    if paths:
        yield tuple(find_files(paths, leave_out=[out])), None
        return
    if own := checkout():
        yield tuple(own), own[0].parent
        return
    with tempfile.TemporaryDirectory(prefix="agorio-demo-") as folder:
        yield tuple(write_documents(Path(folder))), Path(folder)


def check_out(out: Path, *, force: bool) -> None:
    """Refuse, before any work, a digest's place that cannot be written or holds something else."""
    folder = out.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PathProblem(f"--out {out}: cannot write into {folder}")
    if out.exists() and not out.is_file():
        raise PathProblem(f"--out {out}: is no file")
    if out.exists() and not force:
        with out.open(encoding="utf-8", errors="replace") as file:
            if not is_ours(file):
                raise PathProblem(
                    f"--out {out}: exists and is no digest; choose another file, or --force to overwrite it"
                )
