"""
Coupled: one race a position, run at either end over its own law; a drafted token is kept iff it wins there.

The token at absolute position n wins the race over the target's law with the numbers of the key (seed,
COUPLED, n), whatever was drafted.
So the text is a function of target, prompt, sampling and seed alone: not of the draft model, the length of
the blocks, the link, or what was lost on it. A wrong draft costs speed and nothing else.

The edge's best guess is the winner of the same race over q, and only its id crosses the link.
It is right with probability Σ_i 1 / Σ_j max(p_j / p_i, q_j / q_i), which is at least (1 - TV) / (1 + TV).

Sharing the numbers is legal because acceptance is equality and tests no law: under "accept iff u < p / q" the
same sharing would bias the text (`tests/exactness/test_coupled.py`).

*Reference:* Daliri, Musco, Suresh, arXiv 2408.07978, coupling without communication.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.errors import PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.payload import SymbolReader, encode_symbols
from thinwire.common.law.random_streams import Draws, Stream
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.law.steps import Steps
from thinwire.common.schemes.base import DraftDistribution, Scheme, SchemeState
from thinwire.common.schemes.parameters import SchemeParameters, switch


class Coupled(Scheme):
    """One race a position at both ends; ids only, kept where they are the target's."""

    name = "coupled"
    may_run_free = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(SchemeParameters):
        """How the two ends converse."""

        lock_step: bool = switch(
            short="lock_step", means="rounds, as the other schemes have, instead of a cloud that writes on"
        )

    def __init__(self, parameters: SchemeParameters, *, vocabulary_size: int) -> None:
        super().__init__(parameters, vocabulary_size=vocabulary_size)
        self.runs_free = self.would_run_free(parameters)

    # --- the edge's half ----------------------------------------------------------------------------------

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """Nothing of q is sent; the likeliest id stands for it until the race is run."""
        return DraftDistribution(one_point(int(draft_probs.argmax())), 1, 0.0, False)

    def sample_with_margin(
        self,
        draft_probs: npt.NDArray[Any],
        drafted: DraftDistribution,
        draws: Draws,
        *,
        position: int,
        attempt: int,
    ) -> tuple[DraftToken, float]:
        """The race over q; the same at every attempt, since a position's numbers are."""
        winner, margin = draws.race(Stream.COUPLED, position, draft_probs)
        return DraftToken(one_point(winner), 0), margin

    def acceptance(self, draft_probs: npt.NDArray[Any], token: DraftToken, margin: float) -> float:
        """
        √max q (1 - ½ t₁ / t₂): the draft's sureness, and how far behind the runner-up came in the race.

        Of the estimates tried, the one nearest to what happened (bench/LOG.md).
        """
        return math.sqrt(float(draft_probs.max())) * (1.0 + margin) / 2

    def runner_up(
        self, draft_probs: npt.NDArray[Any], token: DraftToken, draws: Draws, *, position: int
    ) -> int | None:
        """The second of the race over q."""
        others = draft_probs.copy()
        others[token.token_id] = 0
        return draws.race(Stream.COUPLED, position, others)[0] if others.any() else None

    # --- the payload --------------------------------------------------------------------------------------

    def block_bits(self, distributions: Sequence[QuantizedDistribution], *, coding: int) -> float:
        """log2 V a token."""
        return len(distributions) * math.log2(self.vocabulary_size)

    def encode(self, tokens: Sequence[DraftToken], *, coding: int) -> bytes:
        """The ids as digits below V (`proto/README.md`)."""
        return encode_symbols([(token.token_id, 1, self.vocabulary_size) for token in tokens])

    def decoding(self, payload: bytes, *, draft_length: int, coding: int) -> Steps[tuple[DraftToken, ...]]:
        """Inverse of `encode`; see the base class."""
        if coding != 0:
            raise PayloadInvalidError(f"the coding is {coding}; expected 0.")
        reader = SymbolReader(payload)
        tokens = []
        for _ in range(draft_length):
            token_id = yield from reader.digit(self.vocabulary_size)
            tokens.append(DraftToken(one_point(token_id), 0))
        reader.finish()
        return tuple(tokens)

    def decoding_tokens(self, draft_length: int, payload_bytes: int) -> int:
        """0: some microseconds an id."""
        return 0

    def max_payload_bytes(self, draft_length: int) -> int:
        """Bytes of the largest number of so many digits."""
        largest: int = self.vocabulary_size**draft_length - 1
        return (largest.bit_length() + 7) // 8

    # --- the cloud's half ---------------------------------------------------------------------------------

    def verify(
        self,
        target_probs: Sequence[npt.NDArray[Any]],
        tokens: Sequence[DraftToken],
        draws: Draws,
        *,
        first_position: int,
    ) -> BlockOutcome:
        """See `race_along`."""
        guesses = [token.token_id for token in tokens]
        return race_along(target_probs, guesses, draws, first_position=first_position)


def race_along(
    target_probs: Sequence[npt.NDArray[Any]], guesses: Sequence[int], draws: Draws, *, first_position: int
) -> BlockOutcome:
    """
    The target's race, position after position, up to the first whose winner was not guessed.

    Args:
        target_probs: n + 1 rows of (V,), float64 or exact, each sums to 1; fetched in order and only as far
            as needed.
        guesses: n ids.
        draws: the session's randomness.
        first_position: absolute index of the first guess.
    """
    return race_through(target_probs, guesses, (), draws, first_position=first_position)[0]


def race_through(
    target_probs: Sequence[npt.NDArray[Any]],
    guesses: Sequence[int],
    parents: Sequence[int],
    draws: Draws,
    *,
    first_position: int,
) -> tuple[BlockOutcome, tuple[int, ...]]:
    """
    The target's race along a tree of guesses, up to the first whose winner was not guessed.

    Args:
        target_probs: n + 1 rows, as `race_along`'s: 0 before any guess, k behind guess k - 1.
        guesses: n ids.
        parents: the row that each guess is for; below its own. Empty for a chain.
        first_position: absolute index of a guess for row 0.

    Returns:
        the outcome, and the indices of the guesses that were right, in their order.
    """
    children: dict[tuple[int, int], int] = {}
    for index, (guess, parent) in enumerate(zip(guesses, parents or range(len(guesses)), strict=True)):
        children.setdefault((parent, guess), index)
    row, path, closest = 0, list[int](), 1.0
    while True:
        winner, margin = draws.race(Stream.COUPLED, first_position + len(path), target_probs[row])
        closest = min(closest, margin)
        right = children.get((row, winner))
        if right is None:
            was_guessed = row in {parent for parent, _ in children}
            return BlockOutcome(len(path), winner, was_guessed, closest), tuple(path)
        path.append(right)
        row = right + 1


def match_probability(target_probs: npt.NDArray[Any], draft_probs: npt.NDArray[Any]) -> Any:
    """
    P(X = Y) of the winners X and Y of one exponential race over q and over p.

    Args:
        target_probs: p, (V,) float64 or exact, >= 0, sums to 1.
        draft_probs: q, the same.

    Returns:
        Σ_i 1 / Σ_j max(p_j / p_i, q_j / q_i) over the ids that both can draw, in the number type given.

    *Reference:* Daliri, Musco, Suresh, arXiv 2408.07978.
    """
    both = ((target_probs > 0) & (draft_probs > 0)).nonzero()[0]
    return sum(
        1 / np.maximum(target_probs / target_probs[i], draft_probs / draft_probs[i]).sum() for i in both
    )


def one_point(token_id: int) -> QuantizedDistribution:
    """All mass on one id."""
    return QuantizedDistribution(np.array([token_id], dtype=np.int64), _ALL, 1)


_ALL = np.ones(1, dtype=np.int64)
