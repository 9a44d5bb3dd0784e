"""The report from canned lines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.grid.records import TUNING, GenerationRecord
from bench.grid.report import main, render
from bench.grid.summaries import is_lost, percentile
from tests.bench.bench_data import beside_a_stream, keep, make_record, stream

RATES = (32_000, 512_000, 20_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One cell that we win and one that we lose, by a factor of two each; one failure."""
    texts = beside_a_stream({32_000: 8.0, 512_000: 2.0}, "p000", "p001", "p002")
    tuned = make_record(purpose=TUNING, trial="{}", last_token_s=100.0)
    failed = make_record(method="dense-qs", way="dense-qs", failure="UNAVAILABLE: gone")
    plan = {"name": "canned", "tokens": 9}
    return keep(tmp_path / "run", *texts, tuned, failed, plan=plan, pacing="not paced")


def test_the_report_lists_the_cells_we_lose_and_what_failed(folder: Path) -> None:
    """With the ratio, and the count of all; tuning texts and failures are in no table."""
    text = render(folder)

    assert "## Cells we lose: 1 of 2" in text
    assert (
        "- 512 kbit/s up, 2.048 Mbit/s down, RTT 40 ms, temperature 1: 0.50 (k-sqs:K=8 against cloud-stream)"
        in text
    )
    assert "| **2.00** |" in text
    assert "3 texts a method." in text
    assert "dense-qs" not in text.split("## Failed: 1")[0]
    assert "UNAVAILABLE: gone" in text


def test_a_row_has_every_figure_that_was_asked_for(folder: Path) -> None:
    """Speeds, times, wire and account of one method in one cell."""
    lines = render(folder).splitlines()
    at = lines.index("## 32 kbit/s up, 128 kbit/s down, RTT 40 ms, temperature 1")
    rows = [line for line in lines[at : at + 18] if line.startswith(("| k-sqs:K=8", "| cloud-stream"))]

    assert rows == [
        "| k-sqs:K=8 | γ 4, K 8 | 2.2 | **2.00** | 0.4000 | 0.4000 | 0.800 | 1.200 | 100 | 50 |",
        "| cloud-stream | – | 1.1 | **1.00** | 0.9000 | 0.9000 | 0.800 | 1.200 | 100 | 50 |",
        "| k-sqs:K=8 | 100.0 | 133.3 | 0.750 | 0.222 | 3.00 | 0.444 | 0.0100 | 0.0200 | 0.1000 | 0 |",
        "| cloud-stream | – | – | – | – | 1.00 | 0.444 | 0.0100 | – | 0.1000 | 0 |",
    ]


def test_a_paced_run_says_so_over_every_table_and_a_short_text_is_marked(tmp_path: Path) -> None:
    """In the title and over each section with figures of time; the mark is in every table."""
    text = render(keep(tmp_path, make_record(pacing_base_s=0.1, short=True), stream("p000", 8.0)))

    headings = [line for line in text.splitlines() if line.startswith(("# ", "## ", "Where it goes"))]
    tables = [h for h in headings if not h.startswith(("## Cells we lose", "## How to read"))]
    assert len(tables) == 5
    assert all("paced" in heading for heading in tables)
    assert text.count("k-sqs:K=8 *short*") == 3


@pytest.mark.parametrize(("texts", "shown"), [(199, False), (200, True)])
def test_a_99th_percentile_needs_200_texts(tmp_path: Path, texts: int, shown: bool) -> None:
    """Below that it is the maximum under another name."""
    keep(tmp_path, *(make_record(prompt=f"p{number}") for number in range(texts)))

    assert ("| p99 |" in render(tmp_path)) is shown


def test_ratios_are_taken_text_by_text(tmp_path: Path) -> None:
    """A text the other method lacks counts for neither."""
    ours = [make_record(prompt=f"p{n}", last_token_s=4.0 + n) for n in range(3)]

    assert "| k-sqs:K=8 | γ 4, K 8 | 1.8 | **2.00** |" in render(keep(tmp_path, *ours, stream("p2", 12.0)))


def test_percentiles_interpolate_and_a_ratio_is_lost_as_it_is_printed() -> None:
    """NaN is left out; of nothing there is no percentile."""
    assert percentile([4.0, 1.0, 2.0, 3.0, math.nan], 0.5) == 2.5
    assert percentile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert math.isnan(percentile([], 0.5))
    assert (is_lost(0.994), is_lost(0.996)) == (True, False)


def test_the_command_prints_the_report_and_refuses_a_folder_without_a_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The very text of `render`; one sentence and exit code 2."""
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == render(folder)
    assert main([str(folder.parent)]) == 2
    assert "expected a benchmark's folder" in capsys.readouterr().err


# --- a run at a glance --------------------------------------------------------------------------------------


def texts_of(*last_token_s: float, temperature: float = 1.0) -> list[GenerationRecord]:
    """Three uplinks: ours in 4 s, naive ones in 12 and 6 s, the target's stream in what is given."""
    more = {"temperature": temperature, "wire_up_bytes": 1350, "target_passes": 9}
    naive = [
        make_record(method=way, way=way, last_token_s=seconds, rate_up_bps=rate, **more)
        for rate in RATES
        for way, seconds in (("dense-f16", 12.0), ("cloud-ar", 6.0))
    ]
    stream_s = dict(zip(RATES, last_token_s, strict=True))
    return beside_a_stream(stream_s, temperature=temperature) + naive


def overview(folder: Path, *records: GenerationRecord) -> list[str]:
    """Lines of the section."""
    text = render(keep(folder, *records))
    return text.partition("## At a glance\n")[2].partition("\n## ")[0].splitlines()


def test_the_overview_has_medians_over_the_links_and_spreads_over_the_baselines(tmp_path: Path) -> None:
    """Of a temperature also bytes and passes; a baseline that did not run has no column."""
    lines = overview(tmp_path, *texts_of(2.0, 3.0, 8.0))

    assert "| k-sqs:K=8 | 0.75 | 100 | 50 | 0.44 |" in lines
    assert "| cloud-ar | 0.50 | 150 | 50 | 1.00 |" in lines
    assert "| cloud-stream | 1.00 | 100 | 50 | 0.44 |" in lines
    assert "| cells | over cloud-ar | over cloud-stream |" in lines
    assert "| 40 ms, T 1 | 1.50 (1.50 to 1.50), 3 of 3 | 0.75 (0.50 to 2.00), 1 of 3 |" in lines
    naive = lines[lines.index("The same of every method that drafts at the edge, over `cloud-ar`:") :]
    assert [line for line in naive if line.startswith("| ")][1:] == [
        "| k-sqs:K=8 | 1.50 (1.50 to 1.50), 3 of 3 | 1.50 (1.50 to 1.50), 3 of 3 |",
        "| dense-f16 | 0.50 (0.50 to 0.50), 0 of 3 | 0.50 (0.50 to 0.50), 0 of 3 |",
    ]
    assert "Our fastest scheme:" not in lines  # one alone is no choice


def test_temperatures_have_columns_of_their_own_and_our_fastest_is_counted(tmp_path: Path) -> None:
    """The last row is of all cells."""
    faster = make_record(method="c-sqs", way="c-sqs", last_token_s=1.0, rate_up_bps=RATES[0])
    lines = overview(tmp_path, *texts_of(2.0, 3.0, 8.0, temperature=0.3), *texts_of(4.0, 4.0, 4.0), faster)

    assert any(line.startswith("| k-sqs:K=8 | 0.75 | 1.00 |") for line in lines)
    assert "| all | 1.50 (1.50 to 1.50), 6 of 6 | 1.00 (0.50 to 2.00), 4 of 6 |" in lines
    assert "- temperature 1: k-sqs:K=8 in 2, c-sqs in 1 of 3 cells" in lines


def test_a_run_of_one_cell_or_without_the_targets_stream_has_no_overview(tmp_path: Path) -> None:
    """There is nothing to take a median of, or nothing to compare with."""
    one_cell = [text for text in texts_of(2.0, 3.0, 8.0) if text.rate_up_bps == RATES[0]]

    assert overview(tmp_path / "cell", *one_cell) == []
    assert overview(tmp_path / "ours", *(make_record(rate_up_bps=rate) for rate in RATES)) == []


# --- what tuning by transfer was worth ----------------------------------------------------------------------


def test_the_report_says_how_far_off_the_transfer_was(tmp_path: Path) -> None:
    """Off the tuning link only; the first round is left out, so a long prompt does not count against it."""
    measured = {"tuned_by": "transfer", "predicted_token_s": 0.5, "rounds": 3, "output_tokens": 9}
    home = {**measured, "rate_up_bps": 20_000_000, "rtt_s": 0.005, "predicted_token_s": 99.0}
    # (4.0 - 0.8) s over 2 later rounds of 3 tokens: 0.533 s a token
    folder = keep(
        tmp_path, make_record(**measured), make_record(**home), plan={"tuning_link": [20_000_000, 0.005]}
    )

    assert "1 methods and cells, median error 6.2%" in render(folder)
    assert "worst -6.2% (k-sqs:K=8; 32 kbit/s up" in render(folder)


def test_the_report_sets_each_choice_beside_the_fastest_tried(tmp_path: Path) -> None:
    """Of the cells where every length was run: γ = 4 was chosen, 2 was a quarter faster."""
    chosen = make_record(tuned_by="transfer", predicted_token_s=0.5)
    tried = [
        make_record(
            purpose=TUNING, trial=f"{n}", parameters={**chosen.parameters, "draft_length": n}, last_token_s=s
        )
        for n, s in ((1, 6.0), (2, 4.0), (4, 5.0))
    ]
    text = render(keep(tmp_path, chosen, *tried))

    assert "the choice was the fastest in 0 of 1; its speed over the fastest's was 0.80 at the median" in text
    assert "temperature 1 | k-sqs:K=8 | 4 | 2 | 0.80 |" in text
