"""The kernel: actors, supervised inside one nursery.

Pure files decide: `restarts` (who is restarted, when it is too much), `waits` (who waits for whom), `faults` (what an
exception means), `child` and `events` (records). Thin files act: `cell` runs one actor, `supervisor` coordinates,
`stopping` stops, `opening` holds the two doors. Users write an `Actor`, declare it as a `Child`, and talk to its `Ref`.
"""

from .actor import Actor, Context, current_chain, handles
from .child import Backoff, Child, Group, OnCrash, Restart, Strategy
from .events import (
    ActorCrash,
    ActorExit,
    ActorRestart,
    ActorUp,
    DeadLetter,
    Draining,
    Escalated,
    Event,
    HighWater,
    Stuck,
)
from .opening import open_supervisor, serve_supervisor
from .ref import Ref
from .supervisor import Supervisor
from .tree import TreeNode, render_tree
from .waits import WaitGraph

__all__ = [
    "Actor",
    "ActorCrash",
    "ActorExit",
    "ActorRestart",
    "ActorUp",
    "Backoff",
    "Child",
    "Context",
    "DeadLetter",
    "Draining",
    "Escalated",
    "Event",
    "Group",
    "HighWater",
    "OnCrash",
    "Ref",
    "Restart",
    "Strategy",
    "Stuck",
    "Supervisor",
    "TreeNode",
    "WaitGraph",
    "current_chain",
    "handles",
    "open_supervisor",
    "render_tree",
    "serve_supervisor",
]
