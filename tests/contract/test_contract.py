"""What an outsider writes from the description alone works: other spellings, other orders, other forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import agorio
import agorio.testing
from agorio import (
    AllOf,
    Always,
    AnyOf,
    AuthBlock,
    AuthError,
    AuthRegistry,
    DiskKnowledgeStore,
    FromSpeaker,
    Hub,
    HubClient,
    LocalLink,
    MemoryKnowledgeStore,
    Passport,
    Priority,
    Resume,
    TransitionGraph,
)
from agorio.testing import EchoAgent, run_in_virtual_time


class Token:
    """An adapter with nothing but `verify`."""

    async def verify(self, passport: Passport, credentials: AuthBlock) -> None:
        if credentials.claim.get("token") != "secret":
            raise AuthError("no")


def test_the_test_kit_has_its_names() -> None:
    assert [name for name in agorio.testing.__all__ if not hasattr(agorio.testing, name)] == []
    with pytest.raises(AttributeError, match="nonsense"):
        _ = agorio.testing.nonsense


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("token", Token()), {}),
        ((Token(), "token"), {}),
        ((Token(),), {"scheme": "token"}),
        ((), {"scheme": "token", "adapter": Token()}),
    ],
)
def test_adapters_are_registered_in_any_spelling(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    registry = AuthRegistry.default()
    registry.register(*given, **named)
    assert registry.schemes() == ("", "token")


def test_an_adapter_needs_a_scheme_from_somewhere() -> None:
    with pytest.raises(agorio.InvalidInput, match="scheme"):
        AuthRegistry.default().register(Token())


def test_an_adapter_of_verify_alone_guards_the_hub() -> None:
    async def main() -> None:
        registry = AuthRegistry.default()
        registry.register("", Token())
        async with Hub.open(MemoryKnowledgeStore(), auth=registry) as hub:
            client = HubClient(LocalLink(hub), hub=hub)
            with pytest.raises(AuthError):
                await client.register(EchoAgent("a"), Passport("a"), Resume())
            await client.register(EchoAgent("a"), Passport("a", auth=AuthBlock("", {"token": "secret"})), Resume())

    run_in_virtual_time(main)


@pytest.mark.parametrize("combine", [AllOf, AnyOf])
def test_conditions_combine_as_a_list_or_one_by_one(combine: Any) -> None:
    assert combine(Always(), FromSpeaker("a")) == combine([Always(), FromSpeaker("a")])
    assert combine(conditions=[Always()]) == combine(Always())


def test_priorities_have_their_common_names() -> None:
    assert int(Priority.LOW) == int(Priority.BACKGROUND)
    assert int(Priority.HIGH) == int(Priority.URGENT)


def test_graphs_and_expectations_are_taken_as_objects_or_as_data() -> None:
    async def main() -> None:
        async with Hub.open(MemoryKnowledgeStore()) as hub:
            client = HubClient(LocalLink(hub), hub=hub)
            a, b = [await client.register(EchoAgent(name), Passport(name), Resume()) for name in "ab"]
            graph = TransitionGraph.round_robin([a.agent_id, b.agent_id], max_turns=2)
            session = await a.open(
                type="workflow",
                target="b",
                knobs={"graph": graph},
                expectations=[{"name": "max_silence", "params": {"seconds": 9}, "on_violation": "audit"}],
            )
            assert session.metadata.knobs["graph"] == graph.to_dict()

    run_in_virtual_time(main)


def test_a_disk_store_takes_a_folder_and_virtual_time_waits_for_it(tmp_path: Path) -> None:
    async def main() -> float:
        async with Hub.open(DiskKnowledgeStore(tmp_path)) as hub:
            client = HubClient(LocalLink(hub), hub=hub)
            await client.register(EchoAgent("a"), Passport("a"), Resume())
            return trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == 0.0
    assert clock.autojump_threshold == 0
    assert (tmp_path / "hub.db").is_file()
