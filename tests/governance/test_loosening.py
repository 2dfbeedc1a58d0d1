"""What counts as granting more: every field of a rule, and globs by what they admit."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio import AccessBlock, InboxBlock, LimitsBlock, RateBlock, Rule, SessionTypes
from agorio.hub.loosening import covers, loosened

ACCESS = AccessBlock(("ann", "b*"), ("c?t",), SessionTypes(("consulting",), ("con*",)))
LIMITS = LimitsBlock("1h", "5m", 3, 2, 2)
TIGHT = Rule(ACCESS, LIMITS, RateBlock(60, 5), InboxBlock(10, "reject", 5))


def changed(block: str, field: str, value: Any) -> Rule:
    return attrs.evolve(TIGHT, **{block: attrs.evolve(getattr(TIGHT, block), **{field: value})})


LOOSER = [
    ("access", "inbound_from", ["*"]),
    ("access", "inbound_from", ["ann", "b*", "carol"]),
    ("access", "inbound_from", ["?*"]),
    ("access", "inbound_from", ["b*", "[ab]*"]),
    ("access", "outbound_to", ["c*t"]),
    ("access", "session_types", {"initiate": ["con*"], "accept": ["con*"]}),
    ("access", "session_types", {"initiate": [], "accept": ["*"]}),
    ("limits", "delegation_depth", 0),
    ("limits", "delegation_depth", 4),
    ("limits", "automatic_turns", None),
    ("limits", "automatic_turns", 51),
    ("limits", "max_concurrent_sessions", None),
    ("limits", "max_concurrent_sessions", 3),
    ("limits", "max_concurrent_tasks", 0),
    ("limits", "session_ttl_default", "61m"),
    ("limits", "session_ttl_default", None),
    ("limits", "task_ttl_default", None),
    ("rate", "envelopes_per_minute", None),
    ("rate", "envelopes_per_minute", 61),
    ("rate", "burst", 6),
    ("inbox", "max_pending", None),
    ("inbox", "max_pending", 11),
    ("inbox", "overflow", "drop_oldest"),
    ("inbox", "overflow", "block"),
    ("inbox", "high_water", 6),
    ("inbox", "high_water", None),
]
TIGHTER = [
    ("access", "inbound_from", ["bob", "bo*", "b?*"]),
    ("access", "inbound_from", []),
    ("access", "outbound_to", ["cat", "cut"]),
    ("access", "session_types", {"initiate": ["consulting"], "accept": ["conv*", "consulting"]}),
    ("limits", "delegation_depth", 1),
    ("limits", "automatic_turns", 49),
    ("limits", "max_concurrent_sessions", 1),
    ("limits", "session_ttl_default", 60),
    ("limits", "task_ttl_default", "5m"),
    ("rate", "envelopes_per_minute", 30),
    ("rate", "burst", None),
    ("rate", "burst", 1),
    ("inbox", "max_pending", 9),
    ("inbox", "high_water", 4),
]


@pytest.mark.parametrize(("block", "field", "value"), LOOSER)
def test_it_grants_more(block: str, field: str, value: Any) -> None:
    found = loosened(TIGHT, changed(block, field, value))
    assert found is not None
    assert found.startswith(f"{block}.{field}")


@pytest.mark.parametrize(("block", "field", "value"), TIGHTER)
def test_it_grants_no_more(block: str, field: str, value: Any) -> None:
    assert loosened(TIGHT, changed(block, field, value)) is None


def test_the_default_rule_may_be_tightened_everywhere() -> None:
    assert loosened(Rule(), TIGHT) is None
    assert loosened(Rule(), Rule(inbox=InboxBlock(5, "drop_oldest"))) is None
    assert loosened(Rule(limits=LimitsBlock(None, None)), Rule()) is None


def test_what_a_newer_peer_added_is_not_the_agents_to_change() -> None:
    assert loosened(Rule(extra={"moon": 1}), Rule()) == "extra"


def test_a_rate_without_a_burst_has_one() -> None:
    assert loosened(Rule(rate=RateBlock(600)), Rule(rate=RateBlock(600, 100))) == "rate.burst"
    assert loosened(Rule(rate=RateBlock(600)), Rule(rate=RateBlock(600, 10))) is None


globs = st.text(st.sampled_from("ab*?["), max_size=6)


@given(globs, globs, st.text(st.sampled_from("ab"), max_size=6))
def test_a_glob_that_is_covered_admits_no_name_that_the_wider_does_not(wide: str, narrow: str, name: str) -> None:
    if covers(wide, narrow) and fnmatchcase(name, narrow):
        assert fnmatchcase(name, wide)


@pytest.mark.parametrize(
    ("wide", "narrow", "is_covered"),
    [
        ("a*", "ab*", True),
        ("*b", "a*b", True),
        ("?*", "*", False),
        ("a?", "a*", False),
        ("a*", "a?", True),
        ("", "", True),
    ],
)
def test_covering(wide: str, narrow: str, is_covered: bool) -> None:
    assert covers(wide, narrow) is is_covered
