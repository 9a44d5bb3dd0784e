"""The fit, the check and the extrapolation on lines that were made from known parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import round_time
from bench.charts import Panel
from bench.grid.cells import Cell
from bench.grid.records import GenerationRecord
from bench.simulation import report
from bench.simulation.__main__ import main
from bench.simulation.check import FIGURES, check
from bench.simulation.citations import CHECK, DRAFTS, TARGET
from bench.simulation.extrapolate import BATCHINGS, BY_BLOCK, BY_ROW, ONE, LargeModels, most_edges
from bench.simulation.fit import Fit, LinkKey, fit, read_rounds, read_texts
from tests.bench.bench_data import make_record
from thinwire.common.errors import ConfigError

LINKS = [(32_000, 0.04), (512_000, 0.04), (2_000_000, 0.15)]
FITTED = LINKS[1]
TOKENS = 21
DRAFT_STEP_S, EDGE_ROUND_S, TRANSPORT_S, PROMPT_S = 0.003, 0.001, 0.002, 0.03
PASS_S = {0: 0.012, 4: 0.020}
"""By draft length: queue and verification of a round; a straight line over the rows."""
TOKEN_S = 0.013
MESSAGE_BYTES = {0: (18, 20), 4: (54, 25)}
"""Up and down, by draft length: about what the contract gives."""
K_SQS = "k-sqs:K=8"
METHODS = {"cloud-stream": 0, "cloud-ar": 0, K_SQS: 4}


def make_text(link: LinkKey, method: str) -> tuple[GenerationRecord, list[dict[str, Any]]]:
    """One text whose rounds all take the same time and all accept one token of four."""
    (rate, rtt_s), length, is_peer = link, METHODS[method], method == "cloud-stream"
    tokens_a_round = 2 if length else 1
    up, down = (round_time.message_wire_bytes(size) for size in MESSAGE_BYTES[length])
    round_trip_s = 8 * up / rate + 8 * down / (4 * rate) + rtt_s + TRANSPORT_S + PASS_S[length]
    step_s = TOKEN_S if is_peer else EDGE_ROUND_S + length * DRAFT_STEP_S + round_trip_s
    count = TOKENS // tokens_a_round
    if is_peer:
        up, down = round_time.ACK_BYTES, round_time.ACK_BYTES + 24
    record = make_record(
        rate_up_bps=rate,
        rtt_s=rtt_s,
        method=method,
        way=method.partition(":")[0],
        is_peer=is_peer,
        attempt=f"{rate}-{rtt_s}-{method}",
        parameters={"draft_length": length} if length else {},
        requested_tokens=tokens_a_round * count,
        output_tokens=tokens_a_round * count,
        first_token_s=0.5 + step_s,
        last_token_s=0.5 + step_s * count,
        rounds=count,
        wire_up_bytes=600 + count * up,
        wire_down_bytes=300 + count * down,
        target_passes=count + (0 if is_peer else 1),
        target_s=PROMPT_S + count * (PASS_S[length] - 0.001),
    )
    ours = {
        "draft_length": length,
        "accepted": 1 if length else 0,
        "uplink_payload_bits": 240 if length else 0,
        "uplink_message_bytes": MESSAGE_BYTES[length][0],
        "downlink_message_bytes": MESSAGE_BYTES[length][1],
        "draft_s": length * DRAFT_STEP_S,
        "round_trip_s": round_trip_s,
        "queue_s": 0.001,
        "verify_s": PASS_S[length] - 0.001,
    }
    head = {"attempt": record.attempt, "tokens": tokens_a_round, **({} if is_peer else ours)}
    arrivals = [0.5 + step_s * number for number in range(1, count + 1)]
    return record, [{**head, "round": n, "arrival_s": at_s} for n, at_s in enumerate(arrivals, 1)]


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark's folder: three links, three methods."""
    folder = tmp_path_factory.mktemp("run")
    texts = [make_text(link, method) for link in LINKS for method in METHODS]
    lines = [json.dumps(line) + "\n" for _, rounds in texts for line in rounds]
    (folder / "rounds.jsonl").write_text("".join(lines))
    (folder / "generations.jsonl").write_text("".join(record.to_json() + "\n" for record, _ in texts))
    return folder


@pytest.fixture(name="texts", scope="module")
def texts_fixture(folder: Path) -> list[GenerationRecord]:
    """Those of the folder."""
    return read_texts(folder)


@pytest.fixture(name="fitted", scope="module")
def fitted_fixture(folder: Path, texts: list[GenerationRecord]) -> Fit:
    """To the link in the middle."""
    return fit(texts, read_rounds(folder), [FITTED])


@pytest.fixture(name="models", scope="module")
def models_fixture(fitted: Fit) -> LargeModels:
    """One uplink, one block a pass."""
    return LargeModels(fitted, 1.0, DRAFTS["jetson"], rates_up_bps=(512_000,), batchings=(ONE,))


def test_the_fit_finds_what_the_lines_were_made_of(fitted: Fit) -> None:
    """Every parameter, from one link."""
    ours, stream = fitted.times[K_SQS], fitted.times["cloud-stream"]

    assert ours.draft_step_s == pytest.approx(DRAFT_STEP_S)
    assert ours.edge_round_s == pytest.approx(EDGE_ROUND_S)
    assert ours.prompt_s == pytest.approx(PROMPT_S)
    assert fitted.transport_s == pytest.approx(TRANSPORT_S)
    assert fitted.per_row_s == pytest.approx((PASS_S[4] - PASS_S[0]) / 4)
    assert ours.block_s + 5 * fitted.per_row_s == pytest.approx(PASS_S[4])
    assert fitted.times["cloud-ar"].block_s + fitted.per_row_s == pytest.approx(PASS_S[0])
    assert stream.block_s + fitted.per_row_s == pytest.approx(TOKEN_S)
    assert set(fitted.samples(K_SQS, 1.0, 4)) == {(1, 30)}


def test_shorter_blocks_are_longer_ones_cut(fitted: Fit, models: LargeModels) -> None:
    """Of the draft lengths below the measured one."""
    assert set(fitted.samples(K_SQS, 1.0, 2)) == {(1, 15)}
    assert models.draft_lengths(K_SQS) == [1, 2, 4]


@pytest.mark.parametrize(
    ("method", "temperature", "draft_length", "fault"),
    [
        # What would have been accepted after the last token nobody measured.
        (K_SQS, 1.0, 5, "a draft length of 5 or more was measured"),
        (K_SQS, 0.3, 4, "no round of k-sqs:K=8 at temperature 0.3"),
        ("cloud-generate", 1.0, 0, "method is 'cloud-generate'; expected one of cloud-stream"),
    ],
)
def test_what_was_not_measured_is_refused(
    fitted: Fit, method: str, temperature: float, draft_length: int, fault: str
) -> None:
    """Rather than guessed."""
    with pytest.raises(ConfigError, match=fault):
        fitted.scenario(Cell(8_000, 0.0, temperature), method, draft_length, 2)


def test_cells_off_the_fit_come_out_right(fitted: Fit, texts: list[GenerationRecord]) -> None:
    """Seconds a token of links that were not fitted to, from lines that follow the formula."""
    predictions, left_out = check(fitted, texts)

    assert left_out == []
    assert {(one["rate_up_bps"], one["rtt_s"]) for one in predictions} == {LINKS[0], LINKS[2]}
    assert len(predictions) == 6
    for one in predictions:
        # The lines know nothing of a text's last block, which the model cuts to what is wanted.
        assert abs(one["error"]["seconds_per_token"]) < 0.04, one
        assert abs(one["error"]["wire_up_bytes"]) < 0.01, one
        assert set(one["measured"]) == set(one["predicted"]) == set(FIGURES)


def test_a_wrong_model_is_found_out(fitted: Fit, texts: list[GenerationRecord]) -> None:
    """Texts that took twice as long: the error says so."""
    slow = [
        replace(text, first_token_s=2 * text.first_token_s, last_token_s=2 * text.last_token_s)
        for text in texts
    ]

    assert all(one["error"]["tokens_per_s"] > 0.6 for one in check(fitted, slow)[0])


def test_other_parameters_are_not_predicted(fitted: Fit, texts: list[GenerationRecord]) -> None:
    """A cell that was tuned to another K has other payloads than the fit."""
    other, _ = make_text((128_000, 0.005), K_SQS)
    retuned = replace(other, parameters={"draft_length": 4, "support_size": 32})
    predictions, (reason,) = check(fitted, [*texts, retuned])

    assert len(predictions) == 6
    assert "expected those of the fit" in reason


def test_what_the_model_does_not_know_is_left_out(tmp_path: Path) -> None:
    """transformers' own streams, and messages longer than a frame."""
    known, dense, assisted = (
        make_record(method=way, attempt=way, way=way, is_peer=is_peer)
        for way, is_peer in (("k-sqs", False), ("dense-f16", False), ("assisted", True))
    )
    lines = [record.to_json() + "\n" for record in (known, dense, assisted)]
    (tmp_path / "generations.jsonl").write_text("".join(lines))

    assert read_texts(tmp_path) == [known]


# --- large models ------------------------------------------------------------------------------------------


def test_the_cited_figures_are_a_line() -> None:
    """The line through the published steps is near each, and near the other source's."""
    line = BATCHINGS[BY_ROW]
    for rows, milliseconds in (*TARGET.step_ms.items(), *CHECK.step_ms.items()):
        assert line.seconds(rows=rows, blocks=1) * 1000 == pytest.approx(milliseconds, rel=0.07)
    by_block_s = BATCHINGS[BY_BLOCK].seconds(rows=1000, blocks=64)
    assert by_block_s == pytest.approx(line.seconds(rows=64, blocks=1))
    assert all(cited.address.startswith("https://") for cited in (TARGET, CHECK, *DRAFTS.values()))


def test_large_models_take_cited_times_and_larger_payloads(models: LargeModels) -> None:
    """Acceptance stays what was measured."""
    scenario = models.scenario(K_SQS, 4, Cell(32_000, 0.04, 1.0), BY_ROW)

    assert scenario.times.draft_step_s == pytest.approx(1 / 65.02)
    assert scenario.rounds is not None
    assert set(scenario.rounds.samples) == {(1, 39)}  # 30 x 160 / 126
    assert scenario.passes.max_rows == 200
    assert scenario.link.rate_down_bps == 128_000


def test_points_add_up(models: LargeModels) -> None:
    """More edges never make a token come sooner, batching never later; bytes do not depend on either."""
    names = models.methods()
    found = list(replace(models, batchings=tuple(BATCHINGS)).points(names, edges=(1, 10, 60)))
    by_key = {(p["batching"], p["method"], p["headers"], p["edges"]): p for p in found}

    assert names == ["cloud-stream", "cloud-ar", K_SQS]
    assert len(found) == len(BATCHINGS) * 4 * 3
    for method in names:
        one_s, few_s, many_s = (by_key[ONE, method, True, edges]["mean_s"] for edges in (1, 10, 60))
        assert one_s <= few_s * 1.02
        assert few_s < many_s
        assert by_key[BY_BLOCK, method, True, 60]["mean_s"] < many_s
        assert by_key[ONE, method, True, 60]["busy"] > 0.98
    stream = by_key[ONE, "cloud-stream", True, 1]
    assert stream["up_bytes_per_token"] == pytest.approx(66, rel=0.02)
    assert stream["down_bytes_per_token"] == pytest.approx(90, rel=0.02)
    assert by_key[ONE, "cloud-stream", False, 1]["up_bytes_per_token"] == 0
    assert by_key[ONE, K_SQS, True, 1]["passes_per_token"] == pytest.approx(0.5, rel=0.1)


def test_a_capacity_is_where_the_target_is_still_kept(models: LargeModels) -> None:
    """Streams, one block a pass: as many as passes fit into the target."""
    found = list(replace(models, rates_up_bps=(20_000_000,)).capacities(["cloud-stream"], 0.1))

    assert {one["statistic"] for one in found} == {"p95", "mean"}
    assert {one["edges"] for one in found} == {int(0.1 / BATCHINGS[ONE].seconds(rows=1, blocks=1))}
    with pytest.raises(ConfigError, match="target_s is 0"):
        next(models.capacities(["cloud-stream"], 0))


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 64, 99, 100])
def test_the_search_finds_the_last_number_that_holds(most: int) -> None:
    """Up to its limit."""
    assert most_edges(lambda edges: edges <= most, limit=100) == most


def test_a_figure_has_a_line_a_method_and_statistic(
    models: LargeModels, drawn: list[Sequence[Panel]]
) -> None:
    """And the target's own line, in a panel an uplink."""
    models = replace(models, rates_up_bps=(32_000, 512_000, 20_000_000))
    text = report.draw(list(models.points(models.methods(), edges=(1, 5))), models, 0.1)

    (panels,) = drawn
    series = [entry for panel in panels for entry in panel.series]
    assert len(panels) == 3
    assert len(series) == 3 * (3 * 2 + 1)
    assert all(len(entry.marks) == 2 for entry in series)
    assert "nan" not in text


def test_the_report_cites_what_it_rests_on(models: LargeModels) -> None:
    """A row a point, a row a capacity, every address, and the word simulated."""
    names = ["cloud-stream"]
    points, capacities = list(models.points(names, edges=(1, 3))), list(models.capacities(names, 0.05))
    text = report.extrapolation_section(models, points, capacities, ["a.svg"])

    assert all(cited.address in text for cited in (TARGET, CHECK, DRAFTS["jetson"]))
    assert "Simulated, not measured" in text
    assert "| one block a pass | cloud-stream | 3 / 3 |" in text
    assert text.count("| 512 kbit/s | cloud-stream |") == 2
    assert text.count("| 512 kbit/s | cloud-stream, messages alone |") == 2
    assert "![a.svg](a.svg)" in text


# --- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown, JSON lines and no figure, as nothing was extrapolated; 1 when a cell is off by more."""
    assert main([str(folder), "--check", "--limit", "0.001"]) == 1
    capsys.readouterr()
    assert main([str(folder), "--check", "--limit", "0.5"]) == 0

    out = folder / "simulation"
    said = capsys.readouterr().out
    kinds = [json.loads(line)["kind"] for line in (out / "simulation.jsonl").read_text().splitlines()]
    assert kinds == ["fit"] + ["prediction"] * 6
    assert said == (out / "simulation.md").read_text()
    assert "6 cells; 6 of them within 50%" in said
    assert "| output tokens/s | " in said


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--fit", "512k"], "expected RATE_UP,RTT_MS such as 512k,40"),
        (["--fit", "fast,40"], "expected RATE_UP,RTT_MS"),
        (["--limit", "2"], "share is '2'; expected a number in (0, 1]"),
        (["--target-ms", "0"], "expected a number above 0"),
        (["--edge-device", "fridge"], "invalid choice: 'fridge'"),
        (
            ["--fit", "1M,40"],
            "is 1000000 bit/s up, RTT 0.04 s; expected one with rounds: 32000 bit/s, 0.04 s",
        ),
        (["--fit", "512k,40", "--fit", "32k,40"], "3 cells can be predicted; expected at least 6"),
        (["--temperature", "0.7"], "temperature is 0.7; expected one of [1.0], which were measured"),
        (["/dev/null"], "expected a benchmark's folder"),
    ],
)
def test_bad_arguments_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str
) -> None:
    """Exit code 2 and what was expected; a file is no run."""
    try:
        code = main(arguments if arguments == ["/dev/null"] else [str(folder), *arguments])
    except SystemExit as stop:
        code = stop.code

    assert code == 2
    assert fault in capsys.readouterr().err
