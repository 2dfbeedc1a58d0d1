"""Session types, conditions and targets of a program's own, as they are given to a hub."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest

from agorio.actors.sessions.adapters.conversation import ConversationAdapter
from agorio.actors.sessions.adapters.workflow import WorkflowAdapter
from agorio.actors.sessions.graph import Transition, TransitionGraph
from agorio.actors.sessions.graph_codec import GraphRegistry
from agorio.actors.sessions.graph_conditions import Condition, Moment
from agorio.actors.sessions.graph_targets import StayTarget, TerminateTarget
from agorio.hub.hub import Hub
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import InvalidInput
from tests.hub.conftest import OpenNetwork
from tests.hub.network import converse


@attrs.frozen
class Longer(Condition):
    """Holds after a text of more than so many characters."""

    wire_name: ClassVar[str] = "longer"
    length: int

    def holds(self, moment: Moment) -> bool:
        return len(moment.text) > self.length


def own_conditions(how: str) -> dict[str, Any]:
    graphs = GraphRegistry(Longer)
    return {"graphs": graphs} if how == "graphs" else {"adapters": [WorkflowAdapter(graphs)]}


@pytest.mark.parametrize("how", ["graphs", "adapters"])
async def test_a_workflow_with_conditions_of_ones_own(open_network: OpenNetwork, how: str) -> None:
    """They rule the session, also after a restart; a hub without them sets the session aside, and only that."""
    async with open_network(**own_conditions(how)) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        graph = TransitionGraph("alice", [Transition(Longer(5), TerminateTarget("long"))], StayTarget())
        session = await converse(alice, bob, type="workflow", knobs={"graph": graph.to_dict()})
        await session.send("short")
        assert (await session.info()).state == "active"
        store = net.store
    async with open_network(store) as net:
        assert net.hub.health().status == "ok"
    async with open_network(store, **own_conditions(how)) as net:
        alice = await net.agent("alice", attach=True)
        await (await alice.session(session.session_id)).send("long enough")
        assert (await net.hub.get_session(session.session_id)).close_reason == "long"


async def test_a_session_type_of_ones_own_takes_the_place_of_the_built_in(open_network: OpenNetwork) -> None:
    class Terse(ConversationAdapter):
        def validate_send(self, state: Any, envelope: Envelope) -> None:
            super().validate_send(state, envelope)
            if len(envelope.text) > 5:
                raise InvalidInput("be brief")

    async with open_network(adapters=[Terse()]) as net:
        alice, bob = await net.agent("alice"), await net.agent("bob")
        session = await converse(alice, bob)
        await session.send("brief")
        with pytest.raises(InvalidInput, match="be brief"):
            await session.send("verbose")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"graphs": [Longer]}, "GraphRegistry"),
        ({"graphs": GraphRegistry(), "adapters": [WorkflowAdapter()]}, "your WorkflowAdapter"),
        ({"adapters": [WorkflowAdapter(), WorkflowAdapter()]}, "raise the version"),
        ({"adapters": [object()]}, "no SessionAdapter"),
    ],
)
def test_what_cannot_be_taken_is_refused_at_once(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        Hub.open(MemoryKnowledgeStore(), **options)
