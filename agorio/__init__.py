"""agorio: an actor-model runtime on trio for networks of agents.

Five rooms, and a file imports only from its own or from rooms to the left:

    mailbox  <  transports  <  actors  <  hub  <  agorio

`mailbox` is what is said and where it waits, `transports` how it crosses, `actors` who runs and by which rules, `hub` who
keeps order. This is the front door: users import from here. `docs/tour.md` walks the rooms.
"""

from __future__ import annotations

from .actors.agents.agent_client import AgentClient
from .actors.agents.delegation import delegate
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
from .actors.agents.human import HumanClient
from .actors.agents.mirror import TaskMirror
from .actors.agents.session import Session
from .actors.agents.skills import Skill, parse_skill, render_skill
from .actors.agents.stream import MemoryStream, Message, TaskEvent
from .actors.agents.task_owner import task
from .actors.agents.tasks import Task, current_task
from .actors.agents.tools import Tool, Toolbox, network_tools
from .actors.agents.turn_context import current_turn
from .actors.agents.views import (
    FullTranscript,
    NamedTranscript,
    NamedWindowedSummary,
    Scene,
    ViewPolicy,
    ViewRegistry,
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
from .actors.sessions.credentials import Challenge, HmacCredentials
from .actors.sessions.diagrams import render_state_diagram
from .actors.sessions.expectations import Activity, Mark, Waiting
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
from .actors.sessions.handoff import (
    ContextUpdates,
    Finish,
    Handoff,
    Packet,
    Routing,
    ToolResult,
    build_packet,
)
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
from .actors.sessions.tasks import Checkpoint, TaskMetadata, TaskSpec, TaskState
from .hub.audit import AuditLog, AuditRecord, AuditTail
from .hub.audit_chain import AuditAnchor, AuditVerdict
from .hub.auth import AuthAdapter, AuthRegistry, NoAuth
from .hub.auth_hmac import HmacAuth
from .hub.auth_jwt import JwtAuth
from .hub.dead_letters import DeadLetterRecord
from .hub.events import (
    ActorRestarted,
    AgentAttached,
    AgentRegistered,
    AgentUnregistered,
    DeadLettered,
    Denied,
    EnvelopeAccepted,
    EnvelopeRefused,
    EventsMissed,
    ExpectationFired,
    HubEvent,
    InboxPressure,
    ResumeSet,
    RuleSet,
    SessionClosed,
    SessionCreated,
    SessionExpired,
    SessionOpened,
    SkillSet,
    TaskEnded,
    TurnFailed,
)
from .hub.expectations import Violation
from .hub.governance import Arbiter
from .hub.hub import Hub
from .hub.inbox import Redelivery
from .hub.listeners import Listener, Subscribed
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
    "Activity",
    "Actor",
    "ActorCrashed",
    "ActorError",
    "ActorRestarted",
    "ActorStopped",
    "AdapterRegistry",
    "AgentAttached",
    "AgentClient",
    "AgentRegistered",
    "AgentTarget",
    "AgentUnregistered",
    "AgorioError",
    "AllOf",
    "Always",
    "AnyOf",
    "Append",
    "Arbiter",
    "AskCycle",
    "AuditAnchor",
    "AuditLog",
    "AuditRecord",
    "AuditTail",
    "AuditVerdict",
    "AuthAdapter",
    "AuthBlock",
    "AuthError",
    "AuthRegistry",
    "Backoff",
    "BadFrame",
    "Challenge",
    "Checkpoint",
    "Child",
    "Condition",
    "ConflictError",
    "ConsultingAdapter",
    "Context",
    "ContextCompare",
    "ContextEquals",
    "ContextUpdates",
    "ConversationAdapter",
    "DeadLetterRecord",
    "DeadLettered",
    "Denied",
    "DiscussionAdapter",
    "Document",
    "ENVELOPE_DEP",
    "Envelope",
    "EnvelopeAccepted",
    "EnvelopeRefused",
    "ErrorFrame",
    "EventFrame",
    "EventsMissed",
    "Expectation",
    "ExpectationFired",
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
    "HmacAuth",
    "HmacCredentials",
    "Hub",
    "HubClient",
    "HubClosedError",
    "HubEvent",
    "HubStatistics",
    "HumanClient",
    "InboxBlock",
    "InboxFull",
    "InboxPressure",
    "InvalidInput",
    "JwtAuth",
    "KnowledgeStore",
    "LimitsBlock",
    "Link",
    "LinkClient",
    "LinkClosed",
    "LinkEndpoint",
    "LinkError",
    "Listener",
    "LocalLink",
    "LocalLinkClient",
    "LocalLinkEndpoint",
    "Mailbox",
    "Manifest",
    "Mark",
    "MemoryKnowledgeStore",
    "MemoryStream",
    "Message",
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
    "Packet",
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
    "ResumeSet",
    "RevertToInitiatorTarget",
    "RoundRobinTarget",
    "Routing",
    "Rule",
    "RuleSet",
    "SESSION_DEP",
    "Scene",
    "SendFrame",
    "Session",
    "SessionAdapter",
    "SessionClosed",
    "SessionClosedError",
    "SessionCreated",
    "SessionExpired",
    "SessionMetadata",
    "SessionOpened",
    "SessionSetup",
    "SessionState",
    "SessionTypes",
    "Skill",
    "SkillSet",
    "Statistics",
    "StayTarget",
    "StoreError",
    "SubscribeFrame",
    "Subscribed",
    "Supervisor",
    "Target",
    "Task",
    "TaskEnded",
    "TaskError",
    "TaskEvent",
    "TaskMetadata",
    "TaskMirror",
    "TaskSpec",
    "TaskState",
    "TerminateTarget",
    "Tool",
    "ToolCalled",
    "ToolResult",
    "Toolbox",
    "Transition",
    "TransitionGraph",
    "TreeNode",
    "TurnError",
    "TurnFailed",
    "UnsubscribeFrame",
    "ViewPolicy",
    "ViewRegistry",
    "Violation",
    "Waiting",
    "WelcomeFrame",
    "WindowedSummary",
    "WorkflowAdapter",
    "build_packet",
    "check_adapter",
    "current_task",
    "current_turn",
    "default_handler",
    "delegate",
    "handles",
    "network_tools",
    "open_supervisor",
    "parse_skill",
    "read_wal_until",
    "render_skill",
    "render_state_diagram",
    "render_tree",
    "resolve_view_policy",
    "serve_supervisor",
    "stamp_dependencies",
    "task",
    "visible_to",
    *_event_names,
]
