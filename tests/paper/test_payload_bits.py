"""What the blocks of the bundled pair's text cost, beside the paper's account and the entropy of sizes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bench.scheme_steps import Runs, Steps
from thinwire.common.law.support_code import size_bits
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs

C_SQS = CSqs.Parameters(max_support_size=256, frozen_threshold=True)
THRESHOLDS = [0.03, 0.05, 0.1, 0.2]
SCHEMES = {
    "k-sqs": KSqs.Parameters(support_size=8),
    "c-sqs": replace(C_SQS, frozen_threshold=False, initial_threshold=0.1, target_dropped_mass=0.3),
    "c-sqs frozen .03": replace(C_SQS, initial_threshold=0.03),
    "dense-qs": DenseQs.Parameters(lattice_resolution=100),
}


def log2_comb(n: int, k: int) -> float:
    """log2 C(n, k)."""
    return math.log2(math.comb(n, k))


def size_code_bits(steps: Steps) -> np.ndarray:
    """Bits that the shipped code spends on K⁺, step by step."""
    return np.array(
        [
            size_bits(block.coding, steps.scheme.max_points)[len(d.quantized.support_ids) - 1]
            for block in steps.blocks
            for d in block.distributions
        ]
    )


def entropy(values: np.ndarray) -> float:
    """Empirical entropy in bits."""
    counts = np.array(list(Counter(values.tolist()).values()))
    return float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_support_sizes_cost_little_more_than_their_entropy(threshold: float, runs: Runs) -> None:
    """The code of K⁺ is within half a bit of the empirical entropy of the same run, and within 4 bits."""
    steps = runs.of(replace(C_SQS, initial_threshold=threshold))
    mean = size_code_bits(steps).mean()

    assert mean <= entropy(steps.wire_support_size) + 0.5
    assert mean <= 4


def test_support_sizes_of_a_moving_threshold_cost_little_more_than_their_entropy(runs: Runs) -> None:
    """The same for adaptive c-sqs, whose sizes drift."""
    steps = runs.of(SCHEMES["c-sqs"])

    assert size_code_bits(steps).mean() <= entropy(steps.wire_support_size) + 0.5


@pytest.mark.parametrize("name", SCHEMES)
def test_a_block_costs_at_most_a_byte_more_than_the_papers_account(name: str, runs: Runs) -> None:
    """⌈bits / 8⌉ + 1 bytes: log2 C(V, K) + log2 C(ℓ+K-1, K-1) + log2 K a token, for c-sqs plus K⁺'s code."""
    steps = runs.of(SCHEMES[name])
    vocabulary_size, resolution = steps.scheme.vocabulary_size, steps.scheme.parameters.lattice_resolution
    dense, sized = name == "dense-qs", name.startswith("c-sqs")
    size_cost, at = size_code_bits(steps), 0
    for block in steps.blocks:
        bits = 0.0
        for drafted in block.distributions:
            size = vocabulary_size if dense else drafted.support_size
            bits += log2_comb(vocabulary_size, size) + log2_comb(resolution + size - 1, size - 1)
            bits += math.log2(resolution if dense else size) + (size_cost[at] if sized else 0)
            at += 1

        assert len(block.payload) <= math.ceil(bits / 8) + 1
        assert len(block.payload) <= steps.scheme.max_payload_bytes(len(block.tokens))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_cloud_decodes_what_the_edge_drew_from(name: str, runs: Runs) -> None:
    """Every block of the text comes back integer for integer."""
    steps = runs.of(SCHEMES[name])
    for block in steps.blocks:
        decoded = steps.scheme.decode(block.payload, draft_length=len(block.tokens), coding=block.coding)
        for sent, received in zip(block.tokens, decoded, strict=True):
            assert received.token_index == sent.token_index
            assert np.array_equal(received.quantized.support_ids, sent.quantized.support_ids)
            assert np.array_equal(received.quantized.lattice_counts, sent.quantized.lattice_counts)
