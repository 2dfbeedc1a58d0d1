"""Links of a Markdown document and the anchors of its headings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .text import CODE_SPAN, Block, clean

_TARGET = re.compile(r"(?<!!)\[[^\[\]]{1,300}\]\(\s*<?([^()<>\s]{1,500})>?(?:\s+\"[^\"]{0,300}\")?\s*\)")


def links(block: Block) -> Iterator[tuple[int, str]]:
    """The targets of a Markdown block's inline links with their lines; code spans hold none."""
    if block.kind == "code":
        return
    for offset, line in enumerate(block.lines):
        if "](" in line:
            for target in _TARGET.finditer(CODE_SPAN.sub("", line)):
                yield block.line + offset, target[1]


def anchor(heading: str) -> str:
    """The anchor that code hosts derive from a heading."""
    text = re.sub(r"[^\w\- ]", "", clean(heading).lower())
    return text.replace(" ", "-")
