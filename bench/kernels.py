"""
Speed of the kernels as ratios: the edge's own work per drafted token and the cloud's decoding, against one
float32 numpy softmax over the same vocabulary in the same run.

The edge's work is support, lattice, sampling and payload, as `DraftBlockBuilder` does it in service; softmax
and model are left out.
For the bundled pair's vocabulary both are also held against one step of its draft model.
Every time is the least of many repetitions on one thread, which other work on the machine disturbs least.
Softmax and kernels take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common import demo_pair
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import load_language_model, set_threads
from thinwire.common.law.distributions import softmax, warp
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import SchemeParameters, make_scheme
from thinwire.common.schemes.base import Scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import Draft

BUNDLED_VOCABULARY_SIZE = 8192
VOCABULARY_SIZES = (BUNDLED_VOCABULARY_SIZE, 50257, 151936)
DRAFT_LENGTH = 4
BLOCKS = 6
"""Blocks of each case, every token from a law of its own."""
CASES: dict[str, SchemeParameters] = {
    "k-sqs K=2": KSqs.Parameters(support_size=2),
    "k-sqs K=8": KSqs.Parameters(support_size=8),
    "k-sqs K=64": KSqs.Parameters(support_size=64),
    "k-sqs K=64 ℓ=720": KSqs.Parameters(support_size=64, lattice_resolution=720),
    "c-sqs β=.05": CSqs.Parameters(initial_threshold=0.05, frozen_threshold=True),
    "c-sqs β=.003": CSqs.Parameters(initial_threshold=0.003, frozen_threshold=True),
    "dense-qs": DenseQs.Parameters(),
}


@dataclass(frozen=True)
class Timing:
    """One case, microseconds a drafted token (of one call for the softmax)."""

    vocabulary_size: int
    case: str
    softmax_us: float
    edge_us: float
    decode_us: float
    support_size: float
    """Mean K⁺."""
    payload_bits: float
    """Mean bits a token."""


def make_logits(vocabulary_size: int, count: int) -> npt.NDArray[np.float32]:
    """(count, V) float32 logits, Zipf-like with ids in random order: peaked and flat laws in turn."""
    generator = np.random.default_rng(vocabulary_size)
    rows = []
    for n in range(count):
        scores = -(1.1 + 0.15 * (n % 4)) * np.log(np.arange(1, vocabulary_size + 1))
        rows.append(generator.permutation(scores + generator.normal(0, 0.5, vocabulary_size)))
    return np.array(rows, dtype=np.float32)


def draft(scheme: Scheme, rows: Sequence[npt.NDArray[Any]]) -> DraftBlockBuilder:
    """One block, a token a row; the caller builds it."""
    builder = DraftBlockBuilder(
        Draft(
            state=scheme.initial_state(),
            attempt=0,
            first_position=0,
            max_draft_length=len(rows),
        ),
        scheme,
        KeyedDraws(1),
    )
    for row in rows:
        builder.offer(row)
    return builder


def measure(vocabulary_size: int, case: str, *, repetitions: int) -> Timing:
    """
    Time one case.

    Args:
        vocabulary_size: V.
        case: key of `CASES`.
        repetitions: the least time of these counts, block by block.
    """
    scheme = make_scheme(CASES[case], vocabulary_size=vocabulary_size)
    logits = make_logits(vocabulary_size, BLOCKS * DRAFT_LENGTH)
    probs = [warp(row, SamplingParameters(), dtype=np.float32) for row in logits]
    softmax_us, edge_us, decode_us, sizes, bits = [], [], [], [], []
    for start in range(0, len(probs), DRAFT_LENGTH):
        rows = probs[start : start + DRAFT_LENGTH]
        block = draft(scheme, rows).build(cache_length=0, draft_s=0.0)
        sizes += [len(token.quantized.support_ids) for token in block.tokens]
        bits.append(8 * len(block.payload))
        softmax_s, edge_s, decode_s = _least(
            [
                lambda start=start: softmax(logits[start]),
                lambda rows=rows: draft(scheme, rows).build(cache_length=0, draft_s=0.0),
                lambda block=block: scheme.decode(
                    block.payload, draft_length=DRAFT_LENGTH, coding=block.coding
                ),
            ],
            repetitions,
        )
        softmax_us.append(1e6 * softmax_s)
        edge_us.append(1e6 * edge_s / DRAFT_LENGTH)
        decode_us.append(1e6 * decode_s / DRAFT_LENGTH)
    mean = np.mean
    return Timing(
        vocabulary_size,
        case,
        float(np.median(softmax_us)),
        float(mean(edge_us)),
        float(mean(decode_us)),
        float(mean(sizes)),
        float(sum(bits) / len(probs)),
    )


def _least(calls: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Least seconds of each call over `repetitions` turns."""
    best = [float("inf")] * len(calls)
    for _ in range(repetitions):
        for n, call in enumerate(calls):
            started_s = time.perf_counter()
            call()
            best[n] = min(best[n], time.perf_counter() - started_s)
    return best


def draft_step_us(repetitions: int) -> float:
    """Least microseconds of one cached step of the bundled draft model, on one thread as the edge runs it."""
    set_threads(1)
    sequence = load_language_model(str(demo_pair.draft_path())).open_sequence()
    sequence.extend(range(1, 101), logit_rows=1)

    def step() -> None:
        sequence.extend([5], logit_rows=1)
        sequence.truncate(100)

    return 1e6 * _least([step], 10 * repetitions)[0]


def table(timings: Sequence[Timing], step_us: float) -> str:
    """
    Markdown.

    Args:
        step_us: one step of the bundled draft model, against which the rows with its vocabulary are held.
    """
    lines = [
        "| V | scheme | K⁺ | bits/token | softmax µs | edge µs | cloud µs "
        "| edge/softmax | cloud/softmax | edge/step | cloud/step |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for t in timings:
        own = t.vocabulary_size == BUNDLED_VOCABULARY_SIZE
        shares = [f"{us / step_us:.1%}" if own else "" for us in (t.edge_us, t.decode_us)]
        lines.append(
            f"| {t.vocabulary_size} | {t.case} | {t.support_size:.1f} | {t.payload_bits:.0f} "
            f"| {t.softmax_us:.0f} | {t.edge_us:.0f} | {t.decode_us:.0f} "
            f"| {t.edge_us / t.softmax_us:.2f} | {t.decode_us / t.softmax_us:.2f} "
            f"| {shares[0]} | {shares[1]} |"
        )
    return "\n".join(lines)


def main(repetitions: int = 40) -> None:
    """Print the table."""
    print(
        f"Kernels, µs a drafted token, γ = {DRAFT_LENGTH}, ℓ = 100 where not said; one softmax is float32 "
        f"numpy {np.__version__} over V.\n"
    )
    timings = [measure(v, case, repetitions=repetitions) for v in VOCABULARY_SIZES for case in CASES]
    step_us = draft_step_us(repetitions)
    print(table(timings, step_us))
    print(f"\nOne step of the bundled draft model: {step_us:.0f} µs.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m bench.kernels", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=40, help="turns (default %(default)s)")
    main(parser.parse_args().repetitions)
