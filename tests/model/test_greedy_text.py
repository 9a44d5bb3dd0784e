"""
At temperature 0 every scheme gives what transformers' own greedy generation gives for the target alone.

In float64 token for token; in float32 a text may leave its twin where the two best logits lie within 1e-4 of
each other, because a pass of several tokens rounds otherwise than a pass of one.
"""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import bench
import torch_device
from loopback import generate, loopback, make_request
from thinwire.common import demo_pair
from thinwire.common.language_model import LanguageModel

PROMPTS = tuple(
    json.loads(line)["prompt"]
    for line in (Path(bench.__file__).parent / "prompts.jsonl").read_text().splitlines()[:20]
)
TOKENS = 128
SESSIONS = 8
CLOSE = 1e-4
"""Two best logits nearer than this may change places in float32."""
SCHEMES = {
    "k-sqs": {},
    "c-sqs": {},
    "dense-qs": {"lattice_resolution": 24},
}
SHORT_BLOCKS, LONG_BLOCKS = 5, 8
"""Draft lengths: of whole texts, where eight tokens would often be in vain, and of their short twins."""


@cache  # the same for every scheme
def greedy_texts(dtype: str, prompts: tuple[str, ...], tokens: int) -> list[tuple[int, ...]]:
    """Output ids of transformers' `generate(do_sample=False)`, end-of-text token included; one batch."""
    model: Any = AutoModelForCausalLM.from_pretrained(demo_pair.target_path(), dtype=getattr(torch, dtype))
    model = model.to(torch_device.name).eval()
    target, _ = models(dtype)
    encoded = [target.vocabulary.encode(prompt) for prompt in prompts]
    longest = max(map(len, encoded))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in encoded], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded], device=model.device)
    out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens, pad_token_id=0)
    return [up_to_the_end(row, target.eos_token_ids) for row in out[:, longest:].tolist()]


def up_to_the_end(token_ids: list[int], eos_token_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Without what a batch puts behind an end of text."""
    ends = [n for n, token_id in enumerate(token_ids) if token_id in eos_token_ids]
    return tuple(token_ids[: ends[0] + 1] if ends else token_ids)


@cache  # every test leaves the pool empty
def models(dtype: str) -> tuple[LanguageModel, LanguageModel]:
    """The bundled pair, target first, which has a KV pool; what the draft rounds does not count."""
    target = torch_device.load_on_device(str(demo_pair.target_path()), dtype=dtype)
    draft = torch_device.load_on_device(str(demo_pair.draft_path()))
    target.pool_sequences(sessions=SESSIONS)
    return target, draft


async def our_texts(
    dtype: str, scheme: str, prompts: tuple[str, ...], tokens: int, draft_length: int = SHORT_BLOCKS
) -> list[tuple[int, ...]]:
    """Output ids over two daemons and real gRPC, a few sessions at once in shared target passes."""
    target, draft = models(dtype)
    changes: dict[str, Any] = {"scheme": scheme, "draft_length": draft_length, **SCHEMES[scheme]}
    async with loopback(
        target,
        draft,
        draft.vocabulary,
        target_vocabulary=target.vocabulary,
        eos_token_ids=target.eos_token_ids,
    ) as both:
        at_once = asyncio.Semaphore(SESSIONS)

        async def text(prompt: str) -> tuple[int, ...]:
            async with at_once:
                request = make_request(prompt, temperature=0.0, max_tokens=tokens, **changes)
                return (await generate(both.client, request)).token_ids

        return list(await asyncio.gather(*map(text, prompts)))


def parting_is_excused(
    model: LanguageModel, prompt: str, ours: tuple[int, ...], theirs: tuple[int, ...]
) -> bool:
    """Whether the target's two best logits are close where two texts part."""
    at = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    sequence = model.open_sequence()
    row = sequence.extend([*model.vocabulary.encode(prompt), *ours[:at]], logit_rows=1)[0]
    sequence.close()
    second, best = sorted(row)[-2:]
    return bool(best - second < CLOSE)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Beside other tests torch's threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_greedy_texts_equal_those_of_transformers_in_float64(scheme: str) -> None:
    """20 prompts, 128 tokens: every token."""
    assert await our_texts("float64", scheme, PROMPTS, TOKENS) == greedy_texts("float64", PROMPTS, TOKENS)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_greedy_texts_equal_those_of_transformers_in_float32(scheme: str) -> None:
    """20 prompts, 128 tokens: every token, but at most one text that parts where two logits are close."""
    pairs = zip(
        PROMPTS,
        await our_texts("float32", scheme, PROMPTS, TOKENS),
        greedy_texts("float32", PROMPTS, TOKENS),
        strict=True,
    )
    parted = [(prompt, ours, theirs) for prompt, ours, theirs in pairs if ours != theirs]
    target, _ = models("float64")

    assert len(parted) <= 1
    assert all(parting_is_excused(target, *texts) for texts in parted)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_short_greedy_text_equals_that_of_transformers(scheme: str) -> None:
    """The short twin: two prompts, 24 tokens in blocks of 8, float64."""
    ours = await our_texts("float64", scheme, PROMPTS[:2], 24, LONG_BLOCKS)

    assert ours == greedy_texts("float64", PROMPTS[:2], 24)
