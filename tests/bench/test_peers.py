"""The peers' service over real gRPC on loopback, with random models of two layers."""

from __future__ import annotations

import asyncio
import json
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
from loopback import generate, loopback, make_request
from model.checkpoints import save_checkpoint
from thinwire.common import wire
from thinwire.common.language_model import LanguageModel, load_language_model

PROMPT = "def answer():"
TOKENS = 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Target and draft; the draft is the target with a little noise, so that some drafts are accepted."""
    root = tmp_path_factory.mktemp("pair")
    target = save_checkpoint(root / "target", "Llama", seed=1)
    draft = save_checkpoint(root / "draft", "Llama", seed=1)
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
        self._channel = channel
        self._passes = passes

    async def ask(self, way: str, **changes: Any) -> list[StreamedToken]:
        """One text."""
        values = {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 1.0, "seed": 7, **changes}
        call = self._channel.unary_stream(STREAM)(PeerRequest(way, **values).to_bytes())
        return [StreamedToken.from_bytes(message) async for message in call]

    async def ask_bytes(self, request: bytes) -> None:
        """Whatever it is."""
        await self._channel.unary_stream(STREAM)(request).read()

    def lines(self) -> list[dict[str, Any]]:
        """The pass log."""
        return [json.loads(line) for line in self._passes.read_text().splitlines()]


@pytest.fixture
async def peers(models: tuple[LanguageModel, LanguageModel], tmp_path: Path) -> AsyncIterator[Peers]:
    """Serving."""
    target, draft = models
    log = PassLog(str(tmp_path / "passes"))
    for role, model in (("target", target), ("draft", draft)):
        watch_forward(model.module, role=role, pacing=Pacing(), log=log)
    server = PeersServer(executor=ThreadPoolExecutor(1), log=log)
    port = await server.start("127.0.0.1:0")
    server.models_loaded(target, draft)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=wire.channel_options()) as channel:
        yield Peers(channel, tmp_path / "passes")
    await server.stop(0)
    log.close()


@pytest.mark.parametrize("way", ["own", "generate", "assisted"])
async def test_each_way_streams_as_many_tokens_as_were_asked_for(peers: Peers, way: str) -> None:
    """End-of-text is ignored; the pass numbers rise from 1; each target pass is in the log."""
    tokens = await peers.ask(way, draft_length=3)

    assert len(tokens) == TOKENS
    numbers = [token.target_pass for token in tokens]
    assert numbers[0] == 1
    assert all(b - a in (0, 1) for a, b in pairwise(numbers))
    target = [line for line in peers.lines() if line["kind"] == "pass" and line["role"] == "target"]
    assert len(target) == numbers[-1]
    assert [line["kind"] for line in peers.lines()].count("served") == 1


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


async def test_assisted_generation_takes_fewer_target_passes(peers: Peers) -> None:
    """Its draft model nearly is the target here."""
    tokens = await peers.ask("assisted", draft_length=4)

    assert tokens[-1].target_pass < TOKENS / 2


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
        await peers.ask_bytes(b"nonsense")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    assert len(await peers.ask("own", max_tokens=2)) == 2
