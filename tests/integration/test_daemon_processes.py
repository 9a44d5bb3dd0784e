"""Daemons as processes: JSON lines on standard error, metrics over HTTP, an address that cannot be had."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest

from daemon_processes import daemon, started, stopped
from loopback import make_request
from tests.integration.operations import Samples, fetch
from thinwire.common import demo_pair
from thinwire.common.session.generation import GenerationFinished
from thinwire.edge.client import AsyncClient, connect

ROOT = Path(__file__).resolve().parents[2]
WORDS = "swordfish"
"""A prompt that no log may show."""


async def test_daemons_as_processes_log_json_and_serve_metrics(tmp_path: Path) -> None:
    """
    With standard error in a pipe every line is an object and none has the text; the page counts the rounds.

    The KV memory that a session holds is given back.
    """
    metrics = ("--metrics-listen", "127.0.0.1:0")
    async with daemon(tmp_path, "thinwire.cloud", "serve", *metrics) as cloud:
        cloud_page = port_in(next(line for line in cloud.log.splitlines() if "metrics on port" in line))
        loading = await fetch(cloud_page)  # before the model is there
        dial = ("--cloud", await cloud.address())
        async with daemon(tmp_path, "thinwire.edge", "edge", *dial, *metrics) as edge:
            edge_page = port_in(next(line for line in edge.log.splitlines() if "metrics on port" in line))
            edge_address = await edge.address()
            await cloud.says("serving")
            await edge.says("serving")
            async with connect(edge_address, event_timeout_s=60) as client:
                during, text, finished = await watched_text(client, cloud_page)
            await edge.says("generation ended")
            await cloud.says("session ended")
            pages = [await fetch_when_free(cloud_page), await fetch(edge_page)]
    said = [json.loads(line) for line in (cloud.log + edge.log).splitlines()]

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


async def watched_text(client: AsyncClient, page: int) -> tuple[Samples, str, GenerationFinished]:
    """(the page at its first tokens, what it says, its last event) of a text."""
    during: Samples = {}
    text = ""
    async for event in client.events(make_request(WORDS, max_tokens=48, ignore_eos=True)):
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
    tmp_path: Path, address: str, code: int, sentence: str
) -> None:
    """Before any model is loaded, with one line that says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        listening = ("--metrics-listen", address.replace("{taken}", port))
        cloud = await started(tmp_path, "thinwire.cloud", "serve", *listening)
        ended = await cloud.ended()

    (line,) = [json.loads(line) for line in cloud.log.splitlines()]
    assert (ended, line["level"]) == (code, "ERROR")
    assert line["event"].startswith(sentence.replace("{taken}", port))


async def test_an_edge_takes_the_tokenizer_that_it_is_told(tmp_path: Path) -> None:
    """`--tokenizer` reaches the loading: another one than the model's, and none is not passed over."""
    arguments = ("thinwire.edge", "edge", "--cloud", "127.0.0.1:9", "--tokenizer")
    edge = await started(tmp_path, *arguments, str(demo_pair.target_path()))
    await edge.says("serving draft")
    assert await stopped(edge) == 0

    edge = await started(tmp_path, *arguments, "/no/such/folder")
    assert await edge.ended() == 4
    assert "no tokenizer can be loaded from '/no/such/folder' (there is no such folder)" in edge.log


async def test_what_is_loaded_is_set_aside_from_collections() -> None:
    """In mid-round the collector walks through what rounds have made, not through the libraries."""
    program = (
        "import gc\n"
        "from thinwire.common import demo_pair\n"
        "from thinwire.common.daemon.process import load_model\n"
        "from thinwire.common.daemon.settings import DaemonOptions\n"
        "load_model(DaemonOptions(str(demo_pair.draft_path()), '127.0.0.1:0'), lambda *_: None)\n"
        "print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    set_aside, walked_through = map(int, out.split())

    assert set_aside > 100_000
    assert walked_through < set_aside / 100
