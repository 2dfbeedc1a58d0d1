"""What a disk store counts."""

from __future__ import annotations

import attrs


@attrs.frozen
class DiskStatistics:
    """Counts of one open store."""

    total_commits: int
    """Commits since it was opened."""
    total_failures: int
    """Commits that the disk refused."""
    total_reconnects: int
    """Connections that were given up after an error of the disk."""
    current_streams: int
    """Streams."""
    current_documents: int
    """Documents."""
    current_rows: int
    """Records of all streams that were ever written."""
    current_damaged: int
    """Streams, documents and rows that are known to be unreadable."""
