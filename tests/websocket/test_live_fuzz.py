"""A fuzzer on a live server: whatever is said to it, its other agents notice nothing and nothing is left behind.

About half a minute as it stands. For hours by hand, with new examples each time:

    AGORIO_FUZZ_EXAMPLES=1000000 pytest tests/websocket/test_live_fuzz.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agorio.actors.sessions.wire import WIRE
from agorio.mailbox.errors import AgorioError
from agorio.transports.codec import Codec, Unreadable
from agorio.transports.limits import Limits
from tests.websocket.live_grammar import Play, noise, plays, texts
from tests.websocket.live_scene import Scene, drive

pytestmark = pytest.mark.slow
KINDS = ("send", "receipt", "subscribe", "request", "hello", "response")
BY_HAND = os.environ.get("AGORIO_FUZZ_EXAMPLES")


def fuzz(strategy: st.SearchStrategy[Any], examples: int) -> Callable[[Callable[[Any], None]], None]:
    """Have Hypothesis attack with so many examples, or as many as the environment says."""

    def attack(one: Callable[[Any], None]) -> None:
        @settings(
            max_examples=int(BY_HAND or examples),
            derandomize=BY_HAND is None,
            database=None,
            deadline=None,
            phases=(Phase.generate,),  # one hub serves all examples: after a failure a smaller one means nothing
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def run(example: Any) -> None:
            one(example)

        run()

    return attack


def check_left(scene: Scene) -> None:
    """The honest connection is there, with both its ends, and at most what was still in hand of the last attack."""
    assert 1 <= scene.left["Connection"] <= 2
    assert scene.left["ConnectionActor"] == 1
    assert scene.left["WebsocketEndpoint"] <= 2
    assert scene.left["GuardedStream"] <= 3
    assert scene.tasks < 80


def test_peers_that_speak_the_protocol_badly() -> None:
    scene = drive(fuzz(plays(), 150), "play")
    assert scene.plays >= 150
    check_left(scene)


def test_peers_that_speak_something_else() -> None:
    scene = drive(fuzz(noise(), 150), "say")
    assert scene.plays >= 150
    check_left(scene)


CODEC = Codec(WIRE, Limits())


@settings(max_examples=int(BY_HAND or 500), derandomize=BY_HAND is None, suppress_health_check=list(HealthCheck))
@given(texts())
def test_the_decoder_never_raises(data: bytes) -> None:
    for item in CODEC.decode(data):
        if isinstance(item, Unreadable):
            assert item.error.code
        else:
            with suppress(AgorioError):  # a number beyond 64 bits in a payload is refused by whoever hands it on
                assert CODEC.decode(CODEC.encode(item))


def test_the_attacks_are_of_every_kind() -> None:
    """A grammar that has gone lame would find nothing and say nothing."""
    seen: set[str] = set()

    @settings(max_examples=300, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(plays())
    def look(play: Play) -> None:
        seen.update(play.openings, (step.act for step in play.steps))
        said = b"".join(step.data for step in play.steps)
        seen.update(kind for kind in KINDS if f'"kind": "{kind}"'.encode() in said)

    look()
    assert seen >= {"nothing", "upgraded", "greeted", "registered", "say", "deaf", "reset", "hang up"}
    assert seen >= set(KINDS)
