"""What a campaign has to meet: every kind of fault, and the rare paths that faults are there to reach."""

from __future__ import annotations

from agorio.testing.nemesis import KINDS

TORN = ("torn_commit_kept", "torn_commit_lost")  # how a torn commit ends
FAULTS = frozenset(KINDS) - {"torn_commit"} | set(TORN)
RARE = frozenset(
    {
        "accepted",
        "crash",
        "dead_letter",
        "duplicate",
        "hub_failure",
        "receipt_nack",
        "reconnect",
        "redelivery",
        "refused_access_denied",
        "refused_inbox_full",
        "refused_not_a_member",
        "refused_not_your_turn",
        "refused_protocol_error",
        "refused_rate_limited",
        "refused_session_closed",
        "refused_store_error",
        "restart",
        "unanswered_ping",
        "wire_connection",
    }
)
