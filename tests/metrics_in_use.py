"""The metrics of both daemons after one of everything, so that every series there can be exists."""

from __future__ import annotations

from types import SimpleNamespace

from thinwire.common.observe.metrics import CloudMetrics, EdgeMetrics, Metrics
from thinwire.common.session.generation import GenerationStatistics
from thinwire.common.session.messages import FinishReason


def cloud_metrics(*, sessions: int = 0, passes: int = 0) -> CloudMetrics:
    """A cloud's, with fixed numbers where it would ask the cloud."""
    return CloudMetrics(sessions=lambda: sessions, passes=lambda: passes)


def edge_metrics() -> EdgeMetrics:
    """An edge's without a generation running."""
    return EdgeMetrics(generations=lambda: 0)


def used(metrics: Metrics) -> Metrics:
    """After one of everything, so that every series there can be exists."""
    metrics.round_verified("k-sqs", drafted=4, accepted=2, payload_bytes=9, queue_s=0.001, verify_s=0.02)
    metrics.tokens_committed("k-sqs", 3)
    metrics.bytes_up("k-sqs", 30)
    metrics.bytes_down("k-sqs", 20)
    metrics.refused("QUOTA_EXCEEDED")
    metrics.connection_closed("crowd")
    if isinstance(metrics, CloudMetrics):
        metrics.watch_kv(SimpleNamespace(bytes=1000, free_bytes=400))
        metrics.session_opened("k-sqs", prompt_tokens=5)
        metrics.session_resumed("k-sqs")
        metrics.session_ended("CLOSED")
    if isinstance(metrics, EdgeMetrics):
        metrics.generation_started("k-sqs", prompt_tokens=5)
        metrics.block_drafted(draft_s=0.01, encode_s=0.0002)
        metrics.round_tripped(round_trip_s=0.05, network_s=0.03)
        metrics.generation_finished(FinishReason.LENGTH, GenerationStatistics(reconnects=2, rebuilds=1))
    return metrics
