"""agorio: an actor-model runtime on trio for networks of agents.

Five rooms, and a file imports only from its own or from rooms to the left:

    mailbox  <  transports  <  actors  <  hub  <  agorio

`mailbox` is what is said and where it waits, `transports` how it crosses, `actors` who runs and by which rules, `hub`
who keeps order. This is the front door: users import from here. `docs/tour.md` walks the rooms.
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
from .actors.agents.resuming_link import LinkChange
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
from .actors.agents.websocket import WsLink
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
from .hub.expectations import Violation, ViolationHandler
from .hub.governance import Arbiter
from .hub.hub import Hub
from .hub.inbox import Redelivery
from .hub.listeners import Listener, Subscribed
from .hub.report import Health, HubStatistics
from .hub.stores.check import check_store
from .hub.stores.damage import Damage, Verification
from .hub.stores.disk import DiskKnowledgeStore
from .hub.stores.disk_statistics import DiskStatistics
from .hub.stores.memory import MemoryKnowledgeStore
from .hub.stores.protocol import Append, Document, KnowledgeStore, Put, Record
from .hub.websocket import serve_ws
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
from .mailbox.events import (
    AUDIT_KIND_ACTOR_RESTARTED,
    AUDIT_KIND_AGENT_ATTACHED,
    AUDIT_KIND_AGENT_REGISTERED,
    AUDIT_KIND_AGENT_UNREGISTERED,
    AUDIT_KIND_DEAD_LETTER,
    AUDIT_KIND_DENIED,
    AUDIT_KIND_EXPECTATION_VIOLATED,
    AUDIT_KIND_RESUME_SET,
    AUDIT_KIND_RULE_SET,
    AUDIT_KIND_SESSION_CLOSED,
    AUDIT_KIND_SESSION_CREATED,
    AUDIT_KIND_SESSION_EXPIRED,
    AUDIT_KIND_SKILL_SET,
    AUDIT_KIND_TASK_MIRROR_FAILED,
    AUDIT_KIND_TASK_TERMINATED,
    AUDIT_KIND_TURN_FAILED,
    EV_CONTEXT_SET,
    EV_EXPECTATION_VIOLATED,
    EV_HANDOFF,
    EV_PACKET,
    EV_SESSION_CLOSED,
    EV_SESSION_EXPIRED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_ACK,
    EV_SESSION_INVITE_REJECT,
    EV_SESSION_OPENED,
    EV_TASK_CANCEL_REQUEST,
    EV_TASK_CANCELLED,
    EV_TASK_COMPLETED,
    EV_TASK_EXPIRED,
    EV_TASK_FAILED,
    EV_TASK_PROGRESS,
    EV_TASK_STARTED,
    EV_TEXT,
    EV_TURN_SKIPPED,
)
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
from .transports.limits import Limits
from .transports.link import Link, LinkClient, LinkEndpoint
from .transports.local import LocalLink, LocalLinkClient, LocalLinkEndpoint
from .transports.reconnect import Reconnect
from .transports.websocket_server import WebsocketServer

__version__ = "0.1.0"

__all__ = [
    "AGENT_CLIENT_DEP",
    "AUDIT_KIND_ACTOR_RESTARTED",
    "AUDIT_KIND_AGENT_ATTACHED",
    "AUDIT_KIND_AGENT_REGISTERED",
    "AUDIT_KIND_AGENT_UNREGISTERED",
    "AUDIT_KIND_DEAD_LETTER",
    "AUDIT_KIND_DENIED",
    "AUDIT_KIND_EXPECTATION_VIOLATED",
    "AUDIT_KIND_RESUME_SET",
    "AUDIT_KIND_RULE_SET",
    "AUDIT_KIND_SESSION_CLOSED",
    "AUDIT_KIND_SESSION_CREATED",
    "AUDIT_KIND_SESSION_EXPIRED",
    "AUDIT_KIND_SKILL_SET",
    "AUDIT_KIND_TASK_MIRROR_FAILED",
    "AUDIT_KIND_TASK_TERMINATED",
    "AUDIT_KIND_TURN_FAILED",
    "ENVELOPE_DEP",
    "EV_CONTEXT_SET",
    "EV_EXPECTATION_VIOLATED",
    "EV_HANDOFF",
    "EV_PACKET",
    "EV_SESSION_CLOSED",
    "EV_SESSION_EXPIRED",
    "EV_SESSION_INVITE",
    "EV_SESSION_INVITE_ACK",
    "EV_SESSION_INVITE_REJECT",
    "EV_SESSION_OPENED",
    "EV_TASK_CANCELLED",
    "EV_TASK_CANCEL_REQUEST",
    "EV_TASK_COMPLETED",
    "EV_TASK_EXPIRED",
    "EV_TASK_FAILED",
    "EV_TASK_PROGRESS",
    "EV_TASK_STARTED",
    "EV_TEXT",
    "EV_TURN_SKIPPED",
    "HUB_DEP",
    "SESSION_DEP",
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
    "Damage",
    "DeadLetterRecord",
    "DeadLettered",
    "Denied",
    "DiscussionAdapter",
    "DiskKnowledgeStore",
    "DiskStatistics",
    "Document",
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
    "Limits",
    "LimitsBlock",
    "Link",
    "LinkChange",
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
    "Reconnect",
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
    "Verification",
    "ViewPolicy",
    "ViewRegistry",
    "Violation",
    "ViolationHandler",
    "Waiting",
    "WebsocketServer",
    "WelcomeFrame",
    "WindowedSummary",
    "WorkflowAdapter",
    "WsLink",
    "__version__",
    "build_packet",
    "check_adapter",
    "check_store",
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
    "serve_ws",
    "stamp_dependencies",
    "task",
    "visible_to",
]
