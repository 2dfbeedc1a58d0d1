"""What every refusal owes its sender: the right error, a message that teaches, and a network left as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agorio.mailbox.errors import AgorioError
from tests.hub.network import Network, settle


@asynccontextmanager
async def refused(net: Network, kind: type[AgorioError], *words: str) -> AsyncIterator[None]:
    """The block is refused with exactly this error; its message holds the words; nothing has changed."""
    await settle()
    before = await net.picture()
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind, repr(caught.value)
    assert caught.value.code == kind.code
    for word in words:
        assert word in str(caught.value)
    await settle()
    assert await net.picture() == before
    await net.check()
