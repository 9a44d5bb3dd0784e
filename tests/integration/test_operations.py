"""What an operator sees of two real daemons: metrics over HTTP, one log line a request, and health."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import TableModel, TableVocabulary, random_law
from loopback import Generated, WatchedModel, generate, loopback, make_request
from prometheus_client.parser import text_string_to_metric_families
from security.credentials import Certificates, Tokens
from verify_peer import TARGET, EdgeText, running_cloud

from cloud.daemon import CloudServer
from cloud.settings import CloudSettings
from common import wire
from common.daemon_log import JsonFormatter
from common.errors import ConfigError, TransportError, UnauthenticatedError
from common.generation import GenerationFinished
from common.metrics import CONTENT_TYPE, PREFIX, Metrics
from common.metrics_listener import metrics_listener
from common.security import ServerSecurity
from edge.client import EdgeClient, connect
from edge.daemon import EdgeServer
from edge.settings import EdgeSettings

ROOT = Path(__file__).resolve().parents[2]
SIZE = 12
VOCABULARY = TableVocabulary(SIZE)
SCHEMES = ("k-sqs", "c-sqs", "dense-qs", "cloud-ar")
WORDS = "swordfish"
"""A prompt that no log may show."""

Samples = dict[tuple[str, str], float]
"""Value by name without prefix, and by the one label's value, empty without a label."""


def models(*, context_length: int = 256) -> tuple[WatchedModel, TableModel]:
    """A target and a draft model that differ."""
    return (
        WatchedModel(random_law(SIZE, 1), context_length=context_length),
        TableModel(random_law(SIZE, 2), context_length=context_length),
    )


def read(page: str) -> Samples:
    """The samples of a page; histograms by their sum and count only."""
    samples: Samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if "le" not in sample.labels:
                label = "".join(sample.labels.values())
                samples[sample.name.removeprefix(PREFIX), label] = sample.value
    return samples


async def fetch(port: int) -> Samples:
    """What a scraper gets."""

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            return str(answer.read().decode())

    return read(await asyncio.to_thread(get))


async def scraped(metrics: Metrics) -> Samples:
    """A daemon's metrics over real HTTP."""
    async with metrics_listener("127.0.0.1:0", metrics.render, content_type=CONTENT_TYPE) as port:
        return await fetch(port)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; a client sees the end of its text before the daemons have tidied up."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


# --- metrics -----------------------------------------------------------------------------------------------


async def test_both_daemons_count_what_the_statistics_say() -> None:
    """Rounds, drafts, tokens, payload, bytes and seconds of a few texts, at either end of the link."""
    async with loopback(*models(), VOCABULARY) as both:
        done: dict[str, Generated] = {}
        for scheme in SCHEMES:
            done[scheme] = await generate(both.client, make_request("abc", scheme=scheme, max_tokens=30))
        await until(lambda: both.cloud.sessions == 0 and not both.edge.running)
        cloud, edge = await scraped(both.cloud.metrics), await scraped(both.edge.metrics)

    for scheme, one in done.items():
        s = one.finished.statistics
        for end in (cloud, edge):
            assert end["rounds_total", scheme] == s.rounds
            assert end.get(("spec_decode_num_draft_tokens_total", scheme), 0) == s.drafted_tokens
            assert end.get(("spec_decode_num_accepted_tokens_total", scheme), 0) == s.accepted_tokens
            assert end["prompt_tokens_total", scheme] == 3
            assert 8 * end["uplink_payload_bytes_total", scheme] == s.uplink_payload_bits
            assert end["uplink_bytes_total", scheme] == s.uplink_message_bytes
        assert edge["generation_tokens_total", scheme] == s.output_tokens
        assert cloud["generation_tokens_total", scheme] == s.rounds + s.accepted_tokens
        assert edge["downlink_bytes_total", scheme] == s.downlink_message_bytes
        closed = wire.closed_to_proto(s.rounds, 3 + s.rounds + s.accepted_tokens).ByteSize()
        assert cloud["downlink_bytes_total", scheme] == s.downlink_message_bytes + closed
        assert cloud["sessions_opened_total", scheme] == 1
    all_ = [one.finished.statistics for one in done.values()]
    for end in (cloud, edge):
        accepted = sum(s.accepted_tokens for s in all_)
        assert sum(n for (name, _), n in end.items() if name.endswith("per_pos_total")) == accepted
        assert end["queue_seconds_count", ""] == sum(s.rounds for s in all_)
        assert end["queue_seconds_sum", ""] == pytest.approx(sum(s.queue_s for s in all_))
        assert end["verify_seconds_sum", ""] == pytest.approx(sum(s.verify_s for s in all_))
    for phase in ("draft", "encode", "network"):
        total_s = sum(getattr(s, f"{phase}_s") for s in all_)
        assert total_s > 0
        # A block that was drafted for a text that had ended is drafted all the same, and in no statistics.
        assert edge[f"{phase}_seconds_sum", ""] == pytest.approx(total_s, rel=0.5)
    assert edge["generation_seconds_sum", ""] == pytest.approx(sum(s.total_s for s in all_))
    assert edge["time_to_first_token_seconds_sum", ""] == pytest.approx(sum(s.first_token_s for s in all_))
    assert edge["generations_finished_total", "length"] == len(SCHEMES)
    assert cloud["sessions_ended_total", "CLOSED"] == len(SCHEMES)
    assert cloud["target_passes_total", ""] >= sum(s.rounds for s in all_)
    assert all(value == 0 for (name, _), value in (cloud | edge).items() if name == "refusals_total")


async def test_the_statistics_tell_the_time_of_every_phase() -> None:
    """Draft, encode, network, queue and verify do not overlap; the rest is the edge's own."""
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, make_request("abc", scheme="dense-qs", max_tokens=60))
    s = done.finished.statistics
    phases = (s.draft_s, s.encode_s, s.network_s, s.queue_s, s.verify_s)

    assert min(phases) > 0
    assert sum(phases) <= s.total_s


async def test_gauges_show_a_text_while_it_runs_and_return_to_zero() -> None:
    """One session and one generation in the middle of a text; none after it, though its client went away."""
    target, draft = models(context_length=5000)
    async with loopback(target, draft, VOCABULARY) as both:
        events = both.client.generate(make_request("abc", max_tokens=4000))
        async for event in events:
            if isinstance(event, tuple):
                break
        during = [await scraped(end.metrics) for end in (both.cloud, both.edge)]
        await events.aclose()
        await until(lambda: both.cloud.sessions == 0 and not both.edge.running)
        after = [await scraped(end.metrics) for end in (both.cloud, both.edge)]

    assert (during[0]["sessions", ""], during[1]["generations", ""]) == (1, 1)
    assert (after[0]["sessions", ""], after[1]["generations", ""]) == (0, 0)
    assert after[1]["generations_finished_total", "cancelled"] == 1
    assert after[1]["generation_seconds_count", ""] == 0


async def test_refusals_are_counted_by_reason_at_both_ends() -> None:
    """A scheme that is switched off at the cloud, and a request that the edge itself cannot take."""
    async with loopback(*models(), VOCABULARY) as both:
        with pytest.raises(ConfigError):
            await generate(both.client, make_request("abc", scheme="dense-f16"))
        with pytest.raises(ConfigError):
            await generate(both.client, make_request("abc", max_tokens=0))
        await until(lambda: not both.edge.running)
        cloud, edge = await scraped(both.cloud.metrics), await scraped(both.edge.metrics)

    assert cloud["refusals_total", "PARAMETER_OUT_OF_RANGE"] == 1
    assert edge["refusals_total", "PARAMETER_OUT_OF_RANGE"] == 2
    assert edge["generations_finished_total", "error"] == 1
    assert cloud["sessions", ""] == 0
    assert not [name for name, _ in cloud if name == "sessions_opened_total"]


async def test_a_full_cloud_and_a_wrong_token_are_counted(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED by the registry, UNAUTHENTICATED by the guard, which lets nobody reach a handler."""
    async with running_cloud(TableModel(TARGET), settings=CloudSettings(max_sessions=1)) as cloud:
        await cloud.opened(EdgeText())
        other = cloud.stream()
        await other.say(EdgeText().open)
        await other.refusal()
        full = await scraped(cloud.server.metrics)
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    security = ServerSecurity(access=tokens.access())
    async with loopback(*models(), VOCABULARY, edge_security=security) as both:
        with pytest.raises(UnauthenticatedError):
            await generate(both.client, make_request("abc"))
        guarded = await scraped(both.edge.metrics)

    assert full["refusals_total", "RESOURCE_EXHAUSTED"] == 1
    assert guarded["refusals_total", "UNAUTHENTICATED"] == 1


# --- log ---------------------------------------------------------------------------------------------------


def lines_of(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    """What one module logged, as JSON would show it."""
    return [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == logger]


async def test_a_request_leaves_one_line_at_either_end(caplog: pytest.LogCaptureFixture) -> None:
    """The same session, tenant, scheme and counts, with the seconds of each phase; no text, no ids."""
    caplog.set_level(logging.INFO)
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, make_request("abcde", scheme="c-sqs", max_tokens=20))
        await until(lambda: both.cloud.sessions == 0 and not both.edge.running)
    s = done.finished.statistics
    (edge,), (cloud,) = lines_of(caplog, "edge.account"), lines_of(caplog, "cloud.account")

    for line in (edge, cloud):
        assert line["rounds"] == s.rounds
        assert (line["drafted_tokens"], line["accepted_tokens"]) == (s.drafted_tokens, s.accepted_tokens)
        assert (line["scheme"], line["tenant"], line["prompt_tokens"]) == ("c-sqs", "default", 5)
        assert line["bytes_up"] == s.uplink_message_bytes
        assert line["session"] == edge["session"]
        assert not any(isinstance(value, (list, dict)) for value in line.values())
        assert "abcde" not in json.dumps(line)
        assert done.text not in json.dumps(line)
    assert len(edge["session"]) == 8
    assert (edge["event"], edge["reason"], edge["tokens"]) == ("generation ended", "length", 20)
    assert (cloud["event"], cloud["reason"]) == ("session ended", "CLOSED")
    for phase in ("total_s", "first_token_s", "draft_s", "encode_s", "network_s", "queue_s", "verify_s"):
        assert edge[phase] == pytest.approx(getattr(s, phase), abs=1e-6)


async def test_prompt_and_text_are_logged_only_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """`--log-text`, of the edge alone."""
    caplog.set_level(logging.INFO)
    async with loopback(*models(), VOCABULARY, log_text=True) as both:
        done = await generate(both.client, make_request("abcde", max_tokens=20))
        await until(lambda: not both.edge.running)
    (edge,) = lines_of(caplog, "edge.account")

    assert (edge["prompt"], edge["text"]) == ("abcde", done.text)


async def test_a_refused_request_is_one_line_too(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason; the sentence only where it cannot quote the request."""
    caplog.set_level(logging.INFO)
    settings = EdgeSettings(connect_timeout_s=0.5)
    async with loopback(*models(), VOCABULARY, edge_settings=settings) as both:
        with pytest.raises(ConfigError):
            await generate(both.client, make_request("abcde", stop=("secret" * 60,)))
        with pytest.raises(ConfigError):
            await generate(both.client, make_request("abcde", scheme="dense-f16"))
        await both.cloud.stop(0)
        with pytest.raises(TransportError):
            await generate(both.client, make_request("abcde"))
        await until(lambda: not both.edge.running)
    bad, refused, lost = lines_of(caplog, "edge.account")
    (cloud,) = lines_of(caplog, "cloud.daemon")

    assert (bad["event"], bad["error"]) == ("generation refused", "PARAMETER_OUT_OF_RANGE")
    assert "failure" not in bad
    assert (refused["event"], refused["reason"], refused["error"]) == (
        "generation ended",
        "error",
        "PARAMETER_OUT_OF_RANGE",
    )
    assert (cloud["event"], cloud["error"]) == ("session refused", "PARAMETER_OUT_OF_RANGE")
    assert lost["error"] == "LINK"
    assert "did not answer within" in lost["failure"]


# --- processes ---------------------------------------------------------------------------------------------


class Daemon:
    """A daemon as a process whose standard error is a pipe; each of its lines is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def says(self, part: str) -> str:
        """Read on to a line with this part; returns the line."""
        assert self._process.stderr is not None, "a pipe"
        async with asyncio.timeout(120):
            while True:
                line = (await self._process.stderr.readline()).decode()
                assert line, f"the daemon ended before it said {part!r}: {self.lines}"
                self.lines.append(line)
                if part in line:
                    return line

    async def stopped(self) -> int | None:
        """SIGTERM if it still runs; its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int | None:
        """Its exit code, once it has ended."""
        _, err = await asyncio.wait_for(self._process.communicate(), 60)
        self.lines += err.decode().splitlines()
        return self._process.returncode


async def start(*arguments: str) -> Daemon:
    """`python -m ARGUMENTS`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
    )
    return Daemon(process)


@asynccontextmanager
async def daemon(*arguments: str) -> AsyncIterator[Daemon]:
    """One that is ended with the context."""
    started = await start(*arguments, "--listen", "127.0.0.1:0", "--threads", "1")
    try:
        yield started
    finally:
        await started.stopped()


async def test_daemons_as_processes_log_json_and_serve_metrics() -> None:
    """
    With standard error in a pipe every line is an object and none has the text; the page counts the rounds.

    The KV memory that a session holds is given back.
    """
    metrics = ("--metrics-listen", "127.0.0.1:0")
    async with daemon("cloud", "serve", *metrics) as cloud:
        cloud_page = port_in(await cloud.says("metrics on port"))
        loading = await fetch(cloud_page)  # before the model is there
        address = f"127.0.0.1:{port_in(await cloud.says('listening on'))}"
        async with daemon("edge", "edge", "--cloud", address, *metrics) as edge:
            edge_page = port_in(await edge.says("metrics on port"))
            edge_address = f"127.0.0.1:{port_in(await edge.says('listening on'))}"
            await cloud.says("serving")
            await edge.says("serving")
            async with connect(edge_address, event_timeout_s=60) as client:
                during, text, finished = await watched_text(client, cloud_page)
            await edge.says("generation ended")
            await cloud.says("session ended")
            pages = [await fetch_when_free(cloud_page), await fetch(edge_page)]
    said = [json.loads(line) for line in (*cloud.lines, *edge.lines)]

    assert loading["sessions", ""] == 0
    assert ("kv_bytes_used", "") not in loading
    for page in pages:
        assert page["rounds_total", "k-sqs"] == finished.statistics.rounds
    assert during["kv_bytes_capacity", ""] > during["kv_bytes_used", ""] > pages[0]["kv_bytes_used", ""] == 0
    assert all({"time", "level", "event"} <= set(line) for line in said)
    assert [line["event"] for line in said if "rounds" in line] == ["session ended", "generation ended"]
    words = [value for line in said for value in line.values() if isinstance(value, str)]
    assert len(text) > 8
    assert not [word for word in words if WORDS in word or text in word]


async def fetch_when_free(page: int) -> Samples:
    """The page once no KV memory is in use; the model's thread gives it back after the session's end."""
    async with asyncio.timeout(20):
        while (samples := await fetch(page))["kv_bytes_used", ""]:
            await asyncio.sleep(0.005)
    return samples


async def watched_text(client: EdgeClient, page: int) -> tuple[Samples, str, GenerationFinished]:
    """(the page at its first tokens, what it says, its last event) of a text."""
    during: Samples = {}
    text = ""
    async for event in client.generate(make_request(WORDS, max_tokens=48, ignore_eos=True)):
        if isinstance(event, tuple):
            during = during or await fetch(page)
            text += "".join(token.text for token in event)
        elif isinstance(event, GenerationFinished):
            return during, (text + event.text).strip(), event
    raise AssertionError("no last event")


def port_in(line: str) -> int:
    """The port that a JSON line speaks of."""
    event = json.loads(line)["event"]
    word = next(word.strip(",") for word in event.split() if word.strip(",").rpartition(":")[2].isdigit())
    return int(word.rpartition(":")[2])


@pytest.mark.parametrize(
    ("address", "code", "sentence"),
    [
        ("0.0.0.0:9100", 2, "--metrics-listen is 0.0.0.0:9100; expected a loopback address"),
        ("127.0.0.1:{taken}", 3, "metrics cannot listen on 127.0.0.1:{taken}; expected a free port"),
    ],
)
async def test_a_metrics_address_that_cannot_be_had_ends_the_daemon(
    address: str, code: int, sentence: str
) -> None:
    """Before any model is loaded, with one line that says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        started = await start(
            *("cloud", "serve", "--listen", "127.0.0.1:0"),
            *("--metrics-listen", address.replace("{taken}", port)),
        )
        ended = await started.ended()

    (line,) = [json.loads(line) for line in started.lines]
    assert (ended, line["level"]) == (code, "ERROR")
    assert line["event"].startswith(sentence.replace("{taken}", port))


# --- health ------------------------------------------------------------------------------------------------


async def health(program: str, peer: str, address: str, *more: str) -> tuple[int | None, str]:
    """(exit code, what `health` printed)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", program, "health", f"--{peer}", address, *more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode().strip()


async def test_health_tells_serving_loading_and_absent_apart() -> None:
    """Exit codes 0, 1 and 5, of either daemon; another daemon's service is not SERVING."""
    async with loopback(*models(), VOCABULARY) as both:
        cloud = await health("cloud", "cloud", both.cloud_address)
        edge = await health("edge", "edge", both.edge_address)
        other = await health("cloud", "cloud", both.edge_address)
    absent = await health("cloud", "cloud", both.cloud_address)
    loading_cloud = CloudServer(None, vocabulary=None)
    loading_edge = EdgeServer(None, vocabulary=None, cloud_address=both.cloud_address)
    ports = [await server.start("127.0.0.1:0") for server in (loading_cloud, loading_edge)]
    try:
        not_yet = await health("cloud", "cloud", f"127.0.0.1:{ports[0]}")
        nor_the_edge = await health("edge", "edge", f"127.0.0.1:{ports[1]}")
    finally:
        await loading_cloud.stop(0)
        await loading_edge.stop(0)

    assert cloud == (0, f"thinwire.v1.Verifier at {both.cloud_address}: SERVING")
    assert edge == (0, f"thinwire.v1.Generator at {both.edge_address}: SERVING")
    assert other == (1, f"thinwire.v1.Verifier at {both.edge_address}: SERVICE_UNKNOWN")
    assert not_yet == (1, f"thinwire.v1.Verifier at 127.0.0.1:{ports[0]}: NOT_SERVING")
    assert nor_the_edge == (1, f"thinwire.v1.Generator at 127.0.0.1:{ports[1]}: NOT_SERVING")
    assert absent[0] == 5
    assert absent[1].startswith(f"{both.cloud_address} does not answer: ")


async def test_health_needs_the_certificates_and_no_token(tmp_path: Path) -> None:
    """Over TLS with the authority; without it the certificate does not hold, and that is no answer."""
    certificates, tokens = Certificates.make(tmp_path / "certificates"), Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    security = certificates.server("cloud", access=tokens.access())
    server = CloudServer(models()[0], vocabulary=VOCABULARY.identity, security=security)
    address = f"localhost:{await server.start('127.0.0.1:0')}"
    try:
        good = await health("cloud", "cloud", address, "--ca", str(certificates.folder / "ca.pem"))
        plain = await health("cloud", "cloud", address)
        never = await health("cloud", "cloud", address, "--timeout", "0")
    finally:
        await server.stop(0)

    assert good == (0, f"thinwire.v1.Verifier at {address}: SERVING")
    assert plain[0] == 5
    assert never == (2, "thinwire-cloud: timeout is 0.0; expected more than 0 seconds.")
