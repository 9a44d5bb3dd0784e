"""The grid as data, the methods by name, and the arithmetic that estimates and pre-selects."""

from __future__ import annotations

import pytest

from bench.grid.arithmetic import (
    Costs,
    best_first,
    by_arithmetic,
    estimate,
    is_slow,
    round_s,
    token_bits,
    tokens_per_round,
    tokens_to_run,
    tuning_texts,
)
from bench.grid.cells import FULL, SHORT, SMOKE, Cell, grid
from bench.grid.methods import DEFAULT_METHODS, parse_method
from bench.peers.pacing import Pacing
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import scheme_names

METHODS = [parse_method(name) for name in DEFAULT_METHODS]
SLOW, FAST = Cell(32_000, 0.04, 1.0), Cell(20_000_000, 0.04, 1.0)


def test_the_grids_have_every_link_and_temperature_that_is_promised() -> None:
    """5 rates x 3 round trips x 3 temperatures; the cells of a link stand together, down is four times up."""
    assert len(FULL.cells) == len(set(FULL.cells)) == 45
    assert [len(cells) for cells in FULL.links] == [3] * 15
    assert all(cell.link.rate_down_bps == 4 * cell.link.rate_up_bps for cell in FULL.cells)
    assert SHORT.cells == grid((32_000, 512_000, 20_000_000), (0.04,), (0.3, 1.0))


@pytest.mark.parametrize("name", scheme_names())
def test_any_registered_scheme_is_a_method(name: str) -> None:
    """A new scheme needs no change here."""
    method = parse_method(name)

    assert method.scheme(0.3, method.defaults()).scheme == name
    assert round_s(SLOW, method, method.defaults(), Costs()) > 0


@pytest.mark.parametrize("name", ["cloud-stream", "cloud-generate", "cloud-ar"])
def test_a_method_without_a_draft_has_nothing_to_tune(name: str) -> None:
    """The streams and cloud-ar."""
    assert (parse_method(name).axes, parse_method(name).defaults()) == ({}, {})


def test_what_a_name_fixes_is_not_tuned() -> None:
    """K of `k-sqs:K=3` is 3; its lattice resolution and draft length are open, among them a single token."""
    method = parse_method("k-sqs:K=3")

    assert method.fixed == {"support_size": 3}
    assert set(method.axes) == {"draft_length", "lattice_resolution"}
    assert method.scheme(1.0, {"draft_length": 2, "support_size": 3}).support_size == 3
    assert all(1 in one.axes["draft_length"] for one in METHODS if one.drafts_openly)


@pytest.mark.parametrize(
    "name",
    [
        *("telepathy", "k-sqs:K", "k-sqs:K=x", "k-sqs:K=0", "k-sqs:Z=1", "k-sqs:gamma=x"),
        *("cloud-stream:gamma=2", "cloud-assisted:K=2"),
    ],
)
def test_an_unknown_method_or_field_is_refused(name: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        parse_method(name)


def test_a_dense_round_on_the_slowest_link_takes_its_bits_over_the_rate() -> None:
    """One float16 for each of 8192 ids: 131 kbit, 4.1 s at 32 kbit/s."""
    method = parse_method("dense-f16")

    assert token_bits(method, {"draft_length": 1}, 1.0) == 16 * 8192 + 16
    assert 4.1 < round_s(SLOW, method, {"draft_length": 1}, Costs()) < 4.4


def test_a_slow_round_is_run_few_times() -> None:
    """Above the plan's limit: eight rounds' worth of tokens, each 1 + a + a^2, instead of N; elsewhere N."""
    setting = parse_method("dense-f16"), {"draft_length": 2}, FULL, Costs()

    assert tokens_per_round(*setting[:2]) == pytest.approx(1 + 0.65 + 0.65**2)
    assert is_slow(SLOW, *setting)
    assert tokens_to_run(SLOW, *setting) == 17
    assert tokens_to_run(FAST, *setting) == FULL.tokens


def test_the_arithmetic_prefers_short_blocks_where_bits_are_dear() -> None:
    """A dense distribution of one token is enough on 32 kbit/s; cheap drafts go on for longer."""
    dense, sparse = parse_method("dense-f16"), parse_method("k-sqs:K=2")

    assert best_first(SLOW, dense, {}, "draft_length", (1, 2), Costs())[0] == 1
    assert by_arithmetic(FAST, sparse, ("draft_length",), Costs())["draft_length"] >= 4


@pytest.mark.parametrize(
    ("rate_bps", "lengths"),
    [(32_000, [1]), (128_000, [1, 2, 4]), (2_000_000, [1, 2, 4, 6, 8]), (20_000_000, [4, 6, 8, 2, 1])],
)
def test_tuning_tries_every_dense_block_that_is_not_slow(rate_bps: int, lengths: list[int]) -> None:
    """The default length among them: a longer block is what a fast line with a long way asks for."""
    cell, method = Cell(rate_bps, 0.15, 1.0), parse_method("dense-f16")
    tried = [parameters["draft_length"] for parameters in tuning_texts(cell, method, FULL, Costs())]

    assert tried == lengths


def test_the_estimate_counts_every_text() -> None:
    """
    Cells x methods x prompts; pacing makes it longer, fewer methods shorter.

    The plans take about what they promise: smoke a minute, short ten minutes, full hours.
    """
    whole = estimate(SHORT, METHODS, Costs())
    smoke = estimate(SMOKE, [parse_method(name) for name in SMOKE.methods], Costs())

    assert (whole.texts, whole.links) == (6 * 11 * 3, 3)
    assert estimate(SHORT, METHODS, Costs(pacing=Pacing(0.2, 0.0))).seconds > whole.seconds
    assert estimate(SHORT, METHODS[:3], Costs()).seconds < whole.seconds
    assert "198 texts" in str(whole)
    assert smoke.seconds < 60
    assert 360 < whole.seconds < 780
    assert estimate(FULL, METHODS, Costs()).seconds > 3600
