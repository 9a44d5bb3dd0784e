"""The simulation against closed forms: what can be worked out by hand must come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench import round_time
from bench.simulation.model import (
    DELAYED_ACK_S,
    PROMPT_TOKENS,
    STREAM_MESSAGE_BYTES,
    TYPICAL_TOKEN_ID,
    run_texts,
    run_window,
)
from bench.simulation.scenario import MethodTimes, Outcome, Passes, Rounds, Scenario
from link.description import LinkDescription
from thinwire.common.errors import ConfigError

LINK = LinkDescription(rate_up_bps=512_000, rate_down_bps=2_048_000, rtt_s=0.04)
BLOCKS = Rounds(3, ((2, 40),))
TIMES = MethodTimes(draft_step_s=0.002, edge_round_s=0.001, block_s=0.0005)
PASSES = Passes(fixed_s=0.01, per_row_s=0.001)
SCENARIO = Scenario(LINK, PASSES, BLOCKS, TIMES, tokens=30, transport_s=0.002)


def one_text(**changes: Any) -> Outcome:
    """Of one edge."""
    return run_texts(replace(SCENARIO, **changes), 1)


def window(window_s: float = 20.0, **changes: Any) -> Outcome:
    """Of edges without end."""
    return run_window(replace(SCENARIO, **changes), warm_up_s=2.0, window_s=window_s)


def block_bytes(number: int, produced: int, length: int = 3, payload: int = 40) -> int:
    """On the wire, as the contract has it."""
    sizes = {"draft_length": length, "payload_bytes": payload, "base_length": PROMPT_TOKENS + produced}
    return round_time.message_wire_bytes(
        round_time.draft_block_bytes(round_number=number, code=None, **sizes)
    )


def verdict_bytes(number: int, produced: int) -> int:
    """On the wire, two drafts accepted."""
    ids = {"next_token_id": TYPICAL_TOKEN_ID, "committed_length": PROMPT_TOKENS + produced}
    return round_time.message_wire_bytes(round_time.verdict_bytes(round_number=number, accepted=2, **ids))


def test_one_edge_takes_the_time_of_the_formula() -> None:
    """T = γ t_d + edge + up + RTT + pass + block + down + transport, for each of ten rounds."""
    (text,) = one_text().texts
    # The last block has but two tokens to draft: one fewer than is still wanted.
    drafts = [(number, 3, 40) for number in range(1, 10)] + [(10, 2, 27)]
    expected = [
        length * 0.002
        + (0.001 + 0.002 + 0.04)
        + (0.01 + 0.001 * (length + 1) + 0.0005)
        + 8 * block_bytes(number, 3 * (number - 1), length, payload) / LINK.rate_up_bps
        + 8 * verdict_bytes(number, 3 * number) / LINK.rate_down_bps
        for number, length, payload in drafts
    ]

    assert text.tokens == 30
    assert text.first_s == pytest.approx(expected[0], abs=1e-12)
    assert text.last_s == pytest.approx(sum(expected), abs=1e-12)


def test_bytes_are_those_of_the_messages() -> None:
    """Every block and every verdict, and nothing else while all comes within the delay of an ACK."""
    outcome, bare = one_text(tokens=3), one_text(tokens=3, headers=False)

    assert outcome.rounds == 1
    assert outcome.wire_up_bytes == block_bytes(1, 0, length=2, payload=27)
    assert outcome.wire_down_bytes == verdict_bytes(1, 3)
    # Without packets and frames.
    assert outcome.wire_up_bytes - bare.wire_up_bytes == round_time.ROUND_HEADER_BYTES
    assert outcome.wire_down_bytes - bare.wire_down_bytes == round_time.ROUND_HEADER_BYTES == 106


def test_a_slow_cloud_costs_an_ack_a_round() -> None:
    """A pass longer than the delay sends one down; an edge that drafts as long sends one up."""
    plain, slow_cloud = one_text(), one_text(passes=Passes(DELAYED_ACK_S + 0.01))
    slow_edge = one_text(times=replace(TIMES, edge_round_s=DELAYED_ACK_S + 0.01))

    assert slow_cloud.wire_down_bytes - plain.wire_down_bytes == 10 * round_time.ACK_BYTES
    assert slow_cloud.wire_up_bytes == plain.wire_up_bytes
    # The first round answers nothing.
    assert slow_edge.wire_up_bytes - plain.wire_up_bytes == 9 * round_time.ACK_BYTES


def test_a_stream_is_as_fast_as_its_passes_or_its_line() -> None:
    """The cloud does not wait for the edge: round trips cost nothing after the first token."""
    thin = LinkDescription(rate_up_bps=8_000, rate_down_bps=40_000, rtt_s=1.0)
    stream = {"rounds": None, "times": MethodTimes(), "tokens": 20}
    (fast,), (slow,) = one_text(**stream).texts, one_text(link=thin, **stream).texts

    assert fast.last_s - fast.first_s == pytest.approx(19 * 0.011)
    assert slow.last_s - slow.first_s == pytest.approx(19 * 8 * (66 + 14 + STREAM_MESSAGE_BYTES) / 40_000)


def test_a_block_waits_for_the_prompt_and_no_longer() -> None:
    """The prompt's pass runs while the answer to Open is under way."""
    opened = replace(TIMES, opening_up_bytes=400, opening_down_bytes=300)
    first = {
        prompt_s: one_text(times=replace(opened, prompt_s=prompt_s), tokens=3).texts[0].first_s
        for prompt_s in (0.0, 0.01, 0.2)
    }

    assert first[0.01] == first[0.0]
    arrives_s = 8 * 400 / LINK.rate_up_bps + 0.02
    rest_s = 0.01 + 0.003 + 0.0005 + 8 * verdict_bytes(1, 3) / LINK.rate_down_bps + 0.02 + 0.001
    assert first[0.2] == pytest.approx(arrives_s + 0.2 + rest_s)


@pytest.mark.parametrize("edges", [1, 2, 5, 40])
def test_throughput_never_exceeds_one_block_a_pass(edges: int) -> None:
    """Without batching; and a cloud with more than it can do is busy all the time."""
    outcome = window(edges=edges, tokens=31)

    assert outcome.passes / 20.0 <= 1 / (PASSES.seconds(rows=3, blocks=1) + 0.0005)
    assert outcome.rounds <= outcome.passes + edges
    if edges == 40:
        assert outcome.busy_s == pytest.approx(20.0, rel=0.01)


def test_a_saturated_queue_shares_the_cloud_evenly() -> None:
    """Deterministic service, closed loop: n edges wait n passes a round."""
    edges, seconds = 50, 200.0
    outcome = window(seconds, edges=edges, tokens=1000)
    pass_s = PASSES.seconds(rows=4, blocks=1) + 0.0005

    assert outcome.rounds / seconds == pytest.approx(1 / pass_s, rel=0.01)
    assert max(outcome.token_s) == pytest.approx(edges * pass_s / 3, rel=0.02)


def test_batching_carries_more() -> None:
    """Up to four at once, as far as the rows allow; one that waits alone does not wait for others."""
    four = replace(PASSES, max_blocks=4)
    two, hundred = replace(four, max_rows=8), replace(PASSES, max_blocks=100, max_rows=8)
    few, some, many = (window(edges=40, passes=passes).rounds for passes in (PASSES, two, four))
    outcome = window(edges=40, passes=hundred)

    assert few < some < many
    assert 4 < outcome.rows / outcome.passes <= 8
    assert one_text(passes=four) == one_text()
    # A single block has more rows than a pass may.
    assert one_text(passes=replace(hundred, max_rows=1)).texts[0].tokens == 30


def test_streams_share_every_pass() -> None:
    """A stream's next token is in the very next pass: three streams are no slower than one but for rows."""
    outcome = window(rounds=None, times=MethodTimes(), edges=3, passes=replace(PASSES, max_blocks=100))

    assert max(outcome.token_s) == pytest.approx(PASSES.seconds(rows=3, blocks=3), abs=0.002)


def test_an_edge_alone_does_not_know_of_the_others_lines() -> None:
    """Each edge has lines of its own: a thousand idle clouds' worth of edges would all be as fast."""
    instant = {"passes": Passes(), "times": replace(TIMES, block_s=0.0)}
    (one,), many = one_text(**instant).texts, one_text(edges=30, **instant).texts

    assert len(many) == 30
    assert all(text.last_s == pytest.approx(one.last_s) for text in many)


def test_the_same_seed_gives_the_same_run() -> None:
    """And another seed another."""
    scenario = replace(SCENARIO, rounds=Rounds(3, ((0, 10), (3, 50), (1, 20))), edges=5)
    first, again, other = (run_texts(replace(scenario, seed=seed), 4) for seed in (1, 1, 2))

    assert first == again
    assert first.texts != other.texts


def test_rounds_are_drawn_from_the_measured_ones() -> None:
    """The mean of many is theirs: false alarm below 1e-6 (6 standard errors)."""
    outcome = window(400.0, rounds=Rounds(3, ((0, 10), (3, 50))), tokens=100_000)

    assert outcome.tokens / outcome.rounds == pytest.approx(2.5, abs=6 * 1.5 / outcome.rounds**0.5)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Passes(float("nan")), "fixed_s is nan"),
        (lambda: Passes(max_blocks=0), "max_blocks is 0; expected an integer from 1"),
        (lambda: Rounds(4, ()), "samples is empty"),
        (lambda: Rounds(4, ((5, 1),)), "accepted is 5; expected an integer from 0 to 4"),
        (lambda: Rounds(4, ((4, -1),)), "payload_bytes is -1"),
        (lambda: replace(SCENARIO, edges=0), "edges is 0; expected an integer from 1"),
        (lambda: replace(SCENARIO, tokens=1), "tokens is 1; expected an integer from 2"),
        (lambda: replace(SCENARIO, transport_s=-1.0), "transport_s is -1.0"),
        (lambda: run_texts(SCENARIO, 0), "texts is 0; expected an integer from 1"),
        (lambda: run_window(SCENARIO, warm_up_s=0.0, window_s=0.0), "window_s is 0.0"),
    ],
)
def test_bad_input_is_refused(make, fault: str) -> None:
    """The value received and the value expected."""
    with pytest.raises(ConfigError, match=fault):
        make()
