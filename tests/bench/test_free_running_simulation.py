"""The daemons' sessions in virtual time, over made-up matches: what can be worked out must come out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.records import GenerationRecord
from bench.simulation import free_fit, free_report, matches
from bench.simulation.extrapolate import BY_BLOCK, BY_ROW, MOST_ROWS
from bench.simulation.free_crowd import crowd, crowd_scenario, steady
from bench.simulation.free_running import main
from bench.simulation.free_sessions import plain, run_crowd, run_each
from bench.simulation.matches import Matches
from bench.simulation.scenario import FreeOutcome, FreeScenario, FreeTimes, Passes
from link.description import LinkDescription
from tests.bench.bench_data import make_record, stream
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ConfigError
from thinwire.common.law.random_streams import KeyedDraws, Stream

TOKENS, VOCABULARY = 48, 512
LINK = LinkDescription(rate_up_bps=512_000, rate_down_bps=2_048_000, rtt_s=0.04)
PASSES = Passes(0.05, per_row_s=0.001)
TIMES = FreeTimes(
    draft_s=0.003,
    refeed_s=0.0005,
    turn_s=0.005,
    transport_s=0.001,
    prompt_row_s=0.0005,
    opening_s=0.003,
)
SCENARIO = FreeScenario(link=LINK, passes=PASSES, times=TIMES, copies=False)


def text(share: float, seed: int = 1, tokens: int = TOKENS) -> Matches:
    """A text of which the draft guesses about that share of the tokens, and knows which."""
    chance = random.Random(seed)
    ids = [chance.randrange(VOCABULARY // 2) for _ in range(tokens)]
    rights = [chance.random() < share for _ in ids]
    laws = tuple(
        ((token_id, 1.0),) if right else ((VOCABULARY - 1 - token_id, 0.6), (token_id, 1e-9))
        for token_id, right in zip(ids, rights, strict=True)
    )
    prompt = tuple(range(10, 20))
    return Matches(seed, 1.0, VOCABULARY, prompt, tuple(ids), laws)


def simulated(share: float, **changes: Any) -> FreeOutcome:
    """Three texts of one edge each."""
    return run_each(replace(SCENARIO, **changes), [text(share, seed) for seed in (1, 2, 3)])


def test_a_plain_stream_takes_the_time_of_its_passes() -> None:
    """Opening, request, prompt, then a pass and a turn a token; the last token comes down the line."""
    (one,) = run_each(plain(SCENARIO), [text(1.0)]).texts
    pass_s = PASSES.seconds(rows=1, blocks=1) + TIMES.turn_s

    assert one.last_s - one.first_s == pytest.approx((TOKENS - 1) * pass_s, abs=1e-4)
    # The Open's bytes are the contract's affair; the rest of the way is known.
    known_s = TIMES.opening_s + LINK.rtt_s + TIMES.transport_s + pass_s + 9 * TIMES.prompt_row_s
    assert known_s < one.first_s < known_s + 8 * 400 / LINK.rate_up_bps


def test_every_token_comes_once_whatever_the_draft() -> None:
    """The sessions themselves refuse a text with a gap; passes and hints add up to it."""
    for share in (0.0, 0.5, 1.0):
        outcome = simulated(share)
        assert outcome.tokens == 3 * TOKENS == outcome.rounds + outcome.hinted
        assert [one.tokens for one in outcome.texts] == [TOKENS] * 3
        rows_s = PASSES.fixed_s * outcome.passes + PASSES.per_row_s * outcome.rows
        assert outcome.busy_s == pytest.approx(rows_s + 3 * 9 * TIMES.prompt_row_s)


def test_a_draft_that_is_right_saves_passes_and_time_and_one_that_is_wrong_costs_next_to_none() -> None:
    """The design's promise, in order of the draft's worth; a useless one fades."""
    stream_s, useless_s, half_s, right_s = (
        sum(one.last_s for one in outcome.texts)
        for outcome in (
            run_each(plain(SCENARIO), [text(0.0, s) for s in (1, 2, 3)]),
            *map(simulated, (0.0, 0.5, 1.0)),
        )
    )

    assert simulated(1.0).rounds < TOKENS
    assert simulated(0.0).rounds == 3 * TOKENS
    assert right_s < 0.5 * stream_s
    assert right_s < half_s < useless_s < 1.1 * stream_s


def test_a_longer_way_makes_hints_later_and_never_the_stream_slower() -> None:
    """Of a cloud that waits for nobody the round trip delays the first token alone."""
    far = replace(LINK, rtt_s=0.4)
    near_passes, far_passes = (simulated(0.7, link=link).rounds for link in (LINK, far))
    near, away = (run_each(plain(replace(SCENARIO, link=link)), [text(0.7)]).texts[0] for link in (LINK, far))

    assert near_passes < far_passes
    assert away.last_s - away.first_s == pytest.approx(near.last_s - near.first_s, abs=1e-4)


def test_messages_cost_what_the_contract_says() -> None:
    """A plain stream: a packet a token down with its ACK up, and the bytes of opening and end."""
    outcome = run_each(plain(SCENARIO), [text(0.0)])

    assert outcome.hint_messages == TOKENS // 16 - 1  # acknowledgements; the end says the last one
    assert outcome.wire_up_bytes >= TOKENS * round_time.ACK_BYTES
    assert outcome.wire_down_bytes >= TOKENS * (round_time.STREAM_HEADER_BYTES + 10)
    assert outcome.wire_down_bytes < TOKENS * (round_time.STREAM_HEADER_BYTES + 30) + 800


def test_sessions_share_passes_and_rows_cost_what_they_cost() -> None:
    """Eight edges: a pass serves all of them; one session at a time is far slower."""
    eight = replace(SCENARIO, edges=8, passes=replace(PASSES, max_blocks=8, max_rows=512))
    texts = [text(0.8, seed) for seed in range(8)]
    shared, alone = (
        run_crowd(one, texts, warm_up_s=1.0, window_s=4.0)
        for one in (eight, replace(eight, passes=replace(eight.passes, max_blocks=1)))
    )

    assert shared.rounds > 4 * shared.passes
    assert alone.rounds == alone.passes
    assert alone.busy_s <= 4.0 + 0.2
    assert shared.tokens > 2 * alone.tokens


def test_a_crowd_keeps_to_the_rows_that_were_published() -> None:
    """By row no pass is fed more; the lines have all that the page asks for."""
    fitted = _fit({})
    one = replace(crowd_scenario(fitted, Cell(512_000, 0.04, 1.0), BY_ROW, 0.001), edges=250)
    outcome = steady(one, [text(0.9, seed) for seed in range(4)])

    assert 100 < outcome.rows / outcome.passes <= MOST_ROWS
    lines = [
        point
        for batching in (BY_ROW, BY_BLOCK)
        for point in crowd(fitted, [text(0.9)], 0.001, batching, edges=(1, 4))
    ]
    page = free_report.crowd_section(lines)
    assert page.count("| batched, by") == 4
    assert all(float(line.split("|")[6]) > 1 for line in page.splitlines() if line.startswith("| batched"))
    assert "plain streams" in free_report.draw(lines, [])


def test_a_recorded_law_races_as_the_whole_law() -> None:
    """The first eight of the race over all ids are the first eight over those that are kept."""
    rng, draws = np.random.default_rng(3), KeyedDraws(7)
    for position in range(5):
        probs = rng.dirichlet(np.full(VOCABULARY, 0.1)).astype(np.float32)
        law = matches._law(probs, draws, position)
        kept = np.zeros(VOCABULARY)
        for token_id, share in law:
            kept[token_id] = share
        for _ in range(matches.RUNNERS):
            expected, _ = draws.race(Stream.COUPLED, position, probs)
            assert draws.race(Stream.COUPLED, position, kept)[0] == expected
            probs[expected] = kept[expected] = 0.0


def test_behind_a_wrong_guess_no_law_names_the_text() -> None:
    """And it is as sure as the one that was recorded there."""
    one = text(0.5)
    for position in range(10, 10 + TOKENS):
        right, wrong = (one.law(position, is_right=is_right) for is_right in (True, False))
        assert wrong[one.token(position)] == 0
        assert sorted(wrong[wrong > 0]) == sorted(right[right > 0])


# --- the fit ----------------------------------------------------------------------------------------------


def _fit(found: dict[tuple[float, int], list[Matches]]) -> free_fit.FreeFit:
    return free_fit.FreeFit((512_000, 0.04), PASSES, TIMES, 0.052, 0.1, found)


def _run(folder: Path, cells: list[Cell]) -> None:
    """Lines of a run whose texts took what the simulation with `TIMES` says."""
    texts = [text(0.7, seed) for seed in range(1, 7)]
    generations: list[GenerationRecord] = []
    rounds: list[dict[str, Any]] = []
    for cell in cells:
        for one in texts:
            outcome = run_each(replace(SCENARIO, link=cell.link, copies=True), [one])
            attempt = f"{cell}-{one.seed}"
            made = {**asdict(cell), "seed": one.seed, "attempt": attempt, "output_tokens": TOKENS}
            generations.append(
                make_record(
                    **made,
                    method="coupled",
                    way="coupled",
                    parameters={"draft_length": 6},
                    requested_tokens=TOKENS,
                    first_token_s=outcome.texts[0].first_s,
                    last_token_s=outcome.texts[0].last_s,
                    rounds=outcome.rounds,
                    wire_up_bytes=outcome.wire_up_bytes,
                    wire_down_bytes=outcome.wire_down_bytes,
                    text_sha256=one.text_sha256,
                )
            )
            generations.append(
                stream("p000", 0.1 + TOKENS * 0.052, **made, first_token_s=0.152, requested_tokens=TOKENS)
            )
            for number in range(1, outcome.rounds + 1):
                rows = number % 4  # any passes on the line
                pass_s = PASSES.seconds(rows=rows + 1, blocks=1) + (number == 1) * 9 * TIMES.prompt_row_s
                head = {"attempt": attempt, "round": number, "draft_length": rows, "verify_s": pass_s}
                drafted_s = outcome.draft_s / outcome.rounds
                rounds.append({**head, "draft_s": drafted_s, "encode_s": 0.0, "schema": 1, "kind": "round"})
    folder.mkdir()
    for name, lines in (("generations", map(asdict, generations)), ("rounds", rounds)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "settings.json").write_text("{}")
    matches.write(folder / f"matches-1-6-{TOKENS}.jsonl", texts)


def test_the_fit_finds_the_times_and_predicts_the_other_links(tmp_path: Path) -> None:
    """Lines made by the model with known times: they come out again, and no cell is off by more than 5 %."""
    cells = [Cell(512_000, 0.04, 1.0), Cell(512_000, 0.15, 1.0), Cell(64_000, 0.005, 1.0)]
    _run(tmp_path / "run", cells)
    found = free_fit.fit(tmp_path / "run", (512_000, 0.04), tmp_path / "run")

    assert found.passes.seconds(rows=3, blocks=1) == pytest.approx(PASSES.seconds(rows=3, blocks=1), rel=1e-6)
    assert found.times.prompt_row_s == pytest.approx(TIMES.prompt_row_s, rel=0.1)
    assert found.times.draft_s == pytest.approx(TIMES.draft_s, rel=0.1)
    assert found.times.turn_s == pytest.approx(TIMES.turn_s, abs=2e-3)
    predictions = free_fit.check(found, tmp_path / "run")
    assert [one["rtt_s"] for one in predictions] == [0.005, 0.15]
    assert all(abs(one["error"]["tokens_per_s"]) < 0.05 for one in predictions)
    page = free_report.fit_section({"as they are": found}, {"as they are": predictions}, 0.15)
    assert "| as they are | output tokens/s |" in page
    assert "| 2 of 2 |" in page


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda line: line.replace('"text_sha256": "', '"text_sha256": "0'),
            "writes another text than the run's",
        ),
        (
            lambda line: line.replace('"cloud-stream"', '"cloud-generate"'),
            "did not run on the link of the fit",
        ),
    ],
)
def test_lines_that_say_nothing_are_refused(tmp_path: Path, spoil: Callable[[str], str], fault: str) -> None:
    """Another pair's texts; a run without its plain stream."""
    _run(tmp_path / "run", [Cell(512_000, 0.04, 1.0)])
    path = tmp_path / "run" / "generations.jsonl"
    path.write_text(spoil(path.read_text()))

    with pytest.raises(ConfigError, match=fault):
        free_fit.fit(tmp_path / "run", (512_000, 0.04), tmp_path / "run")


def test_the_command_prints_a_line_a_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over texts that are kept; one edge, and four."""
    matches.write(tmp_path / f"matches-1-2-{TOKENS}.jsonl", [text(0.8, 1), text(0.8, 2)])
    options = ["--matches", str(tmp_path), "--temperature", "1", "--prompts", "2", "--tokens", str(TOKENS)]

    assert main(options) == 0
    assert main([*options, "--edges", "4", "--window-s", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("T 1: ")
    assert float(first.split()[2]) > 1.2
    assert "of the plain stream" in second
    assert main([*options, "--edges", "0"]) == 2


def test_one_text_is_recorded_as_the_pair_writes_it() -> None:
    """The bundled pair: eight tokens are the target's own race, and the draft's laws are laws."""
    (one,) = matches.record(0.6, prompts=1, tokens=8)
    target, _ = matches.load_pair()
    sequence = target.open_sequence()
    rows = sequence.extend([*one.prompt_ids, *one.text_ids[:-1]], logit_rows=8)
    sequence.close()
    draws, sampling = KeyedDraws(1), SamplingParameters(temperature=0.6)
    wrote = [
        draws.race(Stream.COUPLED, len(one.prompt_ids) + place, matches.warp(row, sampling))[0]
        for place, row in enumerate(rows)
    ]

    assert tuple(wrote) == one.text_ids
    assert all(0 < sum(share for _, share in law) <= 1.00001 for law in one.laws)
