"""The envelope: frozen, checked when it is made, stamped by copying."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.mailbox.envelope import MAX_TEXT_FIELD, Envelope, stamp, visible_to
from agorio.mailbox.errors import InvalidInput
from agorio.mailbox.priority import Priority

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
ENVELOPES = st.builds(
    Envelope,
    TEXT,
    TEXT,
    st.none() | st.lists(TEXT, max_size=3),
    TEXT,
    st.dictionaries(TEXT, st.integers(0, 5), max_size=2),
    causation_id=st.none() | TEXT,
    task_id=st.none() | TEXT,
    trace_id=st.none() | TEXT,
    priority=st.sampled_from(Priority),
    depth=st.integers(0, 100),
    idempotency_key=st.none() | TEXT,
    ttl_seconds=st.none() | st.floats(0.001, 1e9),
    extra=st.dictionaries(TEXT, st.integers(0, 5), max_size=1),
)


def test_it_cannot_be_changed() -> None:
    envelope = Envelope("s", "a", event_data={"text": "x"})
    for field in attrs.fields(Envelope):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(envelope, field.name, None)
    assert envelope.text == "x"
    assert Envelope("s", "a").text == Envelope("s", "a", event_data={"text": 5}).text == ""


@given(envelope=ENVELOPES)
def test_a_stamp_changes_what_the_hub_stamps_and_nothing_else(envelope: Envelope) -> None:
    stamps: dict[str, Any] = {
        "envelope_id": "e",
        "sequence": 7,
        "created_at": "t",
        "depth": 3,
        "audience": ("b",),
    }
    stamped = stamp(envelope, **stamps)
    assert stamped == attrs.evolve(envelope, **stamps)
    assert type(stamped) is Envelope
    assert hash(Envelope("s", "a").session_id) == hash("s")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        stamped.depth = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("audience", "kept"),
    [(None, None), ((), ()), (["b", "a", "b"], ("b", "a")), (("a",), ("a",)), (iter("ab"), ("a", "b"))],
)
def test_an_audience_is_a_tuple_without_repeats(audience: Any, kept: Any) -> None:
    assert Envelope("s", "x", audience).audience == kept


@pytest.mark.parametrize(
    ("value", "priority"),
    [("urgent", Priority.URGENT), ("Background", Priority.BACKGROUND), (1, Priority.NORMAL), (Priority.NORMAL,) * 2],
)
def test_a_priority_may_be_written_in_words(value: Any, priority: Priority) -> None:
    assert Envelope("s", "x", priority=value).priority is priority


BAD: list[tuple[str, Any]] = [
    ("session_id", None),
    ("session_id", 5),
    ("sender_id", b"x"),
    ("session_id", "x" * (MAX_TEXT_FIELD + 1)),
    ("sender_id", "\ud800"),
    ("audience", "all"),
    ("audience", [1]),
    ("audience", [None]),
    ("causation_id", 1),
    ("task_id", []),
    ("trace_id", {}),
    ("idempotency_key", ""),
    ("idempotency_key", 1.5),
    ("idempotency_key", "x" * (MAX_TEXT_FIELD + 1)),
    ("priority", "soonish"),
    ("priority", 3),
    ("priority", None),
    ("depth", -1),
    ("depth", True),
    ("depth", "1"),
    ("depth", 2**31),
    ("ttl_seconds", 0),
    ("ttl_seconds", -1),
    ("ttl_seconds", float("nan")),
    ("ttl_seconds", float("inf")),
    ("ttl_seconds", True),
    ("ttl_seconds", "5"),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=[f"{field}={str(value)[:8]!r}" for field, value in BAD])
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"session_id": "s", "sender_id": "a", field: value}
    with pytest.raises(InvalidInput, match=field) as caught:
        Envelope(**fields)
    assert caught.value.details["field" if value != "\ud800" else "path"] == field
    assert len(str(caught.value)) < 400, "a long value is not repeated at length"


@given(envelope=ENVELOPES, who=TEXT)
def test_who_sees_it(envelope: Envelope, who: str) -> None:
    named = envelope.audience is None or who in envelope.audience
    assert visible_to(envelope, who) == (named or who == envelope.sender_id)
    assert visible_to(envelope, envelope.sender_id)
