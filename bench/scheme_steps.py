"""
The running schemes over a text of the bundled target, step by step: what the paper's statements speak of
(`tests/paper`), and what the defaults of C-SQS are chosen from (`bench.c_sqs_defaults`).

The text is the target's own, sampled once; both models then score it in one pass a sequence.
At every position the shipped pieces run: the builder drafts and codes blocks from q, and the scheme's
`verify` tests each drafted token against p.
The text goes on whatever the test decides, so every position is tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.pair import load_pair
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import LanguageModel
from thinwire.common.law.distributions import total_variation, warp
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Draws, KeyedDraws
from thinwire.common.schemes import SchemeParameters, make_scheme
from thinwire.common.schemes.base import Scheme, SchemeState
from thinwire.common.session.messages import Verdict
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import Decided, Draft, DraftedBlock
from thinwire.edge.meter import Tally, measure

PROMPTS = (
    "import os\n",
    "class Parser:\n",
    "def main():\n",
    '"""A module of tests.\n',
    "from typing import Any\n",
    "    return self.",
    "# This function ",
    "for i in range(",
)
TEXTS_EACH = 4
TOKENS_EACH = 100
DRAFT_LENGTH = 4
TEXT_SEED = 20250
DRAW_SEED = 2510
PLAIN = SamplingParameters()


@dataclass(frozen=True)
class Rows:
    """p and q after every prefix of the text, one array a sequence."""

    target: tuple[npt.NDArray[np.float64], ...]
    """(positions, V) float64 each."""
    draft: tuple[npt.NDArray[np.float32], ...]
    """(positions, V) float32 each."""

    @property
    def steps(self) -> int:
        """Positions in all."""
        return sum(len(rows) for rows in self.target)

    def head(self, texts: int) -> Rows:
        """The first texts alone."""
        return Rows(self.target[:texts], self.draft[:texts])

    def narrowed(self, top_k: int) -> Rows:
        """The rows at the same text under top-k sampling."""
        sampling = SamplingParameters(top_k=top_k)
        with np.errstate(divide="ignore"):
            return Rows(_laws(map(np.log, self.target), sampling), _laws(map(np.log, self.draft), sampling))


def make_rows(
    sampling: SamplingParameters = PLAIN, *, seed: int = TEXT_SEED, texts_each: int = TEXTS_EACH
) -> Rows:
    """
    Sample the text and score it, on one thread: beside other processes torch's threads only wait.

    Args:
        sampling: warps both models' laws; the text is sampled at its temperature.
        seed: of the text.
        texts_each: texts sampled behind each prompt.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        target, draft = load_pair()
        sequences = _sample(target, sampling.temperature, seed, texts_each)
        return Rows(
            _laws((_logits(target, ids) for ids in sequences), sampling, np.float64),
            _laws((_logits(draft, ids) for ids in sequences), sampling, np.float32),
        )
    finally:
        torch.set_num_threads(threads)


def _sample(target: LanguageModel, temperature: float, seed: int, texts_each: int) -> list[list[int]]:
    """Ids of every sequence: prompts of equal length, and `TOKENS_EACH` tokens behind each."""
    prompts = [target.vocabulary.encode(text) for text in PROMPTS * texts_each]
    length = min(map(len, prompts))
    parts, cache = [torch.tensor([prompt[-length:] for prompt in prompts])], None
    torch.manual_seed(seed)
    with torch.inference_mode():
        for _ in range(TOKENS_EACH):
            answer = target.module(input_ids=parts[-1], past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
            logits = answer.logits[:, -1, : target.vocabulary_size].double()
            parts.append(torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1))
    ids: list[list[int]] = torch.cat(parts, dim=1).tolist()
    return ids


def _logits(model: LanguageModel, ids: list[int]) -> npt.NDArray[Any]:
    """(TOKENS_EACH, V) before each token of the text."""
    with closing(model.open_sequence()) as sequence:
        return sequence.extend(ids[:-1], logit_rows=TOKENS_EACH)


def _laws(
    logits: Iterable[npt.NDArray[Any]], sampling: SamplingParameters, dtype: type | None = None
) -> tuple[npt.NDArray[Any], ...]:
    """The laws of each sequence's logits, in `dtype` or else in theirs."""
    return tuple(
        np.array([warp(row, sampling, dtype=dtype or rows.dtype) for row in rows]) for rows in logits
    )


def draft_block(
    scheme: Scheme,
    rows: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    draws: Draws,
    *,
    state: SchemeState | None = None,
    first_position: int = 0,
) -> DraftedBlock:
    """A block with a token from each row of q, whatever the tokens; `state` None is the scheme's first."""
    effect = Draft(
        state=scheme.initial_state() if state is None else state,
        attempt=0,
        first_position=first_position,
        max_draft_length=len(rows),
    )
    builder = DraftBlockBuilder(effect, scheme, draws)
    for row in rows:
        builder.offer(row)
    return builder.build(cache_length=0, draft_s=0.0)


@dataclass(frozen=True)
class Steps:
    """One scheme's run; every array has one entry a step."""

    scheme: Scheme
    blocks: tuple[DraftedBlock, ...]
    statistics: GenerationStatistics
    thresholds: npt.NDArray[np.float64]
    """(steps + 1,) β_1 ... β_{T+1}."""
    dropped_mass: npt.NDArray[np.float64]
    support_size: npt.NDArray[np.int64]
    wire_support_size: npt.NDArray[np.int64]
    cap_binds: npt.NDArray[np.bool_]
    draft_distance: npt.NDArray[np.float64]
    """TV(q, p)."""
    lattice_distance: npt.NDArray[np.float64]
    """TV(p, q̂)."""
    rejected: npt.NDArray[np.bool_]


def run_scheme(
    rows: Rows, parameters: SchemeParameters, *, seed: int = DRAW_SEED, wrong: bool = False
) -> Steps:
    """
    Draft, code and test at every position.

    Args:
        rows: the text.
        parameters: of the scheme.
        seed: of the draws.
        wrong: test against q̂ with its counts turned round (the largest for the smallest), as a control.
    """
    scheme = make_scheme(parameters, vocabulary_size=rows.target[0].shape[1])
    draws, tally, state = KeyedDraws(seed), Tally(GenerationStatistics()), scheme.initial_state()
    thresholds, blocks = [state.threshold], []
    steps: list[tuple[Any, ...]] = []
    for target, draft in zip(rows.target, rows.draft, strict=True):
        for start in range(0, len(draft), DRAFT_LENGTH):
            ps, qs = (rows[start : start + DRAFT_LENGTH] for rows in (target, draft))
            block = draft_block(scheme, qs, draws, state=state, first_position=len(steps))
            for p, q, token, drafted in zip(ps, qs, block.tokens, block.distributions, strict=True):
                tested = _mirrored(token) if wrong else token
                # The row behind the last one only draws a bonus token, which nothing here looks at.
                outcome = scheme.verify([p, p], [tested], draws, first_position=len(steps))
                sizes = drafted.support_size, len(token.quantized.support_ids)
                distances = (
                    total_variation(q.astype(np.float64), p),
                    total_variation(p, _dense(token, len(p))),
                )
                steps.append((drafted.dropped_mass, *sizes, drafted.cap_binds, *distances, outcome.resampled))
            tally.add(measure(Decided(block, Verdict(0, len(block.tokens), 0, 0)), scheme))
            state = block.states[-1]
            thresholds += [after.threshold for after in block.states[1:]]
            blocks.append(block)
    columns = map(np.array, zip(*steps, strict=True))
    return Steps(scheme, tuple(blocks), tally.statistics, np.array(thresholds), *columns)


class Runs:
    """The runs over one text, each made once."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.of = lru_cache(maxsize=None)(lambda parameters: run_scheme(rows, parameters))


def _dense(token: DraftToken, vocabulary_size: int) -> npt.NDArray[np.float64]:
    """q̂ as a (V,) row."""
    quantized, row = token.quantized, np.zeros(vocabulary_size)
    row[quantized.support_ids] = quantized.lattice_counts / quantized.lattice_resolution
    return row


def _mirrored(token: DraftToken) -> DraftToken:
    """The token with its law's counts in reversed order: the least likely point becomes the likeliest."""
    counts = token.quantized.lattice_counts.copy()
    counts[np.argsort(counts, kind="stable")] = np.sort(counts)[::-1]
    return replace(token, quantized=replace(token.quantized, lattice_counts=counts))
