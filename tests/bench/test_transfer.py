"""Tuning by transfer: what trials on one link say of another, and which the plan runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.grid.arithmetic import Costs, estimate
from bench.grid.cells import FULL, HOUR, Cell
from bench.grid.methods import parse_method
from bench.grid.records import TUNING
from bench.grid.transfer import Choice, Transfer, Trial, trials
from tests.bench.bench_data import make_record
from thinwire.common.errors import ConfigError

HOME = Cell(20_000_000, 0.005, 1.0)
FAST, FAR, SLOW = Cell(20_000_000, 0.0, 1.0), Cell(20_000_000, 0.15, 1.0), Cell(1_000, 0.0, 1.0)
K_SQS = parse_method("k-sqs:K=8")
DRAFT_S, ROW_S, PASS_S, OTHER_S = 0.002, 0.001, 0.010, 0.003
UP, DOWN = 20, 30
"""Bytes of a round's messages besides the payload."""


def block(length: int, accepted: int, bits: int) -> dict[str, Any]:
    """A round on the tuning link whose times are those above."""
    up, down = UP + bits * length // 8, DOWN
    cloud_s = PASS_S + ROW_S * (length + 1)
    lines_s = HOME.rtt_s + 8 * (up + 106) / HOME.rate_up_bps + 8 * (down + 106) / HOME.rate_down_bps
    return {
        "draft_length": length,
        "accepted": accepted,
        "uplink_payload_bits": bits * length,
        "uplink_message_bytes": up,
        "downlink_message_bytes": down,
        "draft_s": length * DRAFT_S,
        "round_trip_s": cloud_s + lines_s + OTHER_S,
        "queue_s": 0.0,
        "verify_s": cloud_s,
    }


def trial(accepted: Sequence[int], bits: int = 80, *, length: int = 8, **parameters: Any) -> Trial:
    """One text; its first round, and the edge's own time, are as long as nothing."""
    rounds, at_s = [], 0.0
    for count in (0, *accepted):
        line = block(length, min(count, length), bits)
        at_s += line["draft_s"] + line["round_trip_s"]
        rounds.append({**line, "arrival_s": at_s})
    record = make_record(rate_up_bps=HOME.rate_up_bps, rtt_s=HOME.rtt_s, purpose=TUNING)
    return Trial({**K_SQS.defaults(), "draft_length": length, **parameters}, ((record, rounds),))


def best(
    cell: Cell, lengths: Sequence[int], accepted: Sequence[int], bits: int = 80, *rivals: Trial
) -> Choice:
    """What is chosen after trials of blocks of 8 and of 1, and some others."""
    done = [trial(accepted, bits), trial(accepted, bits, length=1), *rivals]
    choice = Transfer(K_SQS, done, lengths).best(cell)
    assert choice is not None
    return choice


def test_a_prediction_is_the_sum_of_what_a_round_takes() -> None:
    """γ = 4 from blocks of 8: drafts, pass, both stacks, both lines, over the tokens of the cut blocks."""
    cell = Cell(32_000, 0.15, 1.0)

    choice = best(cell, (4,), [8, 2, 0, 4])

    tokens = 1 + (4 + 2 + 0 + 4) / 4
    lines_s = 8 * (UP + 106 + 4 * 10) / 32_000 + 8 * (DOWN + 106) / 128_000
    seconds = (4 * DRAFT_S + PASS_S + 5 * ROW_S + OTHER_S + cell.rtt_s + lines_s) / tokens
    assert choice == ({**K_SQS.defaults(), "draft_length": 4}, pytest.approx(seconds, rel=1e-6))


@pytest.mark.parametrize(
    ("cell", "accepted", "bits", "length"),
    [
        # Where a token's bits take a second, a block of one; over 150 ms a long one.
        (SLOW, [8, 3, 2, 1, 0, 0], 2_000, 1),
        (FAR, [8, 3, 2, 1, 0, 0], 2_000, 8),
        # No round longer than the line's queue: tokens of 16 386 bytes, six in 128 KiB, two in 64, one in 32.
        (Cell(20_000_000, 10.0, 1.0), [8, 8], 8 * 16_386, 6),
        (Cell(2_000_000, 10.0, 1.0), [8, 8], 8 * 16_386, 2),
        (Cell(32_000, 10.0, 1.0), [8, 8], 8 * 16_386, 1),
    ],
)
def test_the_length_follows_the_link(cell: Cell, accepted: list[int], bits: int, length: int) -> None:
    """The same trials say another length for another cell."""
    assert best(cell, (1, 2, 4, 6, 8), accepted, bits).parameters["draft_length"] == length


@pytest.mark.parametrize(("bits", "ell"), [(79, 100), (10, 25)])
def test_a_parameter_leaves_its_default_only_for_a_clear_gain(bits: int, ell: int) -> None:
    """A hair is chance; an eighth of the bits on a thin link is not."""
    choice = best(SLOW, (1, 2, 4, 8), [4, 4], 80, trial([4, 4], bits, lattice_resolution=25))

    assert choice.parameters.get("lattice_resolution", 100) == ell


def test_the_seconds_of_a_setting_are_those_of_the_defaults() -> None:
    """A machine that was busy during one trial does not decide what is chosen."""
    rival = trial([4, 4], lattice_resolution=25)
    for line in rival.texts[0][1]:
        line["verify_s"] /= 100  # type: ignore[index]

    assert "lattice_resolution" not in best(FAST, (1, 2, 4, 8), [4, 4], 80, rival).parameters


def test_a_length_that_the_name_says_is_kept() -> None:
    """The other settings are chosen all the same."""
    method = parse_method("k-sqs:K=8,gamma=8")
    choice = Transfer(method, [trial([8, 8], length=8)], ()).best(FAST)

    assert choice is not None
    assert choice[0]["draft_length"] == 8


def test_a_streams_fastest_length_is_taken_everywhere() -> None:
    """Its seconds are those of whole texts on the tuning link; nothing is predicted."""
    done = [
        Trial({"draft_length": length}, ((make_record(last_token_s=seconds, is_peer=True), []),))
        for length, seconds in ((1, 3.0), (4, 2.0), (0, 2.5))
    ]

    assert Transfer(parse_method("cloud-assisted"), done, (1, 4, 0)).best(SLOW) == ({"draft_length": 4}, None)


@pytest.mark.parametrize("done", [[], [trial([])]])
def test_without_a_whole_block_nothing_is_chosen(done: list[Trial]) -> None:
    """Every trial failed, or all blocks were cut short."""
    assert Transfer(K_SQS, done, (1, 2)).best(FAST) is None


def test_trials_begin_with_the_defaults_and_change_one_thing_at_a_time() -> None:
    """The longest draft length and 1, then ℓ and β by themselves; streams try every length."""
    c_sqs = trials(parse_method("c-sqs"), HOUR)

    assert c_sqs[:2] == [{"draft_length": 8}, {"draft_length": 1}]
    assert {"draft_length": 8, "lattice_resolution": 25} in c_sqs
    assert {"draft_length": 8, "initial_threshold": 0.2} in c_sqs
    assert all(len(parameters) <= 2 for parameters in c_sqs)
    assert len(trials(parse_method("cloud-assisted"), HOUR)) == 6
    assert trials(parse_method("cloud-ar"), HOUR) == []


def test_the_hours_plan_has_the_cells_and_methods_of_the_full_one() -> None:
    """Three prompts at least; its tuning link first; every trial and every check is counted."""
    methods = [parse_method(name) for name in ("cloud-stream", "k-sqs:K=8")]

    assert (HOUR.cells, HOUR.methods, HOUR.tuned) == (FULL.cells, FULL.methods, FULL.tuned)
    assert HOUR.prompts >= 3
    assert HOUR.links[0] == tuple(c for c in FULL.cells if (c.rate_up_bps, c.rtt_s) == HOUR.tuning_link)
    assert sorted(map(sorted, HOUR.links)) == sorted(map(sorted, FULL.links))
    assert estimate(HOUR, methods, Costs()).tuning_texts == 2 * 3 * 4 + 3 * 2 * 5


def test_a_part_of_a_plan_tunes_on_its_own_fastest_link() -> None:
    """And keeps the links, temperatures and checked cells that were asked for."""
    part = HOUR.part([32_000, 512_000], [0.04], [1.0])

    assert {cell.rate_up_bps for cell in part.cells} == {32_000, 512_000}
    assert part.tuning_link == (512_000, 0.04)
    assert part.checked == (Cell(32_000, 0.04, 1.0),)
    with pytest.raises(ConfigError, match="no cell of hour has"):
        HOUR.part([1], [], [])
