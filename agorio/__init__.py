"""agorio: an actor-model runtime on trio for networks of agents.

Five rooms, and a file imports only from its own or from rooms to the left:

    mailbox  <  transports  <  actors  <  hub  <  agorio

`mailbox` is what is said and where it waits, `transports` how it crosses, `actors` who runs and by which rules, `hub` who
keeps order. This is the front door: users import from here. `docs/tour.md` walks the rooms.
"""

from __future__ import annotations

from .actors.agents.agent_client import AgentClient
from .actors.agents.handler import (
    AGENT_CLIENT_DEP,
    ENVELOPE_DEP,
    HUB_DEP,
    SESSION_DEP,
    default_handler,
    read_wal_until,
    resolve_view_policy,
    stamp_dependencies,
)
from .actors.agents.hub_client import HubClient
from .actors.agents.mirror import TaskMirror
from .actors.agents.session import Session
from .actors.agents.stream import MemoryStream
from .actors.agents.views import (
    FullTranscript,
    NamedTranscript,
    NamedWindowedSummary,
    ViewPolicy,
    WindowedSummary,
)
from .actors.runtime.actor import Actor, Context, handles
from .actors.runtime.child import Backoff, Child, Group
from .actors.runtime.opening import open_supervisor, serve_supervisor
from .actors.runtime.ref import Ref
from .actors.runtime.supervisor import Supervisor
from .actors.runtime.tree import TreeNode, render_tree
from .actors.sessions.adapters.base import SessionAdapter
from .actors.sessions.adapters.check import check_adapter
from .actors.sessions.adapters.consulting import ConsultingAdapter
from .actors.sessions.adapters.conversation import ConversationAdapter
from .actors.sessions.adapters.discussion import DiscussionAdapter
from .actors.sessions.adapters.registry import AdapterRegistry
from .actors.sessions.adapters.workflow import WorkflowAdapter
from .actors.sessions.graph import Transition, TransitionGraph
from .actors.sessions.graph_codec import GraphRegistry
from .actors.sessions.graph_conditions import (
    AllOf,
    Always,
    AnyOf,
    Condition,
    ContextCompare,
    ContextEquals,
    FromSpeaker,
    Not,
    ToolCalled,
)
from .actors.sessions.graph_targets import (
    AgentTarget,
    RevertToInitiatorTarget,
    RoundRobinTarget,
    StayTarget,
    Target,
    TerminateTarget,
)
from .actors.sessions.handoff import Finish, Handoff
from .actors.sessions.identity import AuthBlock, ObservedStat, Passport, Resume, ResumeExample
from .actors.sessions.metadata import (
    Expectation,
    Manifest,
    Participant,
    ParticipantSchema,
    SessionMetadata,
    SessionSetup,
    SessionState,
)
from .actors.sessions.rule import AccessBlock, InboxBlock, LimitsBlock, RateBlock, Rule, SessionTypes
from .hub.audit import AuditLog, AuditRecord
from .hub.auth import AuthAdapter, AuthRegistry, NoAuth
from .hub.dead_letters import DeadLetterRecord
from .hub.governance import Arbiter
from .hub.hub import Hub
from .hub.inbox import Redelivery
from .hub.report import Health, HubStatistics
from .hub.stores.memory import MemoryKnowledgeStore
from .hub.stores.protocol import Append, Document, KnowledgeStore, Put, Record
from .mailbox.box import Mailbox, Statistics
from .mailbox.envelope import Envelope, visible_to
from .mailbox.errors import (
    AccessDeniedError,
    ActorCrashed,
    ActorError,
    ActorStopped,
    AgorioError,
    AskCycle,
    AuthError,
    BadFrame,
    ConflictError,
    GraphError,
    HubClosedError,
    InboxFull,
    InvalidInput,
    LinkClosed,
    LinkError,
    NameTaken,
    NetworkError,
    NotAMemberError,
    NotFoundError,
    ProtocolError,
    QuarantinedError,
    RateLimited,
    Refuse,
    RestartLimitExceeded,
    SessionClosedError,
    StoreError,
    TaskError,
    TurnError,
)
from .mailbox.events import *  # noqa: F403 - the EV_ and AUDIT_KIND_ names, all of them public
from .mailbox.events import __all__ as _event_names
from .mailbox.priority import Priority
from .transports.frames import (
    AcceptFrame,
    ErrorFrame,
    EventFrame,
    Frame,
    HelloFrame,
    NotifyFrame,
    PingFrame,
    PongFrame,
    ReceiptFrame,
    RequestFrame,
    ResponseFrame,
    SendFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    WelcomeFrame,
)
from .transports.link import Link, LinkClient, LinkEndpoint
from .transports.local import LocalLink, LocalLinkClient, LocalLinkEndpoint

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "AGENT_CLIENT_DEP",
    "AcceptFrame",
    "AccessBlock",
    "AccessDeniedError",
    "Actor",
    "ActorCrashed",
    "ActorError",
    "ActorStopped",
    "AdapterRegistry",
    "AgentClient",
    "AgentTarget",
    "AgorioError",
    "AllOf",
    "Always",
    "AnyOf",
    "Append",
    "Arbiter",
    "AskCycle",
    "AuditLog",
    "AuditRecord",
    "AuthAdapter",
    "AuthBlock",
    "AuthError",
    "AuthRegistry",
    "Backoff",
    "BadFrame",
    "Child",
    "Condition",
    "ConflictError",
    "ConsultingAdapter",
    "Context",
    "ContextCompare",
    "ContextEquals",
    "ConversationAdapter",
    "DeadLetterRecord",
    "DiscussionAdapter",
    "Document",
    "ENVELOPE_DEP",
    "Envelope",
    "ErrorFrame",
    "EventFrame",
    "Expectation",
    "Finish",
    "Frame",
    "FromSpeaker",
    "FullTranscript",
    "GraphError",
    "GraphRegistry",
    "Group",
    "HUB_DEP",
    "Handoff",
    "Health",
    "HelloFrame",
    "Hub",
    "HubClient",
    "HubClosedError",
    "HubStatistics",
    "InboxBlock",
    "InboxFull",
    "InvalidInput",
    "KnowledgeStore",
    "LimitsBlock",
    "Link",
    "LinkClient",
    "LinkClosed",
    "LinkEndpoint",
    "LinkError",
    "LocalLink",
    "LocalLinkClient",
    "LocalLinkEndpoint",
    "Mailbox",
    "Manifest",
    "MemoryKnowledgeStore",
    "MemoryStream",
    "NameTaken",
    "NamedTranscript",
    "NamedWindowedSummary",
    "NetworkError",
    "NoAuth",
    "Not",
    "NotAMemberError",
    "NotFoundError",
    "NotifyFrame",
    "ObservedStat",
    "Participant",
    "ParticipantSchema",
    "Passport",
    "PingFrame",
    "PongFrame",
    "Priority",
    "ProtocolError",
    "Put",
    "QuarantinedError",
    "RateBlock",
    "RateLimited",
    "ReceiptFrame",
    "Record",
    "Redelivery",
    "Ref",
    "Refuse",
    "RequestFrame",
    "ResponseFrame",
    "RestartLimitExceeded",
    "Resume",
    "ResumeExample",
    "RevertToInitiatorTarget",
    "RoundRobinTarget",
    "Rule",
    "SESSION_DEP",
    "SendFrame",
    "Session",
    "SessionAdapter",
    "SessionClosedError",
    "SessionMetadata",
    "SessionSetup",
    "SessionState",
    "SessionTypes",
    "Statistics",
    "StayTarget",
    "StoreError",
    "SubscribeFrame",
    "Supervisor",
    "Target",
    "TaskError",
    "TaskMirror",
    "TerminateTarget",
    "ToolCalled",
    "Transition",
    "TransitionGraph",
    "TreeNode",
    "TurnError",
    "UnsubscribeFrame",
    "ViewPolicy",
    "WelcomeFrame",
    "WindowedSummary",
    "WorkflowAdapter",
    "check_adapter",
    "default_handler",
    "handles",
    "open_supervisor",
    "read_wal_until",
    "render_tree",
    "resolve_view_policy",
    "serve_supervisor",
    "stamp_dependencies",
    "visible_to",
    *_event_names,
]
