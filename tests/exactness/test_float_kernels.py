"""The float kernels agree with their rational definitions to 1e-12; the lattice's integers are equal."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rational_oracle as oracle
from thinwire.common.config import SamplingParameters
from thinwire.common.law.distributions import total_variation, warp
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.lattice import quantize
from thinwire.common.law.random_streams import Stream
from thinwire.common.law.speculative import residual_weights, verify_block

TOLERANCE = 1e-12
RESOLUTION_BITS = 64


def random_row(generator: random.Random, size: int, *, zeros: bool = True) -> list[Fraction]:
    """A random law with denominators of up to six digits."""
    weights = [generator.randint(0 if zeros else 1, 10 ** generator.randint(1, 5)) for _ in range(size)]
    weights[generator.randrange(size)] += 1
    return [Fraction(w, sum(weights)) for w in weights]


def random_point(generator: random.Random, size: int) -> QuantizedDistribution:
    """A random lattice law q̂."""
    resolution = generator.choice([1, 2, 7, 100, 4096])
    counts = np.array(oracle.quantized(random_row(generator, size), resolution))
    ids = np.flatnonzero(counts)
    return QuantizedDistribution(ids, counts[ids], resolution)


def law_of(point: QuantizedDistribution, size: int) -> list[Fraction]:
    """q̂ as fractions over the whole vocabulary."""
    law = [Fraction(0)] * size
    for token_id, count in zip(point.support_ids.tolist(), point.lattice_counts.tolist(), strict=True):
        law[token_id] = Fraction(count, point.lattice_resolution)
    return law


def floats(row: oracle.Row) -> npt.NDArray[np.float64]:
    """The nearest float64 row."""
    return np.array([float(p) for p in row])


class GivenDraws:
    """Given accept draws; the weights of the race are kept to look at."""

    def __init__(self, uniforms: list[int]) -> None:
        self.uniforms = list(uniforms)
        self.weights: npt.NDArray[Any] = np.zeros(0)
        self.stream: Stream | None = None

    def accept_integer(self, position: int) -> tuple[int, int]:
        """The next given draw."""
        return self.uniforms[position], 1 << RESOLUTION_BITS

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        """Keeps stream and weights."""
        self.stream, self.weights = stream, weights
        return int(np.argmax(weights)), 1.0


@pytest.mark.parametrize("size", [2, 3, 17, 200])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, Fraction(1)), (2, Fraction(1)), (0, Fraction(7, 8)), (5, Fraction(1, 3))]
)
def test_warping_agrees_with_its_definition(size: int, top_k: int, top_p: Fraction) -> None:
    """Given log p at temperature 1, the warped law is p after top-k and top-p."""
    generator = random.Random(size)
    sampling = SamplingParameters(temperature=1.0, top_k=top_k, top_p=float(top_p))
    for _ in range(40):
        exact = random_row(generator, size)
        expected = oracle.warped(exact, top_k=top_k, top_p=top_p)
        with np.errstate(divide="ignore"):
            actual = warp(np.log(floats(exact)), sampling)

        assert np.abs(actual - floats(expected)).max() <= TOLERANCE


@pytest.mark.parametrize("resolution", [1, 2, 3, 10, 97, 100, 1024, 4096])
def test_the_lattice_gives_the_same_integers(resolution: int) -> None:
    """Away from exact ties, float64 and rational counts are equal."""
    generator = random.Random(resolution)
    compared = 0
    for _ in range(400):
        exact = random_row(generator, generator.randint(1, 40), zeros=False)
        if len(exact) > 1 and oracle.has_half_tie(exact, resolution):
            continue
        compared += 1

        assert quantize(floats(exact), resolution).tolist() == oracle.quantized(exact, resolution)
    assert compared > 100


def test_the_lattice_breaks_ties_towards_the_smaller_position() -> None:
    """On rows of sixteenths, which float64 holds exactly, ties are true ties and fall as documented."""
    generator = random.Random(5)
    ties = 0
    for _ in range(1000):
        weights = [0] * generator.randint(2, 9)
        for _ in range(16):
            weights[generator.randrange(len(weights))] += 1
        exact, resolution = [Fraction(w, 16) for w in weights], generator.randint(1, 24)
        ties += oracle.has_half_tie(exact, resolution)

        assert quantize(floats(exact), resolution).tolist() == oracle.quantized(exact, resolution)
    assert ties > 500


def test_residual_weights_agree_with_their_definition() -> None:
    """(ℓ p - b)₊ is ℓ TV(p, q̂) times the residual law."""
    generator = random.Random(11)
    for _ in range(300):
        size = generator.randint(2, 60)
        exact, point = random_row(generator, size), random_point(generator, size)
        law = law_of(point, size)
        distance = oracle.total_variation(exact, law)
        weights = residual_weights(floats(exact), point) / point.lattice_resolution

        assert abs(float(weights.sum()) - float(distance)) <= TOLERANCE
        assert abs(total_variation(floats(exact), floats(law)) - float(distance)) <= TOLERANCE
        if distance:
            expected = floats([distance * r for r in oracle.residual(exact, law)])
            assert np.abs(weights - expected).max() <= TOLERANCE


def test_the_acceptance_probability_agrees_with_its_definition() -> None:
    """The draw at which a token turns from kept to rejected is p / q̂ to 1e-12."""
    generator = random.Random(13)
    scale = 1 << RESOLUTION_BITS
    for _ in range(200):
        size = generator.randint(2, 30)
        exact, point = random_row(generator, size), random_point(generator, size)
        token = DraftToken(point, generator.randrange(len(point.support_ids)))
        ratio = oracle.acceptance_probability(exact, law_of(point, size), token.token_id)
        for uniform in (ratio - Fraction(TOLERANCE), ratio + Fraction(TOLERANCE)):
            if not 0 <= uniform < 1:
                continue
            rows, draws = [floats(exact)] * 2, GivenDraws([int(uniform * scale)])
            outcome = verify_block(rows, [token], draws, first_position=0)  # type: ignore[arg-type]

            assert (outcome.accepted == 1) == (uniform < ratio)


def test_block_verification_agrees_with_its_definition() -> None:
    """Same draws: the same number of tokens is kept, and the last token's law is the same to 1e-12."""
    generator = random.Random(17)
    kept = set()
    for _ in range(400):
        size, length = generator.randint(2, 30), generator.randint(0, 5)
        exact = [random_row(generator, size) for _ in range(length + 1)]
        points = [random_point(generator, size) for _ in range(length)]
        if (
            length and generator.random() < 0.7
        ):  # make acceptance likely: the first target is the draft law, nearly
            laws = [law_of(point, size) for point in points]
            exact[:-1] = [
                [(31 * q + p) / 32 for p, q in zip(row, law, strict=True)]
                for row, law in zip(exact, laws, strict=False)
            ]
        tokens = [DraftToken(point, generator.randrange(len(point.support_ids))) for point in points]
        uniforms = [generator.getrandbits(RESOLUTION_BITS) for _ in range(length)]
        draws = GivenDraws(uniforms)
        outcome = verify_block([floats(row) for row in exact], tokens, draws, first_position=0)  # type: ignore[arg-type]
        expected = oracle.verified(
            exact,
            [law_of(point, size) for point in points],
            [token.token_id for token in tokens],
            [Fraction(u, 1 << RESOLUTION_BITS) for u in uniforms],
        )
        kept.add(outcome.accepted)

        assert (outcome.accepted, outcome.resampled) == (expected.accepted, expected.resampled)
        assert draws.stream is (Stream.RESIDUAL if expected.resampled else Stream.BONUS)
        scale = Fraction(1)
        if expected.resampled:  # weights come as ℓ (p - q̂)₊, that is ℓ TV times the law
            n, law = outcome.accepted, law_of(points[outcome.accepted], size)
            scale = points[n].lattice_resolution * oracle.total_variation(exact[n], law)
        expected_weights = floats([scale * r for r in expected.next_law])
        assert np.abs(draws.weights - expected_weights).max() <= TOLERANCE * max(1, float(scale))
    assert kept >= {0, 1, 2, 3}
