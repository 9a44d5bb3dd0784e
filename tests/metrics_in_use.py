"""The metrics of both daemons after one of everything, so that every series there can be exists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from thinwire.cloud.account import CloudMetrics
from thinwire.common.observe.metrics import Metrics
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics, RoundMeasured
from thinwire.edge.meter import EdgeMetrics


def cloud_metrics(*, sessions: int = 0, passes: int = 0) -> CloudMetrics:
    """A cloud's, with fixed numbers where it would ask the cloud."""
    return CloudMetrics(sessions=lambda: sessions, passes=lambda: passes)


def edge_metrics() -> EdgeMetrics:
    """An edge's without a generation running."""
    return EdgeMetrics(generations=lambda: 0)


def measured_round(**changes: Any) -> RoundMeasured:
    """A round of four drafted tokens, two of them accepted, in 9 bytes."""
    values: dict[str, Any] = {
        "session": "ab12cd34",
        "scheme": "k-sqs",
        "round": 1,
        "draft_length": 4,
        "accepted": 2,
        "lattice_resolution": 100,
        "support_sizes": (8, 8, 8, 8),
        "wire_support_sizes": (5, 5, 5, 5),
        "dropped_masses": (0.1, 0.2, 0.3, 0.4),
        "kept_positions": 3,
        "cap_bound_positions": 1,
        "close_drafts": 0,
        "draft_margin": 1.0,
        "uplink_payload_bits": 72,
        "uplink_message_bytes": 30,
        "downlink_message_bytes": 20,
        "draft_s": 0.01,
        "encode_s": 0.0002,
        "round_trip_s": 0.05,
        "queue_s": 0.001,
        "verify_s": 0.02,
    }
    return RoundMeasured(**{**values, **changes})


def used(metrics: Metrics) -> Metrics:
    """After one of everything, so that every series there can be exists."""
    metrics.round_verified(measured_round())
    metrics.count("generation_tokens", "k-sqs", 3)
    metrics.count("uplink_bytes", "k-sqs", 30)
    metrics.count("downlink_bytes", "k-sqs", 20)
    metrics.count("prompt_tokens", "k-sqs", 5)
    metrics.refused("QUOTA_EXCEEDED")
    metrics.connection_closed("crowd")
    if isinstance(metrics, CloudMetrics):
        metrics.watch_kv(SimpleNamespace(bytes=1000, free_bytes=400))
        metrics.count("sessions_opened", "k-sqs")
        metrics.count("sessions_resumed", "k-sqs")
        metrics.count("sessions_ended", "CLOSED")
    if isinstance(metrics, EdgeMetrics):
        metrics.generation_finished(FinishReason.LENGTH, GenerationStatistics(reconnects=2, rebuilds=1))
    return metrics
