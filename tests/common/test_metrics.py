"""The metrics of both daemons: their names and labels, a registry each, and the page they are read from."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics_in_use import cloud_metrics, edge_metrics, measured_round, used
from thinwire.common.daemon.metrics_listener import MAX_CONNECTIONS, MAX_REQUEST_BYTES, metrics_listener
from thinwire.common.errors import ConfigError, TransportError, errors_by_reason
from thinwire.common.observe.metrics import CONTENT_TYPE, PREFIX, Metrics
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics

LABELS = {"scheme", "reason", "position", "le"}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample, None if there is none."""
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def test_a_round_counts_under_the_names_that_engines_share() -> None:
    """Drafts, draft tokens, accepted tokens, and accepted tokens by their place in the block."""
    metrics = used(cloud_metrics())

    assert value(metrics, "spec_decode_num_drafts_total", scheme="k-sqs") == 1
    assert value(metrics, "spec_decode_num_draft_tokens_total", scheme="k-sqs") == 4
    assert value(metrics, "spec_decode_num_accepted_tokens_total", scheme="k-sqs") == 2
    by_place = [
        value(metrics, "spec_decode_num_accepted_tokens_per_pos_total", position=str(n)) for n in range(3)
    ]
    assert by_place == [1, 1, None]
    assert value(metrics, "uplink_payload_bytes_total", scheme="k-sqs") == 9


def test_a_round_without_a_draft_is_a_round_and_no_draft() -> None:
    """cloud-ar drafts nothing: mean accepted length must not be diluted by its rounds."""
    metrics = cloud_metrics()
    metrics.round_verified(measured_round(scheme="cloud-ar", draft_length=0, accepted=0))

    assert value(metrics, "rounds_total", scheme="cloud-ar") == 1
    assert value(metrics, "spec_decode_num_drafts_total", scheme="cloud-ar") is None


def test_times_stand_in_buckets_of_seconds() -> None:
    """A time is in every bucket from the first that holds it, and in the sum."""
    metrics = used(cloud_metrics())

    assert value(metrics, "verify_seconds_bucket", le="0.01") == 0
    assert value(metrics, "verify_seconds_bucket", le="0.025") == 1
    assert value(metrics, "verify_seconds_bucket", le="+Inf") == 1
    assert value(metrics, "verify_seconds_sum") == pytest.approx(0.02)


def test_kv_memory_and_sessions_are_read_where_they_are_kept() -> None:
    """Gauges ask; nothing can forget to tell them."""
    metrics = used(cloud_metrics(sessions=3, passes=17))

    assert value(metrics, "sessions") == 3
    assert value(metrics, "target_passes_total") == 17
    assert value(metrics, "kv_bytes_used") == 600
    assert value(metrics, "kv_bytes_capacity") == 1000


def test_a_cloud_without_a_pool_shows_no_kv_memory() -> None:
    """A zero would say that nothing is in use."""
    assert value(cloud_metrics(), "kv_bytes_used") is None


def test_every_reason_is_there_from_the_start() -> None:
    """The first refusal is then an increase from 0, which an alert can see."""
    metrics = cloud_metrics()

    assert {"QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "LINK"} <= errors_by_reason().keys()
    assert [value(metrics, "refusals_total", reason=reason) for reason in errors_by_reason()] == [
        0.0 for _ in errors_by_reason()
    ]


@pytest.mark.parametrize("reason", [FinishReason.CANCELLED, FinishReason.ERROR])
def test_a_text_that_did_not_come_to_its_end_has_no_time(reason: FinishReason) -> None:
    """It is counted by its reason; how long a whole text takes is not made shorter by it."""
    metrics = edge_metrics()
    metrics.generation_finished(reason, GenerationStatistics(total_s=0.1))

    assert value(metrics, "generations_finished_total", reason=reason.value) == 1
    assert value(metrics, "generation_seconds_count") == 0


@pytest.mark.parametrize("metrics", [used(cloud_metrics()), used(edge_metrics())])
def test_no_series_is_a_requests_own(metrics: Metrics) -> None:
    """Labels are schemes, reasons and places in a block: their number is bounded."""
    page = metrics.render().decode()
    families = list(text_string_to_metric_families(page))
    labels = {name for family in families for sample in family.samples for name in sample.labels}

    assert families
    assert labels <= LABELS
    assert all(family.name.startswith(PREFIX) and family.documentation for family in families)
    assert "_created" not in page


def test_a_block_of_any_length_stays_within_64_places() -> None:
    """A peer cannot make series without end."""
    metrics = cloud_metrics()
    for scheme in scheme_names():
        metrics.round_verified(measured_round(scheme=scheme, draft_length=64, accepted=64))
    places = set(re.findall(r'position="(\d+)"', metrics.render().decode()))

    assert places == {str(n) for n in range(64)}


def test_two_daemons_in_one_process_count_apart() -> None:
    """A registry each; the library's global one holds nothing of ours."""
    one, other = cloud_metrics(), cloud_metrics()
    one.refused("LINK")

    assert value(one, "refusals_total", reason="LINK") == 1
    assert value(other, "refusals_total", reason="LINK") == 0


# --- the page ----------------------------------------------------------------------------------------------


async def ask(port: int, request: bytes) -> bytes:
    """All that comes back for `request`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_page_is_served_under_metrics_and_nothing_else() -> None:
    """200 with the page, 404 elsewhere, 405 for another method; each connection is closed."""
    metrics = used(edge_metrics())
    async with metrics_listener("127.0.0.1:0", metrics.render, content_type=CONTENT_TYPE) as port:
        good = await ask(port, b"GET /metrics?name[]=x HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await ask(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        lost = await ask(port, b"GET / HTTP/1.1\r\n\r\n")
        posted = await ask(port, b"POST /metrics HTTP/1.1\r\n\r\n")

    status, _, rest = good.partition(b"\r\n")
    fields, _, page = rest.partition(b"\r\n\r\n")
    assert status == b"HTTP/1.1 200 OK"
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in fields
    assert page == metrics.render()
    assert head.endswith(b"\r\n\r\n")
    assert f"Content-Length: {len(page)}".encode() in head
    assert lost.startswith(b"HTTP/1.1 404 ")
    assert posted.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("request_", [b"x" * (2 * MAX_REQUEST_BYTES), b"\r\n\r\n", b"GET\r\n\r\n"])
async def test_what_is_no_request_harms_nobody(request_: bytes) -> None:
    """Too long, or empty: the connection ends, and the next one is served."""
    async with metrics_listener("127.0.0.1:0", edge_metrics().render) as port:
        await ask(port, request_)
        good = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")

    assert good.startswith(b"HTTP/1.1 200 OK")


async def test_connections_are_bounded_and_end_with_the_listener() -> None:
    """Whoever connects and says nothing holds one of a few places; one more is closed unread."""
    silent = []
    async with metrics_listener("127.0.0.1:0", edge_metrics().render) as port:
        for _ in range(MAX_CONNECTIONS):
            silent.append(await asyncio.open_connection("127.0.0.1", port))
        refused = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")

    assert refused == b""
    for reader, writer in silent:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 10)
        writer.close()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9100", "nonesuch.invalid:9100"])
async def test_an_address_that_others_can_reach_is_refused(address: str) -> None:
    """The page has neither TLS nor tokens."""
    with pytest.raises(ConfigError, match=rf"--metrics-listen is {re.escape(address)}; expected a loopback"):
        async with metrics_listener(address, edge_metrics().render):
            pass


async def test_a_port_in_use_is_a_sentence() -> None:
    """TransportError, which a daemon turns into exit code 3."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TransportError, match=f"metrics cannot listen on {address}; expected a free port"):
            async with metrics_listener(address, edge_metrics().render):
                pass
