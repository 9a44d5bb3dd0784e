"""
The command, its figures and its page, from the lines of a smoke run that was recorded (`paper_recorded/`).

The recorded run is `python -m bench.paper --smoke`, with the path of its prompts made relative.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from bench.charts import Panel
from bench.grid.store import read_generations
from bench.markdown import NONE
from bench.paper.__main__ import draw, keep_lines, main
from bench.paper.claims import findings
from bench.paper.data import BROKEN, LATENCY, STEPS, STOOD, VACUOUS, VOID, make_data, read_data
from bench.paper.figures import LINK_FIGURES, STEP_FIGURES
from bench.paper.plan import SMOKE
from bench.paper.steps import read_steps
from tests.bench.bench_data import PAPER_RECORDED
from thinwire.common.schemes.c_sqs import CSqs

SVG = "{http://www.w3.org/2000/svg}"
PAGE = "paper-figures.md"
SHIPPED = CSqs.Parameters.defaults(1.0)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Figures and page of the recorded lines."""
    folder = tmp_path_factory.mktemp("docs")
    draw(PAPER_RECORDED, folder)
    return folder


@pytest.mark.parametrize(
    ("name", "series", "panels"),
    [
        ("paper-figure-2.svg", ["K-SQS, K = 2", "C-SQS, β = 0.1"], 2),
        ("paper-figure-4.svg", ["temperature 0.2", "temperature 1"], 2),
        ("paper-figure-5.svg", ["β = 0.1, adaptive", "β = 0.1, frozen"], 2),
        ("paper-theorem-1.svg", ["TV(p, q): the models differ", "rejections, measured"], 1),
        ("paper-theorem-2.svg", ["running mean of α, a line a seed", "Theorem 2 of the paper"], 1),
        ("paper-frontier.svg", ["dense-qs over ℓ", "k-sqs over K, ℓ = 100", "c-sqs over β, η, α*"], 1),
    ],
)
def test_a_figure_shows_what_the_paper_shows(docs: Path, name: str, series: list[str], panels: int) -> None:
    """Each series once in the legend; below, what it was measured under."""
    text = (docs / "figures" / name).read_text(encoding="utf-8")
    words = [entry.text or "" for entry in ElementTree.fromstring(text).iter(f"{SVG}text")]
    caption = " ".join(words)

    assert text.count('<g id="axes_') == panels
    assert [words.count(entry) for entry in series] == [1] * len(series)
    assert "γ = 4" in caption
    assert "2 seeds" in caption
    assert ("standard error over seeds" in caption) is (name != "paper-theorem-2.svg")  # that has lines alone
    if name in LINK_FIGURES:
        assert "64 kbit/s up, 256 down, RTT 20 ms" in caption
        assert "16 tokens a text" in caption
    if name != "paper-frontier.svg":
        assert "η = 0.01; by temperature" in caption
        assert f"α* = {SHIPPED.target_dropped_mass:g}, K_max = {SHIPPED.max_support_size} at 1" in caption


def test_points_over_seeds_have_error_bars(tmp_path: Path, drawn: list[Sequence[Panel]]) -> None:
    """Figure 2: two settings, two temperatures, two panels; one without spread has no bar."""
    draw(PAPER_RECORDED, tmp_path)

    marks = [mark for panel in drawn[0] for series in panel.series for mark in series.marks]
    assert len(marks) == 8
    assert 5 <= sum(mark.ends is not None for mark in marks) <= 8


def test_the_page_states_every_verdict_and_guarantee(docs: Path) -> None:
    """One row a finding; K_max and the guarantee of every C-SQS setting; hardware, versions and date."""
    text = (docs / PAGE).read_text(encoding="utf-8")
    found = findings(read_data(PAPER_RECORDED))

    assert len(found) >= 12
    for finding in found:
        assert f"| {finding.claim} | {finding.compared} | {finding.difference} |" in text
        assert f"| {finding.difference.count} | **{finding.verdict}** |" in text
    figures = [f"](figures/{name})" for name in (*LINK_FIGURES, *STEP_FIGURES)]
    for words in ("begun 2026-", "torch 2.", " cores", *figures):
        assert words in text
    void = [row for row in text.splitlines() if "void 2" in row]
    assert [row.startswith("| 0.1 | 0.05 | 0.05 |") for row in void] == [True]  # more than K_max keeps
    begins = f"| 1 | β = 0.1 | {SHIPPED.target_dropped_mass:g} |"
    rows = [row for row in text.splitlines() if row.startswith(begins)]
    assert len(rows) == 2  # over the link and in process
    assert all("%" in row for row in rows)


@pytest.mark.parametrize(("missing", "names"), [("latency", STEP_FIGURES), ("steps", LINK_FIGURES)])
def test_without_lines_of_one_kind_the_other_figures_are_drawn(
    tmp_path: Path, missing: str, names: Sequence[str]
) -> None:
    """A machine without a link still gets what needs none."""
    out = tmp_path / "out"
    shutil.copytree(PAPER_RECORDED, out, ignore=shutil.ignore_patterns(missing))

    assert {path.name for path in draw(out, tmp_path)} == {*names, PAGE}


@pytest.mark.parametrize(
    ("bound", "mean", "rate", "status"),
    [
        (0.3, 0.2, 0.0, STOOD),
        (0.3, 0.4, 0.0, BROKEN),
        (0.3, 0.2, 0.01, VOID),
        (1.2, 0.2, 0.0, VACUOUS),
        (None, 0.2, 0.0, NONE),
    ],
)
def test_a_guarantee_stands_or_is_said_not_to(
    bound: float | None, mean: float, rate: float, status: str
) -> None:
    """
    As in the report of a generation: void from 1 % of binding caps, vacuous above 1.

    In process it must stand after every step: one excess over all T breaks it.
    """
    record = read_generations(PAPER_RECORDED / LATENCY)[0]
    counts = {"dropped_mass_guarantee": bound, "mean_dropped_mass": mean, "cap_binding_rate": rate}
    texts = make_data(SMOKE, [replace(record, **counts)], []).texts
    assert texts["guarantee"].to_list() == [status]

    if status != VACUOUS:
        run = read_steps(PAPER_RECORDED / STEPS)[0]
        excess = None if bound is None else mean - bound
        run = msgspec.structs.replace(run, largest_excess=excess, cap_bound=round(rate * run.steps))
        assert make_data(SMOKE, [], [run]).frontier_runs["guarantee"].to_list() == [status]


# --- the command -------------------------------------------------------------------------------------------


def test_the_estimate_alone_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of both parts; and leaves nothing."""
    out = tmp_path / "out"

    assert main(["--estimate", "--out", str(out)]) == 0
    words = capsys.readouterr().err
    for part in ("paper, full: over the link about ", "220 texts", "in process: about "):
        assert part in words
    assert not out.exists()


def test_the_lines_are_kept_and_draw_the_same_again(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packed, without a path of this machine; figures and page come out byte for byte, named one a line."""
    keep_lines(PAPER_RECORDED, tmp_path)
    kept = tmp_path / "results" / "lines" / "paper"

    assert main(["--redraw", "--out", str(kept), "--docs", str(tmp_path / "again")]) == 0

    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.name for path in paths} == {*LINK_FIGURES, *STEP_FIGURES, PAGE}
    for path in paths:
        assert path.read_bytes() == (docs / path.relative_to(tmp_path / "again")).read_bytes()
    for path in kept.rglob("settings.json"):
        assert not [word for word in path.read_text().split('"') if word.startswith("/")]


def test_without_a_link_nothing_with_time_in_it_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never falls back to bare loopback."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["--smoke", "--out", str(tmp_path / "out")]) == 4
    words = capsys.readouterr().err.splitlines()[-1]
    assert words == "bench.paper: nsenter is missing; it comes with util-linux."
    assert not (tmp_path / "out" / "latency" / "generations.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "2"], "seeds is 2; expected at least 3"),
        (["--step-seeds", "1"], "step_seeds is 1; expected at least 3"),
        (["--tokens", "1"], "tokens is 1; expected at least 2"),
        (["--redraw"], "holds no settings.json of bench.paper"),
    ],
)
def test_bad_usage_ends_with_2_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Before anything is written."""
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
