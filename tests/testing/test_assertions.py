"""Transcripts and audit trails against what was expected: what fits, and what a failure shows."""

from __future__ import annotations

import re

import pytest

from agorio import AUDIT_KIND_AGENT_REGISTERED, AUDIT_KIND_SESSION_CREATED, NotFoundError, Session
from agorio.testing import (
    ScriptedAgent,
    TestNetwork,
    assert_audit,
    assert_lines,
    assert_transcript,
    find_audit,
    open_test_hub,
    read_transcript,
)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("", ""),
        ("a b", "a b"),
        ("a b", "..."),
        ("", "..."),
        ("a b c", "a ..."),
        ("a b c", "... c"),
        ("a b c d", "a ... d"),
        ("a x a y", "... a ... a y"),
        ("a b c", "... ... b ..."),
    ],
)
def test_what_fits(found: str, expected: str) -> None:
    assert_lines(found.split(), expected.split(), "the list")
    assert_lines(found.split(), [... if line == "..." else line for line in expected.split()], "the list")


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ("a", "b", "- b\n+ a"),
        ("a b", "a", "  a\n+ b"),
        ("a", "a b", "  a\n- b"),
        ("", "a", "- a"),
        ("a b c", "a x c", "  a\n- x\n+ b\n  c"),
        ("a b c d", "a ... x", "  a\n  ... (3 lines)\n- x"),
        ("a b c", "x ... c", "- x\n  ... (2 lines)\n  c"),
        ("a b c", "a ... b", "  a\n  b\n+ c"),
    ],
)
def test_what_a_difference_looks_like(found: str, expected: str, difference: str) -> None:
    with pytest.raises(AssertionError) as failure:
        assert_lines(found.split(), expected.split(), "the list")
    assert str(failure.value) == f"the list is not as expected (- expected, + found):\n{difference}"


def test_lines_that_differ_a_little_are_marked_where_they_do() -> None:
    with pytest.raises(AssertionError, match=r"\n- bob: the answer is 41\n\? +\^\n\n?\+ bob: the answer is 42\n"):
        assert_lines(["bob: the answer is 42"], ["bob: the answer is 41"], "it")


def test_a_text_of_several_lines_stays_together() -> None:
    with pytest.raises(AssertionError, match=re.escape("+ one\n    two")):
        assert_lines(["one\ntwo"], [], "it")


def test_long_lists_are_compared_quickly() -> None:
    lines = [str(number) for number in range(300)]
    assert_lines(lines, ["...", *lines[100:200], "...", "299"], "it")
    with pytest.raises(AssertionError):
        assert_lines(lines, ["..."] * 100 + ["x"], "it")


async def talk(net: TestNetwork) -> Session:
    await net.add(ScriptedAgent("bob", "hello", "bye"))
    ann = await net.person("ann")
    session = await ann.open("conversation", "bob")
    await session.send("hi")
    await session.send("and now?")
    return session


async def test_a_transcript() -> None:
    async with open_test_hub() as net:
        session = await talk(net)
        await net.idle()
        lines = sorted(await read_transcript(net.hub, session.session_id))
        assert lines == ["ann: and now?", "ann: hi", "bob: bye", "bob: hello"]
        await assert_transcript(net.hub, session.session_id, ["ann: hi", ..., "bob: bye"])
        await assert_transcript(net.hub, session.session_id, ["* session.invite", "..."], events=True)
        with pytest.raises(AssertionError, match=rf"the transcript of session {session.session_id} is not .*"):
            await assert_transcript(net.hub, session.session_id, ["ann: hi"])
        with pytest.raises(NotFoundError):
            await read_transcript(net.hub, "nope")


async def test_a_network_waits_before_it_compares() -> None:
    async with open_test_hub() as net:
        session = await talk(net)
        await net.assert_transcript(session.session_id, "ann: hi", "...", "bob: bye")
        await net.assert_transcript(session.session_id, ["ann: hi", "...", "bob: bye"])
        with pytest.raises(AssertionError, match=r"- bob: ciao"):
            await net.assert_transcript(session.session_id, "...", "bob: ciao")


async def test_an_audit_trail() -> None:
    async with open_test_hub() as net:
        session = await talk(net)
        kinds = [AUDIT_KIND_AGENT_REGISTERED, AUDIT_KIND_AGENT_REGISTERED, AUDIT_KIND_SESSION_CREATED]
        assert await net.audit_kinds() == kinds
        await net.assert_audit(*kinds)
        await net.assert_audit(AUDIT_KIND_AGENT_REGISTERED, "...")
        await assert_audit(net.hub, [{"name": "bob"}, ..., {"session_id": session.session_id}])
        with pytest.raises(AssertionError) as failure:
            await net.assert_audit({"kind": kinds[0], "name": "cid"}, "...")
        assert "- agent_registered name=cid\n" in str(failure.value)
        assert re.search(r"\n  \.\.\. \(3 lines\)$", str(failure.value))


async def test_one_audit_record() -> None:
    async with open_test_hub() as net:
        await talk(net)
        record = await net.audited(AUDIT_KIND_AGENT_REGISTERED, name="bob")
        assert (record.kind, record.name) == (AUDIT_KIND_AGENT_REGISTERED, "bob")
        with pytest.raises(
            AssertionError, match=r"no record agent_registered name=cid; of that kind there are:\n.*bob"
        ):
            await find_audit(net.hub, AUDIT_KIND_AGENT_REGISTERED, name="cid")
        with pytest.raises(AssertionError, match=r"no record denied, nor any of that kind; it holds agent_registered"):
            await find_audit(net.hub, "denied")
