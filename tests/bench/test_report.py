"""The report from canned lines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.grid.report import main, render
from bench.grid.store import Store
from bench.grid.summaries import percentile, summarise
from tests.bench.bench_data import make_record, stream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One cell that we win and one that we lose, by a factor of two each; one failure."""
    store = Store(tmp_path, {"plan": {"name": "canned", "tokens": 9}, "pacing": "not paced"})
    for prompt in ("p000", "p001", "p002"):
        store.add(make_record(prompt=prompt))
        store.add(stream(prompt, 8.0))
        store.add(make_record(prompt=prompt, rate_up_bps=512_000))
        store.add(stream(prompt, 2.0, rate_up_bps=512_000))
    store.add(make_record(prompt="p000", purpose="tuning", trial="{}", last_token_s=100.0))
    store.add(make_record(method="dense-qs", way="dense-qs", failure="UNAVAILABLE: gone"))
    return tmp_path


def test_the_report_lists_the_cells_we_lose(folder: Path) -> None:
    """With the ratio, and the count of all."""
    text = render(folder)

    assert "## Cells we lose: 1 of 2" in text
    assert (
        "- 512 kbit/s up, 2.048 Mbit/s down, RTT 40 ms, temperature 1: 0.50 (k-sqs:K=8 against cloud-stream)"
        in text
    )
    assert "| **2.00** |" in text


def test_a_row_has_every_figure_that_was_asked_for(folder: Path) -> None:
    """Speeds, times, wire and account of one method in one cell."""
    lines = render(folder).splitlines()
    at = lines.index("## 32 kbit/s up, 128 kbit/s down, RTT 40 ms, temperature 1")
    rows = [line for line in lines[at : at + 18] if line.startswith("| k-sqs:K=8")]

    assert rows == [
        "| k-sqs:K=8 | γ 4, K 8 | 2.2 | **2.00** | 0.4000 | 0.4000 | 0.800 | 1.200 | 100 | 50 |",
        "| k-sqs:K=8 | 100.0 | 133.3 | 0.750 | 0.222 | 3.00 | 0.444 | 0.0100 | 0.0200 | 0.1000 | 0 |",
    ]


def test_tuning_texts_and_failures_are_in_no_table(folder: Path) -> None:
    """Failures are listed by themselves."""
    text = render(folder)

    assert "3 texts a method." in text
    assert "dense-qs" not in text.split("## Failed: 1")[0]
    assert "UNAVAILABLE: gone" in text


def test_a_paced_run_says_so_over_every_table(tmp_path: Path) -> None:
    """In the title and over each section with figures of time."""
    store = Store(tmp_path, {})
    store.add(make_record(pacing_base_s=0.1))
    store.add(stream("p000", 8.0, pacing_base_s=0.1))

    headings = [
        line for line in render(tmp_path).splitlines() if line.startswith(("# ", "## ", "Where it goes"))
    ]
    tables = [h for h in headings if not h.startswith(("## Cells we lose", "## How to read"))]
    assert len(tables) == 5
    assert all("paced" in heading for heading in tables)


def test_a_short_text_is_marked(tmp_path: Path) -> None:
    """In every table it is in."""
    store = Store(tmp_path, {})
    store.add(make_record(short=True))
    store.add(stream("p000", 8.0))

    assert render(tmp_path).count("k-sqs:K=8 *short*") >= 3


@pytest.mark.parametrize(("texts", "shown"), [(199, False), (200, True)])
def test_a_99th_percentile_needs_200_texts(tmp_path: Path, texts: int, shown: bool) -> None:
    """Below that it is the maximum under another name."""
    store = Store(tmp_path, {})
    for number in range(texts):
        store.add(make_record(prompt=f"p{number}"))

    assert ("| p99 |" in render(tmp_path)) is shown


def test_ratios_are_taken_text_by_text(folder: Path) -> None:
    """A text the other method lacks counts for neither."""
    cells = summarise([make_record(prompt=f"p{n}", last_token_s=4.0 + n) for n in range(3)])
    ours = cells[0].methods[0]
    theirs = summarise([stream("p2", 12.0)])[0].methods[0]

    assert ours.ratio_to(theirs) == pytest.approx(2.0)


def test_percentiles_interpolate_between_order_statistics() -> None:
    """NaN is left out; of nothing there is no percentile."""
    assert percentile([4.0, 1.0, 2.0, 3.0, math.nan], 0.5) == 2.5
    assert percentile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert percentile([7.0], 0.95) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_the_command_refuses_a_folder_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 2."""
    assert main([str(tmp_path)]) == 2
    assert "expected a benchmark's folder" in capsys.readouterr().err


def test_the_command_prints_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The very text of `render`."""
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == render(folder)
