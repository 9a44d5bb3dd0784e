"""The price of a row: found from times of passes, and higher the more sessions wait for it."""

from __future__ import annotations

import random

import pytest

from thinwire.cloud.row_price import LEAST, MOST, RowPrice


def after(passes: list[tuple[int | None, float, int]]) -> float:
    """The price after passes of (tokens fed, seconds, tokens written)."""
    price = RowPrice()
    for rows, seconds, written in passes:
        price.wrote(written)
        price.passed(rows, seconds)
    return price.value


@pytest.mark.parametrize("row_s", [0.0005, 0.002, 0.006])
def test_it_is_the_tokens_that_could_be_written_in_a_rows_time(row_s: float) -> None:
    """One session that writes 2 tokens a pass of 60 ms and 1 to 12 rows, with some noise in the times."""
    chance = random.Random(4)
    rows = [chance.randint(1, 12) for _ in range(200)]
    passes = [(n, 0.06 + row_s * n + chance.gauss(0, 0.0005), 2) for n in rows]
    mean_s = 0.06 + 6.5 * row_s
    assert after(passes) == pytest.approx(row_s * 2 / mean_s, rel=0.35)


def test_a_row_costs_a_crowd_more_than_one_session() -> None:
    """Forty sessions wait for it."""
    chance = random.Random(4)
    alone = [(n, 0.06 + 0.002 * n, 2) for n in (chance.randint(1, 8) for _ in range(100))]
    crowd = [(40 + n, 0.06 + 0.002 * n, 60) for n in (chance.randint(1, 80) for _ in range(100))]
    assert after(crowd) > 4 * after(alone)


def test_passes_with_prompts_make_a_row_no_dearer() -> None:
    """What is written in them counts with their time, and not to the next pass without one."""
    chance = random.Random(4)
    plain = [(n, 0.06 + 0.002 * n, 2) for n in (chance.randint(1, 8) for _ in range(400))]
    mixed = [one if n % 8 == 0 else (None, 0.2, 2) for n, one in enumerate(plain)]
    assert after(mixed) < after(plain)


def test_noise_and_a_constant_count_leave_it_within_bounds() -> None:
    """Times that say nothing, or the contrary, are not believed beyond them."""
    chance = random.Random(1)
    for passes in (
        [(5, 0.06, 3)] * 100,
        [(n, 0.2 - 0.02 * n, 3) for n in (chance.randint(1, 8) for _ in range(100))],
        [(n, 0.0001 + n, 60) for n in (chance.randint(1, 8) for _ in range(100))],
        [(1, 0.0, 1)] * 3,
    ):
        assert LEAST <= after(passes) <= MOST
