"""Tuning by transfer: what trials on one link say of another, and what the runner does with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.grid.arithmetic import Costs, estimate
from bench.grid.cells import FULL, HOUR, Cell
from bench.grid.methods import parse_method
from bench.grid.records import TUNING
from bench.grid.transfer import Transfer, Trial, trials
from tests.bench.bench_data import make_record
from thinwire.common.errors import ConfigError

HOME = Cell(20_000_000, 0.005, 1.0)
FAST, SLOW = Cell(20_000_000, 0.0, 1.0), Cell(1_000, 0.0, 1.0)
K_SQS = parse_method("k-sqs:K=8")
DRAFT_S, ROW_S, PASS_S, OTHER_S = 0.002, 0.001, 0.010, 0.003
UP, DOWN = 20, 30
"""Bytes of a round's messages besides the payload."""


def block(length: int, accepted: int, bits: int, at_s: float) -> dict[str, Any]:
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
        "arrival_s": at_s,
    }


def trial(parameters: dict[str, Any], accepted: Sequence[int], bits: int = 80, **changes: Any) -> Trial:
    """One text; its first round, and the edge's own time, are as long as nothing."""
    length, rounds, at_s = int(parameters["draft_length"]), [], 0.0
    for count in (0, *accepted):
        line = block(length, min(count, length), bits, 0.0)
        at_s += line["draft_s"] + line["round_trip_s"]
        rounds.append({**line, "arrival_s": at_s})
    record = make_record(rate_up_bps=HOME.rate_up_bps, rtt_s=HOME.rtt_s, purpose=TUNING, **changes)
    return Trial(parameters, ((record, rounds),))


def two_lengths(accepted: Sequence[int], bits: int = 80) -> list[Trial]:
    """The trials of a method with nothing but its draft length open."""
    base = K_SQS.defaults()
    return [trial({**base, "draft_length": length}, accepted, bits) for length in (8, 1)]


def test_a_prediction_is_the_sum_of_what_a_round_takes() -> None:
    """γ = 4 from blocks of 8: drafts, pass, both stacks, both lines, over the tokens of the cut blocks."""
    transfer = Transfer(K_SQS, two_lengths([8, 2, 0, 4]), (1, 2, 4, 8))
    cell = Cell(32_000, 0.15, 1.0)

    seconds = transfer.token_s(cell, {**K_SQS.defaults(), "draft_length": 4})

    tokens = 1 + (4 + 2 + 0 + 4) / 4
    lines_s = 8 * (UP + 106 + 4 * 10) / 32_000 + 8 * (DOWN + 106) / 128_000
    assert seconds == pytest.approx(
        (4 * DRAFT_S + PASS_S + 5 * ROW_S + OTHER_S + cell.rtt_s + lines_s) / tokens, rel=1e-6
    )


@pytest.mark.parametrize(("cell", "length"), [(SLOW, 1), (Cell(20_000_000, 0.15, 1.0), 8)])
def test_dear_bits_shorten_blocks_and_long_round_trips_lengthen_them(cell: Cell, length: int) -> None:
    """The same trials choose γ = 1 where a token's bits take a second, and 8 over 150 ms."""
    transfer = Transfer(K_SQS, two_lengths([8, 3, 2, 1, 0, 0], bits=2_000), (1, 2, 4, 6, 8))

    choice = transfer.best(cell)

    assert choice is not None
    assert choice.parameters["draft_length"] == length
    assert choice.token_s == transfer.token_s(cell, choice.parameters)


@pytest.mark.parametrize(("rate_bps", "length"), [(20_000_000, 6), (2_000_000, 2), (32_000, 1)])
def test_no_round_is_chosen_that_is_longer_than_the_lines_queue(rate_bps: int, length: int) -> None:
    """Tokens of 16 386 bytes: six of them in 128 KiB, two in 64, one in 32; every one would be taken."""
    transfer = Transfer(K_SQS, two_lengths([8, 8], bits=8 * 16_386), (1, 2, 4, 6, 8))

    choice = transfer.best(Cell(rate_bps, 10.0, 1.0))

    assert choice is not None
    assert choice.parameters["draft_length"] == length


@pytest.mark.parametrize(("bits", "ell"), [(79, 100), (10, 25)])
def test_a_parameter_leaves_its_default_only_for_a_clear_gain(bits: int, ell: int) -> None:
    """A hair is chance; an eighth of the bits on a thin link is not."""
    rival = trial({**K_SQS.defaults(), "draft_length": 8, "lattice_resolution": 25}, [4, 4], bits)
    transfer = Transfer(K_SQS, [*two_lengths([4, 4]), rival], (1, 2, 4, 8))

    choice = transfer.best(SLOW)

    assert choice is not None
    assert choice.parameters.get("lattice_resolution", 100) == ell


def test_the_seconds_of_a_setting_are_those_of_the_defaults() -> None:
    """A machine that was busy during one trial does not decide what is chosen."""
    busy = trial({**K_SQS.defaults(), "draft_length": 8, "lattice_resolution": 25}, [4, 4], bits=80)
    for _, rounds in busy.texts:
        for line in rounds:
            line["verify_s"] /= 100  # type: ignore[index]
    transfer = Transfer(K_SQS, [*two_lengths([4, 4]), busy], (1, 2, 4, 8))

    choice = transfer.best(FAST)

    assert choice is not None
    assert "lattice_resolution" not in choice.parameters


def test_a_streams_fastest_length_is_taken_everywhere() -> None:
    """Its seconds are those of whole texts on the tuning link; nothing is predicted."""
    assisted = parse_method("cloud-assisted")
    done = [
        trial({"draft_length": length}, [1], last_token_s=seconds, is_peer=True)
        for length, seconds in ((1, 3.0), (4, 2.0), (0, 2.5))
    ]

    choice = Transfer(assisted, done, (1, 4, 0)).best(SLOW)

    assert choice is not None
    assert (choice.parameters, choice.token_s) == ({"draft_length": 4}, None)


def test_without_a_whole_block_nothing_is_chosen() -> None:
    """Every trial failed, or all blocks were cut short."""
    assert Transfer(K_SQS, [], (1, 2)).best(FAST) is None
    cut = trial({**K_SQS.defaults(), "draft_length": 8}, [])
    assert Transfer(K_SQS, [cut], (1, 2)).best(FAST) is None


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
    """Three prompts at least; by the arithmetic about an hour, link starts included."""
    methods = [parse_method(name) for name in ("cloud-stream", "k-sqs:K=8")]

    assert HOUR.cells == FULL.cells
    assert (HOUR.methods, HOUR.tuned) == (FULL.methods, FULL.tuned)
    assert HOUR.prompts >= 3
    assert HOUR.links[0] == tuple(c for c in FULL.cells if (c.rate_up_bps, c.rtt_s) == HOUR.tuning_link)
    assert sorted(map(sorted, HOUR.links)) == sorted(map(sorted, FULL.links))
    assert estimate(HOUR, methods, Costs()).tuning_texts == 2 * 3 * 4 + 3 * 2 * 5


def test_a_part_of_a_plan_tunes_on_its_own_fastest_link() -> None:
    """And keeps the links, temperatures and checked cells that were asked for."""
    part = HOUR.part([32_000, 512_000], [0.04], [1.0])

    assert {str(cell.link.rate_up_bps) for cell in part.cells} == {"32000", "512000"}
    assert part.tuning_link == (512_000, 0.04)
    assert part.checked == (Cell(32_000, 0.04, 1.0),)
    with pytest.raises(ConfigError, match="no cell of hour has"):
        HOUR.part([1], [], [])
