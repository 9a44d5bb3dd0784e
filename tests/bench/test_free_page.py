"""What must be reached beside what was measured, over canned lines; the page, its figure, their places."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bench.charts import Panel
from bench.grid.free_page import folders_of, main, render, texts_of
from bench.grid.goals import GOALS, HEAD, OURS, STREAM, Compared, Goal, rows_of
from bench.grid.publish import MARKS
from bench.grid.publish import main as publish
from bench.grid.summaries import read_run
from tests.bench.bench_data import keep, make_record, stream

EVERYWHERE = pl.lit(value=True)
WAYS = {"coupled": "coupled", "k-sqs:K=8": "k-sqs", "cloud-assisted:gamma=6": "assisted"}
CAPACITY = [
    {"way": way, "edges": edges, "tokens_per_s": speed, "rounds": 60, "tokens": 100}
    for way, edges, speed in (("coupled", 16, 400.0), ("lock-step", 16, 320.0), ("plain streams", 16, 320.0))
]


def run_of(folder: Path, seconds: Mapping[str, list[float]], **where: Any) -> Path:
    """A cell's texts: the stream's each of 4 s, every other method's in so many seconds a prompt."""
    count = len(next(iter(seconds.values())))
    records = [stream(f"p{n}", 4.0, temperature=0.3, **where) for n in range(count)]
    for name, each in seconds.items():
        made = {"method": name, "way": WAYS[name], "is_peer": name.startswith("cloud"), "temperature": 0.3}
        records += [
            make_record(prompt=f"p{n}", last_token_s=s, text_sha256=f"{n}", **made, **where)
            for n, s in enumerate(each)
        ]
    return keep(folder, *records, machine="2 cores", started_at="2026-11-28", pacing="paced")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pass times: as they are `coupled` loses to the stream; paced it is 4 times as fast."""
    near = {"rtt_s": 0.005, "rate_up_bps": 512_000}
    run_of(tmp_path / "run" / "as-it-is", {"coupled": [5.0, 5.0], "k-sqs:K=8": [10.0, 10.0]}, **near)
    paced = {"coupled": [1.0, 1.0], "k-sqs:K=8": [4.0, 4.0], "cloud-assisted:gamma=6": [0.5, 2.0]}
    run_of(tmp_path / "run" / "paced-60", paced, pacing_base_s=0.06, **near)
    lines = "".join(f"{json.dumps(line)}\n" for line in CAPACITY)
    (tmp_path / "run" / "capacity.jsonl").write_text(lines)
    return tmp_path / "run"


def texts(folder: Path) -> pl.DataFrame:
    """Of all the folder's runs."""
    return texts_of([read_run(one) for one in folders_of(folder)])


def test_a_ratio_is_of_the_same_text_and_its_mean_geometric(tmp_path: Path) -> None:
    """Twice and half as fast are level; a prompt that one method lacks is left out."""
    run_of(tmp_path / "as-it-is", {"coupled": [2.0, 8.0], "k-sqs:K=8": [2.0]})

    over_stream = Compared(texts(tmp_path), Goal("", 1, 1, EVERYWHERE, STREAM))
    over_rounds = Compared(texts(tmp_path), Goal("", 1, 1, EVERYWHERE, "k-sqs:K=8"))

    assert over_stream.figure == pytest.approx(1.0)
    assert over_stream.bound == pytest.approx(0.5)
    assert (over_rounds.figure, over_rounds.texts) == (pytest.approx(1.0), 1)


def test_the_bound_is_of_prompts_drawn_alike_in_every_cell(tmp_path: Path) -> None:
    """
    A prompt that is fast in one cell and slow in the other leaves the mean over both as it is.

    Were prompts drawn for each cell by itself, the bound would be far below. Where each cell counts, it is.
    """
    near, far = ({"rtt_s": rtt_s, "rate_up_bps": 512_000} for rtt_s in (0.005, 0.04))
    run_of(tmp_path / "as-it-is", {"coupled": [2.0, 8.0]}, **near)
    other = run_of(tmp_path / "other", {"coupled": [8.0, 2.0]}, **far)
    with (tmp_path / "as-it-is" / "generations.jsonl").open("a") as file:
        file.write((other / "generations.jsonl").read_text())
    found = texts_of([read_run(tmp_path / "as-it-is")])

    mean = Compared(found, Goal("", 1, 1, EVERYWHERE, STREAM))
    each = Compared(found, Goal("", 1, 1, EVERYWHERE, STREAM, in_each=True))

    assert (mean.figure, mean.bound) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (each.figure, each.bound) == (pytest.approx(1.0), pytest.approx(0.5))


def test_every_goal_has_a_row_and_says_whether_it_is_reached(folder: Path) -> None:
    """Missed by its worst cell, met so far where cells are missing, and not measured."""
    rows = {row[0]: dict(zip(HEAD, row, strict=True)) for row in rows_of(texts(folder), CAPACITY)}

    assert len(rows) == len(GOALS) + 4
    worst = rows["over `cloud-stream`, every cell (lower 95 % bound ≥ 0.95)"]
    assert (worst["measured"], worst["cells that miss it"], worst["cells run"]) == ("0.80", "1", "2 of 135")
    assert worst["verdict"] == "missed so far"
    mean = rows["over `cloud-stream`, mean of the paced cells with RTT ≤ 40 ms, T = 0.3"]
    assert (mean["measured"], mean["cells run"], mean["verdict"]) == ("4.00", "1 of 20", "met so far")
    assert mean["passes a token"] == "0.44"
    assisted = rows["over `cloud-assisted`, each paced cell with RTT ≤ 40 ms from 128 kbit/s up"]
    assert (assisted["measured"], assisted["95 % bound"], assisted["cells run"]) == (
        "1.00",
        "0.50",
        "1 of 48",
    )
    far = rows["over `cloud-stream`, RTT 150 ms, paced 120 ms, T = 1"]
    assert (far["measured"], far["verdict"]) == ("–", "not measured")
    many = "16 edges on one cloud, passes of 50 ms: tokens/s over "
    assert [rows[many + way]["verdict"] for way in ("lock-step", "plain streams")] == ["**met**", "missed"]
    assert rows[many.replace("16", "64") + "lock-step"]["verdict"] == "not measured"


def test_bytes_and_first_tokens_must_not_be_more(folder: Path) -> None:
    """The worst cell is the one with most bytes, and the bound the upper end."""
    goal = Goal("", 1.0, 1.0, EVERYWHERE, "k-sqs:K=8", pl.col("last_token_s"), at_most=True, in_each=True)
    both = Compared(texts(folder), goal)

    assert both.figure == pytest.approx(0.5)
    assert goal.holds(0.99, 1.0)
    assert not goal.holds(1.01, 1.0)


def test_the_page_says_who_is_best_and_lists_every_cell_that_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the passes and the bytes of each; the texts of one seed are equal."""
    assert main([str(folder)]) == 0

    page = capsys.readouterr().out
    assert page == render(folder)
    (paced,) = (line for line in page.splitlines() if line.startswith("| 60 ms | 5 ms |"))
    assert paced.count("`coupled`") >= 2
    assert "**4.00**; 0.44; 100" in paced
    assert "Slower than `cloud-stream` in 1 of 2 cells:\n\n- 0.80: pass as it is; 512 kbit/s up" in page
    assert "Slower than `k-sqs:K=8` in 0 of 2 cells." in page
    assert "Of 2 prompts with seed and temperature, 2 gave one and the same text" in page
    assert OURS in page


def test_all_of_it_is_published_and_published_again_from_the_kept_lines(
    folder: Path, tmp_path: Path, drawn: list[Sequence[Panel]]
) -> None:
    """A page a pass time, one of all with its figure, the lines, and the table between results.md's marks."""
    for source, docs in ((folder, tmp_path / "a"), (tmp_path / "a/results/lines/run", tmp_path / "b")):
        docs.mkdir()
        (docs / "results.md").write_text(f"# Results\n\n{MARKS[0]}\nold\n{MARKS[1]}\n\nmore\n")
        assert publish([str(source), "--docs", str(docs)]) == 0

    made = [
        {path.relative_to(docs): path.read_bytes() for path in docs.rglob("*") if path.is_file()}
        for docs in (tmp_path / "a", tmp_path / "b")
    ]
    assert made[0] == made[1]
    results = (tmp_path / "a" / "results.md").read_text()
    assert "| 60 ms | 5 ms |" in results
    assert "old" not in results
    assert results.endswith("more\n")
    page = (tmp_path / "a" / "results" / "run.md").read_text()
    assert "[run-as-it-is](run-as-it-is.md), [run-paced-60](run-paced-60.md)" in page
    assert "](../figures/run-speed.svg)" in page
    figure = drawn[-1]
    assert [panel.title for panel in figure] == ["a target pass as it is", "a target pass 60 ms"]
    assert all(panel.y.high >= 4.0 for panel in figure), "every point is on it"
    assert [s.name for s in figure[1].series] == ["coupled", "k-sqs:K=8", "cloud-assisted", "plain streaming"]
    assert figure[1].series[0].marks[0].y == pytest.approx(4.0)
