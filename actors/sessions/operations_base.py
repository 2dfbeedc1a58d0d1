"""The base of the control calls that cross a link."""

from __future__ import annotations

from typing import ClassVar

import attrs


@attrs.frozen
class Operation:
    """The base of all control calls."""

    op: ClassVar[str] = ""
