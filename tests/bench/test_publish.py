"""A run's page, figures and lines in the documents, by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.grid.publish import main
from bench.grid.report import render
from bench.grid.store import read_generations, read_lines
from tests.bench.bench_data import keep, make_record, stream


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one cell that is lost, made somewhere on this machine; a simulation lies in it."""
    settings = {
        "plan": {"name": "canned", "tokens": 9},
        "machine": "2 cores, a processor",
        "started_at": "2026-11-26T12:00:00+00:00",
        "prompts": "/home/someone/bench/prompts.jsonl",
        "command": "-m bench.grid --hour --out /var/tmp/run",
    }
    folder = keep(tmp_path / "run", make_record(), stream("p000", 2.0), **settings)
    (folder / "rounds.jsonl").write_text("{}\n")
    (folder / "simulation").mkdir()
    (folder / "simulation" / "simulation.md").write_text("![batched-by-row.svg](batched-by-row.svg)\n")
    (folder / "simulation" / "batched-by-row.svg").write_text("<svg/>")
    return folder


@pytest.fixture
def docs(run: Path) -> Path:
    """The run, published."""
    assert main([str(run), "--docs", str(run.parent / "docs")]) == 0
    return run.parent / "docs"


def test_one_command_writes_page_figures_and_lines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page shows its figures, names hardware and date, and lists every cell we lose."""
    docs = run.parent / "docs"

    assert main([str(run), "--docs", str(docs)]) == 0

    page = (docs / "results" / "canned.md").read_text()
    for name in ("tokens-per-s", "wire-up", "worth"):
        assert f"](../figures/canned-{name}.svg)" in page
        assert (docs / "figures" / f"canned-{name}.svg").is_file()
    assert "2 cores, a processor" in page
    assert "Started 2026-11-26" in page
    assert "## Cells we lose: 1 of 1" in page
    printed = {Path(line) for line in capsys.readouterr().out.splitlines()}
    assert printed == {path for path in docs.rglob("*") if path.is_file()}


def test_a_published_run_can_be_published_again_from_a_clone(run: Path, docs: Path) -> None:
    """The packed lines give the same bytes, without a path of the machine that ran it and without rounds."""
    kept, again = docs / "results" / "lines" / "canned", run.parent / "again"

    assert main([str(kept), "--docs", str(again)]) == 0

    made = {path.relative_to(again): path.read_bytes() for path in again.rglob("*.*") if path.is_file()}
    assert all((docs / path).read_bytes() == content for path, content in made.items())
    names = {path.name for path in made}
    assert names == {
        *("canned.md", "canned-tokens-per-s.svg", "canned-wire-up.svg", "canned-worth.svg"),
        *("settings.json", "generations.jsonl.gz", "links.jsonl.gz"),
    }
    assert (kept / "generations.jsonl.gz").read_bytes()[4:8] == bytes(4)  # no time stamp
    settings = json.loads((kept / "settings.json").read_text())
    assert (settings["prompts"], settings["command"]) == (
        "prompts.jsonl",
        "-m bench.grid --hour --out run",
    )
    assert read_generations(kept) == read_generations(run)
    assert render(kept) == render(run)


def test_a_paced_run_is_published_beside_and_shares_one_figure(run: Path, tmp_path: Path) -> None:
    """Its page has the name with -paced, and worth.svg shows both."""
    texts = make_record(pacing_base_s=0.12), stream("p000", 8.0, pacing_base_s=0.12)
    paced = keep(tmp_path / "paced", *texts, plan={"name": "canned"})
    docs = tmp_path / "docs"

    assert main([str(run), "--paced", str(paced), "--docs", str(docs)]) == 0

    assert "# Benchmark: canned (paced)" in (docs / "results" / "canned-paced.md").read_text()
    both = (docs / "figures" / "worth.svg").read_text()
    assert "over cloud-stream, as it is" in both
    assert "over cloud-stream, paced 120 + 0 ms" in both


def test_a_simulation_beside_the_run_is_published_too(docs: Path) -> None:
    """Its figures get names of their own, its page finds them; the lines behind it are kept, rounds too."""
    page = (docs / "results" / "simulation.md").read_text()

    assert page == "![batched-by-row.svg](../figures/simulation-batched-by-row.svg)\n"
    assert (docs / "figures" / "simulation-batched-by-row.svg").is_file()
    kept = docs / "results" / "lines" / "simulation"
    assert list(read_lines(kept / "rounds.jsonl")) == [{}]
    assert len(read_generations(kept)) == 2


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """Exit code 2, and no page."""
    assert main([str(tmp_path / "nothing"), "--docs", str(tmp_path / "docs")]) == 2
    assert not (tmp_path / "docs" / "results").exists()
