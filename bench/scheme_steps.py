"""
The running schemes over a text of the bundled target, step by step: what the paper's statements speak of
(`tests/paper`), and what the defaults of C-SQS are chosen from (`bench.c_sqs_defaults`).

The text is the target's own, sampled once; both models then score it in one pass a sequence.
At every position the shipped pieces run: the builder drafts and codes blocks from q, and the scheme's
`verify` tests each drafted token against p.
The text goes on whatever the test decides, so every position is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM

from bench.pair import load_pair
from thinwire.common import demo_pair
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import LanguageModel
from thinwire.common.law.distributions import total_variation, warp
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
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

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return int(self.target[0].shape[1])

    def head(self, texts: int) -> Rows:
        """The first texts alone."""
        return Rows(self.target[:texts], self.draft[:texts])

    def narrowed(self, top_k: int) -> Rows:
        """The rows at the same text under top-k sampling."""
        sampling = SamplingParameters(top_k=top_k)
        with np.errstate(divide="ignore"):
            return Rows(
                tuple(np.stack([warp(np.log(row), sampling) for row in rows]) for rows in self.target),
                tuple(
                    np.stack([warp(np.log(row), sampling, dtype=np.float32) for row in rows])
                    for rows in self.draft
                ),
            )


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
        texts = _sample(target, sampling.temperature, seed, texts_each)
        return Rows(
            tuple(_scored(target, prompt, text, sampling, np.float64) for prompt, text in texts),
            tuple(_scored(draft, prompt, text, sampling, np.float32) for prompt, text in texts),
        )
    finally:
        torch.set_num_threads(threads)


def _sample(
    target: LanguageModel, temperature: float, seed: int, texts_each: int
) -> list[tuple[list[int], list[int]]]:
    """(prompt, text) ids of every sequence, sampled behind prompts of equal length."""
    model: Any = AutoModelForCausalLM.from_pretrained(demo_pair.target_path(), dtype=torch.float32)
    model.eval()
    prompts = [target.vocabulary.encode(text) for text in PROMPTS * texts_each]
    length = min(len(prompt) for prompt in prompts)
    prompts = [prompt[-length:] for prompt in prompts]
    torch.manual_seed(seed)
    with torch.inference_mode():
        ids, cache, texts = torch.tensor(prompts), None, []
        for _ in range(TOKENS_EACH):
            answer = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
            logits = answer.logits[:, -1, : target.vocabulary_size].double()
            probs = torch.softmax(logits / temperature, dim=-1)
            ids = torch.multinomial(probs, 1)
            texts.append(ids)
    sampled = torch.cat(texts, dim=1).tolist()
    return list(zip(prompts, sampled, strict=True))


def _scored(
    model: LanguageModel, prompt: list[int], text: list[int], sampling: SamplingParameters, dtype: type
) -> npt.NDArray[Any]:
    """(len(text), V): the law of each token of the text."""
    sequence = model.open_sequence()
    logits = sequence.extend([*prompt, *text[:-1]], logit_rows=len(text))
    sequence.close()
    return np.stack([warp(row, sampling, dtype=dtype) for row in logits])


def block_builder(
    scheme: Scheme,
    draws: Draws,
    *,
    length: int,
    state: SchemeState | None = None,
    first_position: int = 0,
    attempt: int = 0,
) -> DraftBlockBuilder:
    """A block of `length` tokens in the making, whatever the tokens; `state` None is the scheme's first."""
    effect = Draft(
        state=scheme.initial_state() if state is None else state,
        attempt=attempt,
        first_position=first_position,
        max_draft_length=length,
    )
    return DraftBlockBuilder(effect, scheme, draws)


def draft_block(
    scheme: Scheme,
    rows: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    draws: Draws,
    *,
    state: SchemeState | None = None,
    first_position: int = 0,
) -> DraftedBlock:
    """A block with a token from each row of q."""
    builder = block_builder(scheme, draws, length=len(rows), state=state, first_position=first_position)
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
    scheme = make_scheme(parameters, vocabulary_size=rows.vocabulary_size)
    draws, tally, state = KeyedDraws(seed), Tally(GenerationStatistics()), scheme.initial_state()
    thresholds, blocks, rejected, draft_distance, lattice_distance = [state.threshold], [], [], [], []
    position = 0
    for target, draft in zip(rows.target, rows.draft, strict=True):
        for start in range(0, len(draft), DRAFT_LENGTH):
            length = min(DRAFT_LENGTH, len(draft) - start)
            block = draft_block(
                scheme, draft[start : start + length], draws, state=state, first_position=position
            )
            for n, token in enumerate(block.tokens, start):
                p, q_hat = target[n], _dense(token.quantized, rows.vocabulary_size)
                tested = _mirrored(token) if wrong else token
                # The row behind the last one only draws a bonus token, which nothing here looks at.
                outcome = scheme.verify([p, p], [tested], draws, first_position=position)
                rejected.append(outcome.resampled)
                draft_distance.append(total_variation(draft[n].astype(np.float64), p))
                lattice_distance.append(total_variation(p, q_hat))
                position += 1
            tally.add(measure(Decided(block, Verdict(0, length, 0, 0)), scheme))
            state = block.states[-1]
            thresholds += [s.threshold for s in block.states[1:]]
            blocks.append(block)
    drafted = [d for block in blocks for d in block.distributions]
    return Steps(
        scheme=scheme,
        blocks=tuple(blocks),
        statistics=tally.statistics,
        thresholds=np.array(thresholds),
        dropped_mass=np.array([d.dropped_mass for d in drafted]),
        support_size=np.array([d.support_size for d in drafted]),
        wire_support_size=np.array([len(d.quantized.support_ids) for d in drafted]),
        cap_binds=np.array([d.cap_binds for d in drafted]),
        draft_distance=np.array(draft_distance),
        lattice_distance=np.array(lattice_distance),
        rejected=np.array(rejected),
    )


class Runs:
    """The runs over one text, each made once."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.of = lru_cache(maxsize=None)(lambda parameters: run_scheme(rows, parameters))


def _dense(quantized: QuantizedDistribution, vocabulary_size: int) -> npt.NDArray[np.float64]:
    """q̂ as a (V,) row."""
    row = np.zeros(vocabulary_size)
    row[quantized.support_ids] = quantized.lattice_counts / quantized.lattice_resolution
    return row


def _mirrored(token: DraftToken) -> DraftToken:
    """The token with its law's counts in reversed order: the least likely point becomes the likeliest."""
    quantized = token.quantized
    counts, order = quantized.lattice_counts.copy(), np.argsort(quantized.lattice_counts, kind="stable")
    counts[order] = quantized.lattice_counts[order[::-1]]
    mirrored = QuantizedDistribution(quantized.support_ids, counts, quantized.lattice_resolution)
    return DraftToken(mirrored, token.token_index)
