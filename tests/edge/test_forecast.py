"""The closed forms of `edge.forecast`: by hand, at their limits, against chance, against measurements."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from thinwire.edge.forecast import Times, free_run, reach, rounds

TIMES = Times(pass_s=0.06, round_trip_s=0.04, draft_token_s=0.003)
MEASURED = [
    (0.3, 0.005, 2.14),
    (0.3, 0.040, 2.01),
    (0.3, 0.150, 1.55),
    (1.0, 0.005, 1.55),
    (1.0, 0.040, 1.35),
    (1.0, 0.150, 1.11),
]
"""
Temperature, round trip, tokens/s over the plain stream's: texts of 64 tokens, passes of 60 ms and 2 ms a row
(bench/LOG.md).
"""
FIRST_TOKEN_S = 0.25
MATCH = {0.3: 0.836, 1.0: 0.625}


def test_rounds_by_hand() -> None:
    """1 + ½ + ¼ tokens in 2 × 3 + 40 + 60 ms; a block of none is a round trip and a pass a token."""
    two = rounds(TIMES, 0.5, 2)

    assert two.tokens_per_pass == pytest.approx(1.75)
    assert two.tokens_per_s == pytest.approx(1.75 / 0.106)
    assert rounds(TIMES, 0.0, 0).tokens_per_s == pytest.approx(10)


def test_a_cycle_of_a_free_running_target_by_hand() -> None:
    """
    Match ½, blocks of 2, due after 46 of 60 ms: too long to wait, so one token alone and till it is right.

    1 / ½ - 1 = 1, over ½: 2 tokens without help, then 2 tokens in 1 / (1 - ½³) passes.
    """
    forecast = free_run(TIMES, 0.5, 2, saves_passes=False)
    passes = 2 + 8 / 7

    assert forecast.tokens_per_pass == pytest.approx(4 / passes)
    assert forecast.tokens_per_s == pytest.approx(4 / passes / 0.06)


def test_a_target_that_saves_passes_waits_for_every_guess() -> None:
    """The same with a wait of 46 ms a cycle and nothing written without help."""
    forecast = free_run(TIMES, 0.5, 2, saves_passes=True)

    assert forecast.tokens_per_pass == pytest.approx(2 * 7 / 8)
    assert forecast.tokens_per_s == pytest.approx(2 / (8 / 7 * 0.06 + 0.046))


@pytest.mark.parametrize("round_trip_s", [0.001, 0.05, 0.5, 30.0])
@pytest.mark.parametrize("match_rate", [0.0, 0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("block", [0, 1, 6])
def test_a_free_running_target_is_never_below_its_plain_stream(
    match_rate: float, round_trip_s: float, block: int
) -> None:
    """Whatever the link; and no number is lost at the limits."""
    times = Times(0.06, round_trip_s, 0.003)
    forecast = free_run(times, match_rate, block, saves_passes=False)

    assert forecast.tokens_per_s >= 1 / 0.06 * (1 - 1e-9)
    assert forecast.tokens_per_pass * (1 + 1e-9) >= 1
    assert free_run(times, match_rate, block, saves_passes=True).tokens_per_pass >= 1 - 1e-9


def test_more_matches_are_never_slower() -> None:
    """Nor is a shorter round trip."""
    rates = [n / 50 for n in range(51)]
    for way in (
        [rounds(TIMES, rate, 6).tokens_per_s for rate in rates],
        [free_run(TIMES, rate, 6, saves_passes=False).tokens_per_s for rate in rates],
        [
            free_run(Times(0.06, 0.2 - rate / 10, 0.003), 0.8, 6, saves_passes=True).tokens_per_s
            for rate in rates
        ],
    ):
        assert all(later >= earlier * 0.999 for earlier, later in pairwise(way))


@pytest.mark.parametrize(
    ("rate", "longest", "length"), [(0.0, 6, 1), (0.5, 6, 3), (0.9, 6, 6), (1.0, 9, 9), (0.5, 0, 0)]
)
def test_a_block_reaches_to_where_it_is_unlikely(rate: float, longest: int, length: int) -> None:
    """0.5³ is the first below 0.2."""
    assert reach(rate, longest) == length


def test_the_form_is_the_mean_of_its_own_story() -> None:
    """
    Cycles played by chance: n right ones in a row without help, then k + 1 a pass until one is wrong.

    200 000 passes, seed 1: the mean is within 1 % (seven standard errors).
    """
    chance, rate, block = random.Random(1), 0.7, 4
    times = Times(pass_s=0.06, round_trip_s=0.1, draft_token_s=0.003)  # due after 1.87 passes
    tokens = passes = in_a_row = 0
    while passes < 200_000:
        passes += 1
        if in_a_row < 2:
            tokens += 1
            in_a_row = in_a_row + 1 if chance.random() < rate else 0
            continue
        right = 0
        while right <= block and chance.random() < rate:
            right += 1
        tokens += min(right, block) + 1
        in_a_row = 2 if right > block else 0

    assert free_run(times, rate, block, saves_passes=False).tokens_per_pass == pytest.approx(
        tokens / passes, rel=0.01
    )


@pytest.mark.parametrize(("temperature", "round_trip_s", "ratio"), MEASURED)
def test_the_form_is_near_what_was_measured(temperature: float, round_trip_s: float, ratio: float) -> None:
    """Speed over the plain stream within 30 %, five of six within 12 %; rows are charged at 2 ms each."""
    rate = MATCH[temperature]
    block = reach(rate, 6)
    times = Times(0.062 + 0.002 * block, round_trip_s, 0.003)
    token_s = 1 / free_run(times, rate, block, saves_passes=False).tokens_per_s
    predicted = (FIRST_TOKEN_S + 63 * 0.062) / (FIRST_TOKEN_S + 63 * token_s)

    assert predicted == pytest.approx(ratio, rel=0.3 if ratio > 2.1 else 0.12)
