"""Messages between agents: every kind crosses as text, and says something to people."""

# ruff: noqa: RUF001  people read this, typographic dashes and quotes included
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.demo.claims import Claim, Objection
from agorio.demo.messages import (
    Amendments,
    Checked,
    CheckJob,
    Corrected,
    Declined,
    Drafted,
    Message,
    Objections,
    ReadJob,
    Settled,
    Source,
    Survey,
    SurveyJob,
    pack,
    spoken,
    unpack,
)
from agorio.demo.summary import Draft

SOURCE = Source("/x/a.md", "a.md", "f" * 64, 10)
SURVEY = Survey(SOURCE, 1, 2000, "en", {"hub": 3, "two words": 2}, ("odd",))
CLAIM = Claim("s1", "sentence", "It holds.", 3, 4, quote="So it holds.", forms=("a", "b"))
FAULT = Objection(CLAIM, "dangling", "what does “It” point to?")
DRAFTED = Drafted(SOURCE, "reader-1", Draft("Title", (CLAIM,), 2))
MESSAGES: list[Message] = [
    SurveyJob(SOURCE),
    SURVEY,
    ReadJob(SURVEY, 3, {"hub": 2}),
    DRAFTED,
    CheckJob(DRAFTED),
    Objections(SOURCE, (FAULT, FAULT)),
    Amendments(SOURCE, (CLAIM,), ("s2",)),
    Settled(SOURCE, 1, 2),
    Checked(SOURCE, (CLAIM,), (Corrected(FAULT, CLAIM),), (FAULT,), ("line 1: x",)),
    Declined("no such file"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_crosses_as_text(message: Message) -> None:
    assert unpack(pack(message)) == message
    assert spoken(pack(message)) not in ("", pack(message))


@given(st.text() | st.sampled_from(['{"kind":"survey"}', '{"kind":[]}', "[]", "1", '{"kind":"settled","source":3}']))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no message of the newsroom"):
        unpack(text)


def test_plain_talk_is_shown_as_it_is() -> None:
    assert spoken("hello") == "hello"
    assert spoken("3") == "3"


def test_what_people_read() -> None:
    assert [spoken(pack(m)) for m in MESSAGES] == [
        "please count the words of a.md",
        "a.md: 1 line, 2,000 words",
        "please outline a.md and say what it is about",
        "a.md: 0 lead sentences, 1 sentence; about nothing",
        "please verify 1 claim about a.md",
        "a.md, line 3: “It holds.” – what does “It” point to? (and 1 more)",
        "a.md: corrected s1, withdrew s2",
        "a.md: settled, 1 corrected, 2 withdrawn",
        "a.md: 1 claim hold, 1 of them corrected, 1 withdrawn",
        "no such file",
    ]
