"""`agorio completion`: a script for the shell, made from the parser, so that it knows every command and option."""

from __future__ import annotations

import argparse
import re

from .running import DONE, run_sync

SCRIPT = """\
_agorio() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands} --help --version"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    case "$current" in
        -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
        *)  [ "$COMP_CWORD" -eq 1 ] && COMPREPLY=($(compgen -W "$words" -- "$current")) || COMPREPLY=() ;;
    esac
}}
complete -o default -F _agorio agorio
"""


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    return run_sync("completion", _print, args)


def _print(args: argparse.Namespace) -> int:
    print(bash(args.commands), end="")
    return DONE


def bash(commands: dict[str, argparse.ArgumentParser]) -> str:
    """The script for bash: commands first, then the options of the command; anything else is a file."""
    cases = [f'            {name}) words="{" ".join(options(parser))}" ;;' for name, parser in commands.items()]
    return SCRIPT.format(commands=" ".join(commands), cases="\n".join(cases))


def options(parser: argparse.ArgumentParser) -> list[str]:
    """The long options of a command, as its usage tells them."""
    return sorted({"--help", *re.findall(r"--[a-z][a-z-]*", parser.format_usage())})
