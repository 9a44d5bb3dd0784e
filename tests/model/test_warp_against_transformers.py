"""`common.law.distributions.warp` gives the law that transformers' own warpers sample from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LogitsProcessorList

from thinwire.common.config import SamplingParameters
from thinwire.common.law.distributions import warp

SETTINGS = [
    (temperature, top_k, top_p)
    for temperature in (0.3, 0.7, 1.0, 2.5)
    for top_k in (0, 1, 20)
    for top_p in (0.1, 0.8, 0.95, 1.0)
]


@pytest.fixture(scope="module")
def generator() -> GPT2LMHeadModel:
    """Any model: `generate` builds its warpers from the settings alone."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=8))


def warpers(model: GPT2LMHeadModel, temperature: float, top_k: int, top_p: float) -> LogitsProcessorList:
    """The processors, in order, that `generate` would apply."""
    settings = GenerationConfig(do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
    return model._get_logits_processor(generation_config=settings, input_ids_seq_length=1)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
@pytest.mark.parametrize("size", [50, 3000])
def test_warp_equals_the_softmax_behind_transformers_warpers(
    generator: GPT2LMHeadModel, size: int, temperature: float, top_k: int, top_p: float
) -> None:
    """To 1e-6 in every probability, with exactly the same support, over random logits."""
    processors = warpers(generator, temperature, top_k, top_p)
    sampling = SamplingParameters(temperature=temperature, top_k=top_k, top_p=top_p)
    for seed in range(10):
        logits = np.random.default_rng([seed, size]).normal(0, 3, size)
        expected = torch.softmax(processors(torch.zeros(1, 1), torch.from_numpy(logits[None])), dim=-1)[0]
        probs = warp(logits, sampling)
        np.testing.assert_allclose(probs, expected.numpy(), atol=1e-6)
        np.testing.assert_array_equal(probs > 0, expected.numpy() > 0)


def test_tokens_that_tie_with_the_kth_are_kept_as_transformers_keeps_them(
    generator: GPT2LMHeadModel,
) -> None:
    """Top-k is a threshold on the score, not a count."""
    logits = np.array([1.0, 2.0, 2.0, 2.0, 3.0])
    scores = warpers(generator, 1.0, 2, 1.0)(torch.zeros(1, 1), torch.from_numpy(logits[None]))
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    np.testing.assert_allclose(warp(logits, SamplingParameters(top_k=2)), expected, atol=1e-12)
