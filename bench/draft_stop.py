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

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench import markdown
from bench.pair import load_pair, read_prompts
from bench.scheme_steps import block_builder
from bench.timing import times_s
from thinwire.common.causal_model import CachedSequence
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import set_threads
from thinwire.common.law.distributions import warp
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme, parse_scheme
from thinwire.common.schemes.base import Scheme

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
_TIMED_PASSES = 40


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the longest γ, one value a drafted token."""

    estimates: tuple[float, ...]
    """Of the acceptance up to the token."""
    chances: tuple[float, ...]
    """Π min(1, p(xₙ) / q̂(xₙ)) up to the token."""


@dataclass(frozen=True, slots=True)
class PassTimes:
    """Milliseconds of a core that the two models' passes take on this machine."""

    draft_ms: float
    target_ms: tuple[float, ...]
    """Of 1, 2, ... rows."""

    def round_ms(self, tokens: int, overhead_ms: float) -> float:
        """A round with so many drafted tokens."""
        return overhead_ms + tokens * self.draft_ms + self.target_ms[tokens]


class Pair:
    """The bundled models in this process, one thread each in turn."""

    def __init__(self) -> None:
        set_threads(1)
        self.target, self.draft = load_pair()

    def times(self) -> PassTimes:
        """Medians over `_TIMED_PASSES` passes after 128 tokens of text, the row counts in turn."""
        with closing(self.draft.open_sequence()) as draft, closing(self.target.open_sequence()) as target:
            for sequence in (draft, target):
                sequence.extend(list(range(256, 384)), logit_rows=1)
            passes = [(draft, 1), *((target, rows) for rows in range(1, LONGEST + 2))]
            calls = [partial(_pass, sequence, rows) for sequence, rows in passes]
            # One thread does it all, and what else the machine does should not count.
            spent = times_s(calls, _TIMED_PASSES, clock=time.thread_time)
        draft_ms, *target_ms = (1e3 * statistics.median(times) for times in spent)
        return PassTimes(draft_ms, tuple(target_ms))

    def play(
        self, scheme_text: str, temperature: float, prompts: Sequence[str], *, tokens: int
    ) -> list[Round]:
        """Rounds of one scheme, `tokens` tokens a text; a prompt's number is its seed."""
        parameters = parse_scheme(scheme_text, temperature)
        scheme = make_scheme(parameters, vocabulary_size=self.target.vocabulary_size)
        sampling = SamplingParameters(temperature=temperature)
        return [
            played
            for seed, prompt in enumerate(prompts)
            for played in self._text(scheme, sampling, prompt, KeyedDraws(seed), tokens)
        ]

    def _text(
        self, scheme: Scheme, sampling: SamplingParameters, prompt: str, draws: KeyedDraws, tokens: int
    ) -> Iterator[Round]:
        """The rounds of one text: draft, verify, commit."""
        committed, state = list(self.target.vocabulary.encode(prompt)), scheme.initial_state()
        end, attempt = len(committed) + tokens, 0
        with closing(self.draft.open_sequence()) as draft, closing(self.target.open_sequence()) as target:
            while (position := len(committed)) < end:
                attempt += 1
                builder = block_builder(
                    scheme, draws, length=LONGEST, state=state, first_position=position, attempt=attempt
                )
                feed, estimates = committed[draft.length :], []
                while not builder.complete:
                    logits = draft.extend(feed, logit_rows=1)[0]
                    token_id = builder.offer(warp(logits, sampling, dtype=np.float32))
                    assert token_id is not None, "a block without a budget ends at its length"
                    estimates.append(builder.acceptance)
                    feed = [token_id]
                block = builder.build(cache_length=draft.length, draft_s=0.0)
                ids = [token.token_id for token in block.tokens]
                logits = target.extend(committed[target.length :] + ids, logit_rows=len(ids) + 1)
                rows = [warp(row, sampling) for row in logits]
                outcome = scheme.verify(rows, block.tokens, draws, first_position=position)
                committed += [*ids[: outcome.accepted], outcome.next_token_id]
                for sequence in (draft, target):
                    sequence.truncate(min(sequence.length, position + outcome.accepted))
                state = scheme.state_after_verdict(block.states, outcome.accepted)
                chances = np.cumprod(list(map(_chance, rows, block.tokens)))
                yield Round(tuple(estimates), tuple(chances.tolist()))


def _chance(target_probs: Any, token: DraftToken) -> float:
    """min(1, p(x) / q̂(x))."""
    quantized = token.quantized
    q_hat = int(quantized.lattice_counts[token.token_index]) / quantized.lattice_resolution
    return min(1.0, float(target_probs[token.token_id]) / q_hat)


def _pass(sequence: CachedSequence, rows: int) -> None:
    """One cached pass of `rows` tokens, taken back."""
    length = sequence.length
    sequence.extend(list(range(300, 300 + rows)), logit_rows=rows)
    sequence.truncate(length)


def drafted(played: Round, longest: int, least: float = 0.0) -> int:
    """
    Tokens of the round's block under `--draft-length` and `--min-block-acceptance`.

    It ends with the token at which the estimate falls below `least`; 0 is never.
    """
    unlikely = (n for n, estimate in enumerate(played.estimates[:longest], 1) if estimate < least)
    return next(unlikely, min(longest, len(played.estimates)))


def rate(
    rounds: Sequence[Round], times: PassTimes, overhead_ms: float, longest: int, least: float = 0.0
) -> float:
    """Tokens a millisecond under a stop rule (`drafted`)."""
    tokens = spent_ms = 0.0
    for played in rounds:
        length = drafted(played, longest, least)
        tokens += 1 + math.fsum(played.chances[:length])
        spent_ms += times.round_ms(length, overhead_ms)
    return tokens / spent_ms


def table(rounds: dict[tuple[str, float], list[Round]], times: PassTimes, overhead_ms: float) -> str:
    """Every rule against γ = `REFERENCE`, in percent; Markdown."""
    rules = [(f"γ = {length}", length, 0.0) for length in range(1, LONGEST + 1)]
    rules += [
        (f"≤ {longest}, {least:g}", longest, least) for longest in (REFERENCE, LONGEST) for least in LEAST
    ]
    rows = []
    for name, longest, least in rules:
        gains = (
            rate(played, times, overhead_ms, longest, least) / rate(played, times, overhead_ms, REFERENCE) - 1
            for played in rounds.values()
        )
        rows.append([name, *(f"{100 * gain:+.0f}" for gain in gains)])
    head = ["block", *(f"{name}, T {temperature:g}" for name, temperature in rounds)]
    words = f"Overhead {overhead_ms:g} ms a round; tokens/s against γ = {REFERENCE}, in percent:"
    return f"{words}\n\n{markdown.table(head, rows, left=1)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m bench.draft_stop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=16, metavar="N", help="texts (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=96, help="tokens a text (default %(default)s)")
    arguments = parser.parse_args(argv)
    prompts = read_prompts()[-arguments.prompts :]
    pair = Pair()
    times = pair.times()
    rounds: dict[tuple[str, float], list[Round]] = {}
    for temperature in TEMPERATURES:
        for name, fields in SCHEMES.items():
            print(f"temperature {temperature:g}, {name}", file=sys.stderr, flush=True)
            rounds[name, temperature] = pair.play(fields, temperature, prompts, tokens=arguments.tokens)
    print(
        f"{arguments.prompts} prompts of {arguments.tokens} tokens; a draft pass {times.draft_ms:.2f} ms, a "
        f"target pass {', '.join(f'{ms:.1f}' for ms in times.target_ms)} ms (1 to {LONGEST + 1} rows)."
    )
    for overhead_ms in OVERHEADS_MS:
        print("\n" + table(rounds, times, overhead_ms), flush=True)


if __name__ == "__main__":
    main()
