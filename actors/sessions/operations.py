"""The control calls that cross a link: one record per operation. Each row of the hub's door takes one of them.

`op` is the operation's name on the wire. Ids are agent ids unless a field says `name or id`. The records are defined by
subject; this module gathers them, so that whoever needs several takes them from one place.
"""

from __future__ import annotations

from typing import Any

from .operations_actors import (
    ActorAsk,
    ActorCall,
    ActorSend,
    ActorStoppedWait,
    CancelRequest,
    IdentityLost,
    Withdraw,
)
from .operations_agents import (
    AddExample,
    AuthChallenge,
    GetAgent,
    GetResume,
    GetRule,
    GetSkill,
    ListAgents,
    NamesFor,
    Register,
    Registered,
    SetResume,
    SetRule,
    SetSkill,
    SetWindow,
    Unregister,
    Watch,
)
from .operations_base import Operation
from .operations_sessions import (
    AwaitOver,
    AwaitReply,
    CanSend,
    CloseSession,
    FindByCausation,
    GetSession,
    ListSessions,
    OpenSession,
    ReadContext,
    ReadWal,
    ReportTurnFailure,
    ReportUsage,
    SkipTurn,
)
from .operations_tasks import (
    CancelTask,
    CheckpointTask,
    GetTask,
    ListTasks,
    ObserveTask,
    ReadCheckpoint,
    ReportMirrorFailure,
    UpdateTask,
    WaitTask,
)


def operations() -> dict[str, type[Operation]]:
    """Every operation by its name on the wire."""
    return {cls.op: cls for cls in Operation.__subclasses__()}


Result = Any

__all__ = [
    "ActorAsk",
    "ActorCall",
    "ActorSend",
    "ActorStoppedWait",
    "AddExample",
    "AuthChallenge",
    "AwaitOver",
    "AwaitReply",
    "CanSend",
    "CancelRequest",
    "CancelTask",
    "CheckpointTask",
    "CloseSession",
    "FindByCausation",
    "GetAgent",
    "GetResume",
    "GetRule",
    "GetSession",
    "GetSkill",
    "GetTask",
    "IdentityLost",
    "ListAgents",
    "ListSessions",
    "ListTasks",
    "NamesFor",
    "ObserveTask",
    "OpenSession",
    "Operation",
    "ReadCheckpoint",
    "ReadContext",
    "ReadWal",
    "Register",
    "Registered",
    "ReportMirrorFailure",
    "ReportTurnFailure",
    "ReportUsage",
    "Result",
    "SetResume",
    "SetRule",
    "SetSkill",
    "SetWindow",
    "SkipTurn",
    "Unregister",
    "UpdateTask",
    "WaitTask",
    "Watch",
    "Withdraw",
    "operations",
]
