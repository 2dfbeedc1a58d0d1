"""The caller of every public async method is cancelled at each of its steps; the network stays whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.actors.sessions.identity import Passport, Resume

MOST_STEPS = 40


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when its task is about to take its n-th step."""

    def __init__(self, scope: trio.CancelScope, task: trio.lowlevel.Task, steps: int) -> None:
        self._scope = scope
        self._task = task
        self._left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def _cancelled_at(steps: int, call: Callable[[], Awaitable[Any]]) -> bool:
    """Whether the call was still running at that step."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, trio.lowlevel.current_task(), steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            if steps == 0:
                scope.cancel()
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


async def echo(text: str) -> str:
    return text


async def quiet(text: str) -> None:
    return None


Make = Callable[[Any, Any, Any], Callable[[], Awaitable[Any]]]
CALLS: dict[str, Make] = {
    "open": lambda hc, ann, session: lambda: ann.open("consulting", "bob", ttl="1m"),
    "send": lambda hc, ann, session: lambda: session.send("hi"),
    "ask": lambda hc, ann, session: lambda: session.ask("hi", timeout=60),
    "wait": lambda hc, ann, session: lambda: _send_and_wait(session),
    "info": lambda hc, ann, session: session.info,
    "history": lambda hc, ann, session: session.history,
    "close": lambda hc, ann, session: session.close,
    "can_send": lambda hc, ann, session: lambda: hc.can_send(session.session_id, ann.agent_id),
    "view": lambda hc, ann, session: lambda: hc.default_view_policy(session.session_id, ann.agent_id),
    "agents": lambda hc, ann, session: hc.list_agents,
    "sessions": lambda hc, ann, session: hc.list_sessions,
    "skill": lambda hc, ann, session: lambda: hc.get_skill("bob"),
    "set_resume": lambda hc, ann, session: lambda: ann.set_resume(Resume(summary="x")),
    "register": lambda hc, ann, session: lambda: hc.register(echo, Passport(name="carl")),
}


async def _send_and_wait(session: Any) -> None:
    await session.send("hi")
    await session.wait(timeout=60)


@pytest.mark.parametrize("name", CALLS)
async def test_cancelling_anywhere_leaves_the_network_whole(autojump_clock: MockClock, net: Any, name: str) -> None:
    ann = await net.hc.register(quiet, Passport(name="ann"))
    await net.hc.register(echo, Passport(name="bob"))
    for steps in range(MOST_STEPS):
        session = await ann.open("conversation", "bob", ttl="1h")
        was_running = await _cancelled_at(steps, CALLS[name](net.hc, ann, session))
        await wait_all_tasks_blocked()
        assert net.hc.statistics().current_calls == 0
        assert ann.statistics().tasks_waiting == 0
        assert all(info.pending == 0 for info in net.hub.agents())
        if name == "register":
            assert was_running == ("carl" not in [client.name for client in net.hc.clients.values()])
            assert was_running == ("carl" not in [passport.name for passport in await net.hub.list_agents()])
        other = await ann.open("conversation", "bob", ttl="1h")
        assert (await other.ask("still there?", timeout=60)).text == "still there?"
        if not was_running:
            break
    else:
        raise AssertionError(f"{name} takes more than {MOST_STEPS} steps")


async def test_closing_and_first_use_may_be_cancelled(autojump_clock: MockClock, net: Any) -> None:
    for steps in range(MOST_STEPS):
        hc = net.client()
        was_running = await _cancelled_at(steps, partial(hc.register, echo, Passport(name=f"a{steps}")))
        await _cancelled_at(steps, hc.close)
        await hc.close()
        await wait_all_tasks_blocked()
        assert hc.statistics().is_closed
        if not was_running:
            break
    tree = net.hub.tree()
    (clients,) = [node for node in tree.children if node.name == "clients"]
    assert clients.children == ()
