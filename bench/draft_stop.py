"""
What it is worth to end a block where its acceptance is unlikely: chooses `--min-block-acceptance`.

    python -m bench.draft_stop

Rounds of the bundled pair are played in this process with the longest γ: drafted, quantised, verified and
committed by the shipped pieces, over prompts that nothing was trained on.
Of every round stay two curves, one value a drafted token: the edge's estimate of the block's acceptance so
far, which is what `--min-block-acceptance` looks at, and the chance that the target really takes it so far,
Π min(1, p(xₙ) / q̂(xₙ)).
Any stop rule can then be tried on the same rounds: its tokens a round are 1 plus the second curve's sum up
to where it stops, and a round costs

    overhead + tokens · draft pass + target pass (tokens + 1 rows)

with both passes timed here and the overhead (what is neither model: link, messages, waiting) given.
Printed are tokens/s relative to a fixed γ = 4.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench import markdown
from bench.command import options
from bench.pair import load_pair, read_prompts
from bench.timing import model_pass, times_s
from thinwire.common.causal_model import CausalModel
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import LanguageModel, set_threads
from thinwire.common.law.distributions import warp
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme, parse_scheme
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import Draft

LONGEST = 6
"""γ of the rounds played."""
REFERENCE = 4
TEMPERATURES = (1.0, 0.3)
SCHEMES = {
    "k-sqs": "k-sqs",
    "k-sqs K=64 ℓ=720": "k-sqs:K=64,ell=720",
    "c-sqs": "c-sqs",
    "dense-qs": "dense-qs",
    "dense-f16": "dense-f16",
}
OVERHEADS_MS = (1.6, 45.0, 150.0)
"""Loopback as `bench.core` finds it, and links of 40 and 145 ms round trip."""
LEAST = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85)
RULES = {
    **{f"γ = {length}": (length, 0.0) for length in range(1, LONGEST + 1)},
    **{
        f"≤ {longest}, {least:g}": (longest, least) for longest, least in product((REFERENCE, LONGEST), LEAST)
    },
}
"""`--draft-length` and `--min-block-acceptance` by name; 0 never ends a block."""
TIMED_PASSES = 40
Rounds = npt.NDArray[np.float64]
"""(2, rounds, γ): estimates of the acceptance up to each token, and Π min(1, p(xₙ) / q̂(xₙ)) up to it."""


class PassTimes(NamedTuple):
    """Milliseconds of a core that the two models' passes take on this machine."""

    draft_ms: float
    target_ms: npt.NDArray[np.float64]
    """Of 1, 2, ... rows."""


def pass_times(target: CausalModel, draft: CausalModel) -> PassTimes:
    """Medians over `TIMED_PASSES` passes after 128 tokens of text, the row counts in turn."""
    with closing(draft.open_sequence()) as drafting, closing(target.open_sequence()) as scoring:
        for sequence in (drafting, scoring):
            sequence.extend(range(256, 384), logit_rows=1)
        calls = [partial(model_pass, scoring, rows) for rows in range(1, LONGEST + 2)]
        # One thread does it all, and what else the machine does should not count.
        spent = times_s([partial(model_pass, drafting, 1), *calls], TIMED_PASSES, clock=time.thread_time)
    draft_ms, *target_ms = (1e3 * statistics.median(times) for times in spent)
    return PassTimes(draft_ms, np.array(target_ms))


def play(
    target: LanguageModel,
    draft: LanguageModel,
    scheme_text: str,
    temperature: float,
    prompt: str,
    *,
    seed: int,
    tokens: int,
) -> Iterator[tuple[list[float], list[float]]]:
    """The two curves of every round of one text of at least `tokens` tokens: draft, verify, commit."""
    scheme = make_scheme(parse_scheme(scheme_text, temperature), vocabulary_size=target.vocabulary_size)
    sampling, draws, state = (
        SamplingParameters(temperature=temperature),
        KeyedDraws(seed),
        scheme.initial_state(),
    )
    committed, attempt = list(target.vocabulary.encode(prompt)), 0
    end = len(committed) + tokens
    with closing(draft.open_sequence()) as drafting, closing(target.open_sequence()) as scoring:
        while (position := len(committed)) < end:
            attempt += 1
            effect = Draft(attempt=attempt, first_position=position, max_draft_length=LONGEST, state=state)
            builder = DraftBlockBuilder(effect, scheme, draws)
            feed, estimates = committed[drafting.length :], []
            while not builder.complete:
                logits = drafting.extend(feed, logit_rows=1)[0]
                token_id = builder.offer(warp(logits, sampling, dtype=np.float32))
                assert token_id is not None, "a block without a budget ends at its length"
                estimates.append(builder.acceptance)
                feed = [token_id]
            block = builder.build(cache_length=drafting.length, draft_s=0.0)
            ids = [token.token_id for token in block.tokens]
            logits = scoring.extend(committed[scoring.length :] + ids, logit_rows=len(ids) + 1)
            rows = [warp(row, sampling) for row in logits]
            outcome = scheme.verify(rows, block.tokens, draws, first_position=position)
            committed += [*ids[: outcome.accepted], outcome.next_token_id]
            for sequence in (drafting, scoring):
                sequence.truncate(min(sequence.length, position + outcome.accepted))
            state = scheme.state_after_verdict(block.states, outcome.accepted)
            yield estimates, np.cumprod(list(map(_chance, rows, block.tokens))).tolist()


def _chance(target_probs: Any, token: DraftToken) -> float:
    """min(1, p(x) / q̂(x))."""
    quantized = token.quantized
    q_hat = int(quantized.lattice_counts[token.token_index]) / quantized.lattice_resolution
    return min(1.0, float(target_probs[token.token_id]) / q_hat)


def drafted(estimates: npt.NDArray[np.float64], longest: int, least: float = 0.0) -> npt.NDArray[np.int64]:
    """Tokens of each round's block, which ends with the first whose estimate (they fall) is below `least`."""
    return np.minimum(longest, 1 + (estimates >= least).sum(axis=1))


def rate(rounds: Rounds, times: PassTimes, overhead_ms: float, longest: int, least: float = 0.0) -> float:
    """Tokens a millisecond under a stop rule (`drafted`)."""
    estimates, chances = rounds
    lengths = drafted(estimates, longest, least)
    tokens = len(lengths) + chances[np.arange(chances.shape[1]) < lengths[:, None]].sum()
    return float(tokens / (overhead_ms + lengths * times.draft_ms + times.target_ms[lengths]).sum())


def table(rounds: dict[str, Rounds], times: PassTimes, overhead_ms: float) -> str:
    """Every rule against γ = `REFERENCE`, in percent; Markdown."""
    rows = []
    for name, rule in RULES.items():
        gains = (
            rate(played, times, overhead_ms, *rule) / rate(played, times, overhead_ms, REFERENCE) - 1
            for played in rounds.values()
        )
        rows.append([name, *(f"{100 * gain:+.0f}" for gain in gains)])
    words = f"Overhead {overhead_ms:g} ms a round; tokens/s against γ = {REFERENCE}, in percent:"
    return f"{words}\n\n{markdown.table(['block', *rounds], rows, left=1)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    known = {"prompts": (16, "texts"), "tokens": (96, "tokens a text")}
    arguments = options("bench.draft_stop", __doc__, argv, **known)
    prompts = read_prompts()[-arguments.prompts :]
    set_threads(1)
    pair = load_pair()
    times = pass_times(*pair)
    rounds: dict[str, Rounds] = {}
    for temperature, (name, scheme) in product(TEMPERATURES, SCHEMES.items()):
        print(f"temperature {temperature:g}, {name}", file=sys.stderr, flush=True)
        played: list[Any] = []
        for seed, prompt in enumerate(prompts):
            played += play(*pair, scheme, temperature, prompt, seed=seed, tokens=arguments.tokens)
        rounds[f"{name}, T {temperature:g}"] = np.array(played).swapaxes(0, 1)
    print(
        f"{arguments.prompts} prompts of {arguments.tokens} tokens; a draft pass {times.draft_ms:.2f} ms, a "
        f"target pass {', '.join(f'{ms:.1f}' for ms in times.target_ms)} ms (1 to {LONGEST + 1} rows)."
    )
    for overhead_ms in OVERHEADS_MS:
        print("\n" + table(rounds, times, overhead_ms), flush=True)


if __name__ == "__main__":
    main()
