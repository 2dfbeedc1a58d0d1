"""The documents that the demo works on when it is given none: agorio's own.

In a checkout they are the README, the changelog and docs/. An installed package has none of these files, so two are
written from what it does carry: the README from its metadata, and the docstrings of its modules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
_LOCAL_LINK = re.compile(r"\[([^\[\]]+)\]\((?![a-z]+:)[^()]*\)")


def checkout() -> list[Path]:
    """The documents of the checkout that this package runs from; empty when it is installed."""
    root = PACKAGE.parent
    if not (root / "pyproject.toml").is_file() or not (root / "README.md").is_file():
        return []
    named = (root / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))
    return [path for path in named if path.is_file()] + sorted((root / "docs").glob("*.md"))


def write_documents(folder: Path) -> list[Path]:
    """Write the documents of an installed package into a folder."""
    texts = {"README.md": readme(), "MODULES.md": modules()}
    paths = [folder / name for name, text in texts.items() if text]
    for path in paths:
        path.write_text(texts[path.name], encoding="utf-8")
    return paths


def readme() -> str:
    """The README as the installed metadata carries it, its links to neighbouring files turned into words."""
    try:
        text = metadata("agorio").json.get("description", "")
    except PackageNotFoundError:
        return ""
    return _LOCAL_LINK.sub(r"\1", text) if isinstance(text, str) else ""


def modules() -> str:
    """The docstrings of all modules, each under its module's name."""
    return "# The modules of agorio\n\n" + "\n\n".join(_sections())


def _sections() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if text:
            yield f"## {'.'.join(parts).removesuffix('.__init__')}\n\n{text}"
