"""The peers: their contract, watched and paced passes, and the service over real gRPC with random models."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
import transformers

from bench.peers.forward_watch import PassLog, watch_forward
from bench.peers.messages import STREAM, PeerRequest, StreamedToken
from bench.peers.pacing import Pacing
from bench.peers.service import PeersServer
from fakes import ManualClock
from loopback import generate, loopback, make_request
from model.checkpoints import save_checkpoint
from thinwire.common import wire
from thinwire.common.errors import ConfigError, RemoteProtocolError
from thinwire.common.language_model import LanguageModel, load_language_model

PROMPT = "def answer():"
TOKENS = 24
REQUEST = PeerRequest("own", "def é():\n", max_tokens=16, temperature=0.3, seed=2**64 - 1)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Of a pass log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("pacing", "took_s", "tokens", "lasted_s"),
    [
        pytest.param(Pacing(0.1, 0.002), 0.01, 1, 0.102, id="a fast pass is drawn out"),
        pytest.param(Pacing(0.1, 0.002), 0.01, 5, 0.11, id="each token costs b more"),
        pytest.param(Pacing(0.1, 0.002), 0.3, 5, 0.3, id="a slow pass stays as it is"),
        pytest.param(Pacing(), 0.01, 100, 0.01, id="without pacing nothing waits"),
    ],
)
def test_a_pass_lasts_the_longer_of_measured_and_due(
    tmp_path: Path, pacing: Pacing, took_s: float, tokens: int, lasted_s: float
) -> None:
    """Every pass is written with both times, ids by name, as transformers calls it, or as first argument."""
    clock, log = ManualClock(), PassLog(str(tmp_path / "passes"))

    class Model(torch.nn.Module):
        """Takes so long on the clock."""

        def forward(self, input_ids: Any, **_: Any) -> None:
            """Nothing else."""
            clock.advance(took_s)

    model = Model()
    watch_forward(model, role="target", pacing=pacing, log=log, clock=clock, sleep=clock.advance)
    began_s, ids = clock(), torch.zeros(1, tokens, dtype=torch.long)
    model(input_ids=ids, use_cache=True)
    model(ids)
    log.close()

    times = {"measured_s": pytest.approx(took_s), "lasted_s": pytest.approx(lasted_s)}
    assert read_lines(tmp_path / "passes") == 2 * [
        {"kind": "pass", "role": "target", "tokens": tokens, **times}
    ]
    assert clock() - began_s == pytest.approx(2 * lasted_s)


def test_the_argument_is_in_milliseconds_and_comes_back() -> None:
    """What the benchmark hands to its daemons is what it was given."""
    pacing = Pacing.parse("120,2.5")

    assert pacing == Pacing(0.12, 0.0025)
    assert Pacing.parse(pacing.as_argument()) == pacing
    assert str(pacing) == "paced: a target pass lasts max(measured, 120 ms + 2.5 ms x tokens)"
    assert str(Pacing()) == "not paced"


@pytest.mark.parametrize("text", ["", "5", "a,b", "1,2,3", "-1,0", "nan,0", "0,100000"])
def test_a_bad_pacing_is_refused(text: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        Pacing.parse(text)


def test_messages_come_back_as_they_were() -> None:
    """Text in any script, seeds of 64 bits; a token is 4 bytes of id, 2 of pass and its text."""
    token = StreamedToken(8191, 7, "é = ")

    assert PeerRequest.from_bytes(REQUEST.to_bytes()) == REQUEST
    assert token.to_bytes() == bytes.fromhex("ff1f00000700") + "é = ".encode()
    assert StreamedToken.from_bytes(token.to_bytes()) == token
    # A lone surrogate cannot be sent; a question mark can.
    assert StreamedToken(1, 1, "\ud800").to_bytes()[6:] == b"?"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"way": "own"}', b"\xff"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """As the peer's mistake."""
    with pytest.raises(RemoteProtocolError, match="no PeerRequest"):
        PeerRequest.from_bytes(data)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("way", "telepathy", "expected one of own, generate, assisted, batched"),
        ("max_tokens", 0, "expected an integer from 1 to 65535"),
        ("together", 1001, "expected an integer from 1 to 1000"),
    ],
)
def test_a_field_out_of_its_range_is_refused(field: str, value: Any, words: str) -> None:
    """As it is read and as it is made, with what was expected."""
    values = {**json.loads(REQUEST.to_bytes()), field: value}
    with pytest.raises(ConfigError, match=words):
        PeerRequest(**values)
    with pytest.raises(ConfigError, match=words):
        PeerRequest.from_bytes(json.dumps(values).encode())


@pytest.mark.parametrize("module", ["bench.peers.__main__", "bench.grid.cloud", "bench.peers.service"])
def test_openmp_is_told_how_to_wait_before_torch_is_imported(module: str) -> None:
    """OpenMP reads its variables as torch is loaded; a later word would come too late."""
    script = f"""
import builtins, os, sys
original = builtins.__import__
def watching(name, *rest, **named):
    if name == "torch":
        sys.exit(os.environ.get("OMP_WAIT_POLICY"))  # what torch would read; torch itself is not needed
    return original(name, *rest, **named)
builtins.__import__ = watching
import {module}
"""
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stderr == "PASSIVE\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Target and draft; the draft is the target with a little noise, so that some drafts are accepted."""
    root = tmp_path_factory.mktemp("pair")
    target, draft = (save_checkpoint(root / name, "Llama", seed=1) for name in ("target", "draft"))
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(draft)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model.save_pretrained(draft)
    return target, draft


@pytest.fixture
def models(folders: tuple[str, str]) -> tuple[LanguageModel, LanguageModel]:
    """Loaded afresh, as watching a model is for good."""
    target, draft = (load_language_model(folder) for folder in folders)
    return target, draft


class Peers:
    """A server on loopback and what it wrote of its passes."""

    def __init__(self, channel: grpc.aio.Channel, passes: Path) -> None:
        self.call = channel.unary_stream(STREAM)
        self.passes = passes

    async def ask(self, way: str, **changes: Any) -> list[StreamedToken]:
        """One text."""
        values = {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 1.0, "seed": 7, **changes}
        messages = self.call(PeerRequest(way, **values).to_bytes())
        return [StreamedToken.from_bytes(message) async for message in messages]


@pytest.fixture
async def peers(models: tuple[LanguageModel, LanguageModel], tmp_path: Path) -> AsyncIterator[Peers]:
    """Serving."""
    log = PassLog(str(tmp_path / "passes"))
    for role, model in zip(("target", "draft"), models, strict=True):
        watch_forward(model.module, role=role, pacing=Pacing(), log=log)
    server = PeersServer(executor=ThreadPoolExecutor(1), log=log)
    port = await server.start("127.0.0.1:0")
    server.models_loaded(*models)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=wire.channel_options()) as channel:
        yield Peers(channel, tmp_path / "passes")
    await server.stop(0)
    log.close()


@pytest.mark.parametrize(
    ("way", "passes"), [("own", TOKENS), ("generate", TOKENS), ("assisted", TOKENS // 2 - 1)]
)
async def test_each_way_streams_as_many_tokens_as_were_asked_for(peers: Peers, way: str, passes: int) -> None:
    """End-of-text is ignored; all passes are numbered from 1 and logged; the draft nearly is the target."""
    tokens = await peers.ask(way, draft_length=4)
    numbers, lines = [token.target_pass for token in tokens], read_lines(peers.passes)

    assert len(tokens) == TOKENS
    assert numbers[0] == 1
    assert numbers[-1] <= passes
    assert all(b - a in (0, 1) for a, b in pairwise(numbers))
    assert [line.get("role") for line in lines].count("target") == numbers[-1]
    assert [line["kind"] for line in lines].count("served") == 1


async def test_our_stream_gives_the_text_that_thinwire_gives_without_a_draft(
    peers: Peers, models: tuple[LanguageModel, LanguageModel]
) -> None:
    """The same draws from the same law, so token for token the same under a seed."""
    streamed = await peers.ask("own")

    target, draft = models
    async with loopback(target, draft, vocabulary=draft.vocabulary) as pair:
        request = make_request(
            PROMPT, scheme="cloud-ar", seed=7, max_tokens=TOKENS, draft_length=4, ignore_eos=True
        )
        ours = await generate(pair.client, request)
    assert [token.token_id for token in streamed] == [token.token_id for token in ours.tokens]


async def test_a_text_of_transformers_is_that_of_its_own_generate(
    peers: Peers, models: tuple[LanguageModel, LanguageModel]
) -> None:
    """Greedy: streamed over the wire, both ways give what `generate` gives at home."""
    target = models[0]
    ids = torch.tensor([target.vocabulary.encode(PROMPT)])
    with torch.inference_mode():
        at_home = target.module.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS, pad_token_id=0
        )

    for way in ("generate", "assisted"):
        tokens = await peers.ask(way, temperature=0.0, draft_length=2)
        assert [token.token_id for token in tokens] == at_home[0, ids.shape[1] :].tolist()


async def test_a_batch_begins_once_it_is_whole(peers: Peers) -> None:
    """Greedy, two prompts of one length: each stream gets its own text, in as many passes as tokens."""
    prompts = ("def answer():", "def summed():")
    alone = [await peers.ask("generate", prompt=prompt, temperature=0.0) for prompt in prompts]
    together = await asyncio.gather(
        *(peers.ask("batched", prompt=prompt, temperature=0.0, together=2) for prompt in prompts)
    )

    assert [[token.token_id for token in text] for text in together] == [
        [token.token_id for token in text] for text in alone
    ]
    assert [token.target_pass for token in together[0]] == list(range(1, TOKENS + 1))


async def test_a_request_that_is_none_is_refused_and_the_next_is_served(peers: Peers) -> None:
    """With our own status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peers.call(b"nonsense").read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    assert len(await peers.ask("own", max_tokens=2)) == 2
