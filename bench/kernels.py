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

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.command import options
from bench.markdown import table
from bench.pair import load_pair
from bench.scheme_steps import DRAFT_LENGTH, draft_block
from bench.timing import model_pass, times_s
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import set_threads
from thinwire.common.law.distributions import softmax, warp
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import SchemeParameters, make_scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs

OTHER_VOCABULARY_SIZES = (50257, 151936)
"""Beside the bundled pair's."""
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
HEAD = (
    *("V", "scheme", "K⁺", "bits/token", "softmax µs", "edge µs", "cloud µs"),
    *("edge/softmax", "cloud/softmax", "edge/step", "cloud/step"),
)


def make_logits(vocabulary_size: int, count: int) -> npt.NDArray[np.float32]:
    """(count, V) float32 logits, Zipf-like with ids in random order: peaked and flat laws in turn."""
    generator = np.random.default_rng(vocabulary_size)
    rows = []
    for n in range(count):
        scores = -(1.1 + 0.15 * (n % 4)) * np.log(np.arange(1, vocabulary_size + 1))
        rows.append(generator.permutation(scores + generator.normal(0, 0.5, vocabulary_size)))
    return np.array(rows, dtype=np.float32)


def measure(vocabulary_size: int, step_us: float | None, case: str, repetitions: int) -> list[str]:
    """
    Time one case; the least time of the repetitions counts, block by block.

    Args:
        step_us: one step of a draft model with this vocabulary, to hold the row against; None for none.
        case: key of `CASES`.
        repetitions: turns.

    Returns:
        its row of the table: K⁺ and bits a token, then microseconds a drafted token (of one softmax).
    """
    scheme, draws = make_scheme(CASES[case], vocabulary_size=vocabulary_size), KeyedDraws(1)
    logits = make_logits(vocabulary_size, BLOCKS * DRAFT_LENGTH)
    probs = [warp(row, SamplingParameters(), dtype=np.float32) for row in logits]
    taken_us, sizes, bits = [], [], []
    for start in range(0, len(probs), DRAFT_LENGTH):
        draft = partial(draft_block, scheme, probs[start : start + DRAFT_LENGTH], draws)
        block = draft()
        sizes += [len(token.quantized.support_ids) for token in block.tokens]
        bits.append(8 * len(block.payload))
        decode = partial(scheme.decode, block.payload, draft_length=DRAFT_LENGTH, coding=block.coding)
        calls = [partial(softmax, logits[start]), draft, decode]
        taken_us.append([1e6 * min(times) for times in times_s(calls, repetitions)])
    softmax_us = float(np.median([us for us, _, _ in taken_us]))
    edge_us, cloud_us = (np.mean(taken_us, axis=0) / DRAFT_LENGTH)[1:]
    return [
        *(f"{vocabulary_size}", case, f"{np.mean(sizes):.1f}", f"{sum(bits) / len(probs):.0f}"),
        *(f"{us:.0f}" for us in (softmax_us, edge_us, cloud_us)),
        *(f"{us / softmax_us:.2f}" for us in (edge_us, cloud_us)),
        *(f"{us / step_us:.1%}" if step_us else "" for us in (edge_us, cloud_us)),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    repetitions = options("bench.kernels", __doc__, argv, repetitions=(40, "turns")).repetitions
    resolution = KSqs.Parameters().lattice_resolution
    print(
        f"Kernels, µs a drafted token, γ = {DRAFT_LENGTH}, ℓ = {resolution} where not said; one softmax is "
        f"float32 numpy {np.__version__} over V.\n"
    )
    set_threads(1)  # as the edge runs the draft model
    draft = load_pair()[1]
    sequence = draft.open_sequence()
    sequence.extend(range(1, 101), logit_rows=1)
    step_us = 1e6 * min(times_s([partial(model_pass, sequence, 1)], 10 * repetitions)[0])
    sizes: dict[int, float | None] = {draft.vocabulary_size: step_us, **dict.fromkeys(OTHER_VOCABULARY_SIZES)}
    rows = [measure(*size, case, repetitions) for size in sizes.items() for case in CASES]
    print(table(HEAD, rows, left=2))
    print(f"\nOne step of the bundled draft model: {step_us:.0f} µs.")


if __name__ == "__main__":
    main()
