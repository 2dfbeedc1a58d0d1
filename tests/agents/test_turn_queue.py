"""The order in which an agent takes its mail in hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agorio.actors.agents.turn_queue import TurnQueue
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.priority import Priority
from agorio.transports.frames import NotifyFrame

Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.sampled_from(list(Priority))),
        st.just(("take", 0)),
        st.just(("done", 0)),
    ),
    max_size=60,
)


def frame(session_id: str, sequence: int, priority: int = Priority.NORMAL) -> NotifyFrame:
    return NotifyFrame("me", Envelope(session_id, "you", sequence=sequence, priority=Priority(priority)))


@given(STEPS)
def test_never_two_of_a_session_never_out_of_order(steps: list[Step]) -> None:
    queue, last = TurnQueue(), dict.fromkeys("abc", 0)
    in_hand: list[str] = []
    pushed: dict[str, int] = dict.fromkeys("abc", 0)
    for what, priority in steps:
        if what == "take":
            got = queue.take()
            if got is None:
                waiting = {s for s in "abc" if pushed[s] > last[s]}
                assert waiting <= set(in_hand), "something could have been taken"
            else:
                session_id = got.envelope.session_id
                assert session_id not in in_hand
                assert got.envelope.sequence == last[session_id] + 1
                last[session_id] += 1
                in_hand.append(session_id)
        elif what == "done":
            if in_hand:
                queue.done(in_hand.pop(0))
        else:
            pushed[what] += 1
            queue.push(frame(what, pushed[what], priority))
    assert queue.current_in_hand == len(in_hand)
    assert queue.current_waiting == sum(pushed[s] - last[s] for s in "abc")


def test_urgent_mail_pulls_its_session_forward() -> None:
    queue = TurnQueue()
    for session_id, sequence, priority in [("a", 1, 1), ("b", 1, 0), ("b", 2, 2)]:
        queue.push(frame(session_id, sequence, priority))
    taken: list[tuple[str, int]] = []
    while (got := queue.take()) is not None:
        taken.append((got.envelope.session_id, got.envelope.sequence))
        queue.done(got.envelope.session_id)
    assert taken == [("b", 1), ("b", 2), ("a", 1)]


def test_a_dropped_session_gives_its_mail_back() -> None:
    queue = TurnQueue()
    queue.push(frame("a", 1))
    queue.push(frame("a", 2))
    assert queue.take() is not None
    assert [got.envelope.sequence for got in queue.drop("a")] == [2]
    queue.done("a")
    assert queue.take() is None
    assert queue.drop("nobody") == []


def test_a_seized_session_is_not_handed_out() -> None:
    queue = TurnQueue()
    assert queue.seize("a")
    assert not queue.seize("a")
    queue.push(frame("a", 1))
    assert queue.take() is None
    queue.done("a")
    assert queue.take() is not None


def test_a_delivery_is_taken_out_unless_it_is_in_hand() -> None:
    queue = TurnQueue()
    for sequence in (1, 2, 3):
        queue.push(frame("a", sequence))
    queue.push(frame("b", 1))
    assert queue.take() is not None
    queue.remove("a", 1)
    queue.remove("a", 2)
    queue.remove("b", 1)
    queue.remove("nowhere", 1)
    assert (queue.current_waiting, queue.current_in_hand) == (1, 1)
    assert queue.take() is None
    queue.done("a")
    last = queue.take()
    assert last is not None
    assert last.envelope.sequence == 3
