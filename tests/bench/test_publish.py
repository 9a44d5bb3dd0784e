"""A run's page, figures and lines in the documents, by one command."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bench.grid.publish import main
from bench.grid.report import render
from bench.grid.store import Store, read_generations, read_lines
from tests.bench.bench_data import make_record, stream


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one cell that is lost, made somewhere on this machine."""
    settings = {
        "plan": {"name": "canned", "tokens": 9},
        "pacing": "not paced",
        "machine": "2 cores, a processor",
        "started_at": "2026-11-26T12:00:00+00:00",
        "prompts": "/home/someone/bench/prompts.jsonl",
        "command": "-m bench.grid --hour --out /var/tmp/run",
    }
    store = Store(tmp_path / "run", settings)
    store.add(make_record())
    store.add(stream("p000", 2.0))
    (tmp_path / "run" / "rounds.jsonl").write_text("{}\n")
    return tmp_path / "run"


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
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(set(printed)) == 7
    assert all(Path(line).is_file() for line in printed)


def test_a_published_run_can_be_published_again_from_a_clone(run: Path) -> None:
    """The packed lines give the same bytes, without a path of the machine that ran it and without rounds."""
    docs, again = run.parent / "docs", run.parent / "again"
    main([str(run), "--docs", str(docs)])
    kept = docs / "results" / "lines" / "canned"

    assert main([str(kept), "--docs", str(again)]) == 0

    assert [path.relative_to(docs) for path in sorted(docs.rglob("*.*"))] == [
        path.relative_to(again) for path in sorted(again.rglob("*.*"))
    ]
    for path in docs.rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(docs)).read_bytes()
    assert (kept / "generations.jsonl.gz").read_bytes()[4:8] == bytes(4)  # no time stamp
    settings = json.loads((kept / "settings.json").read_text())
    assert (settings["prompts"], settings["command"]) == (
        "prompts.jsonl",
        "-m bench.grid --hour --out run",
    )
    assert {path.name for path in kept.iterdir()} == {
        *("settings.json", "generations.jsonl.gz", "links.jsonl.gz")
    }


def test_a_paced_run_is_published_beside_and_shares_one_figure(run: Path) -> None:
    """Its page has the name with -paced, and worth.svg shows both."""
    paced = run.parent / "paced"
    store = Store(paced, {"plan": {"name": "canned"}})
    store.add(make_record(pacing_base_s=0.12))
    store.add(stream("p000", 8.0, pacing_base_s=0.12))
    docs = run.parent / "docs"

    assert main([str(run), "--paced", str(paced), "--docs", str(docs)]) == 0

    assert "# Benchmark: canned (paced)" in (docs / "results" / "canned-paced.md").read_text()
    both = (docs / "figures" / "worth.svg").read_text()
    assert "over cloud-stream, as it is" in both
    assert "over cloud-stream, paced 120 + 0 ms" in both


def test_a_simulation_beside_the_run_is_published_too(run: Path) -> None:
    """Its figures get names of their own, its page finds them; the lines behind it are kept, rounds too."""
    (run / "simulation").mkdir()
    (run / "simulation" / "simulation.md").write_text("![batched-by-row.svg](batched-by-row.svg)\n")
    (run / "simulation" / "batched-by-row.svg").write_text("<svg/>")
    docs = run.parent / "docs"

    main([str(run), "--docs", str(docs)])

    page = (docs / "results" / "simulation.md").read_text()
    assert page == "![batched-by-row.svg](../figures/simulation-batched-by-row.svg)\n"
    assert (docs / "figures" / "simulation-batched-by-row.svg").is_file()
    kept = docs / "results" / "lines" / "simulation"
    assert list(read_lines(kept / "rounds.jsonl")) == [{}]
    assert len(read_generations(kept)) == 2


def test_packed_lines_are_read_like_plain_ones(run: Path, tmp_path: Path) -> None:
    """By the report, and by anything that reads a run."""
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "settings.json").write_bytes((run / "settings.json").read_bytes())
    lines = (run / "generations.jsonl").read_bytes()
    (packed / "generations.jsonl.gz").write_bytes(gzip.compress(lines))

    assert read_generations(packed) == read_generations(run)
    assert render(packed) == render(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """Exit code 2, and no page."""
    assert main([str(tmp_path / "nothing"), "--docs", str(tmp_path / "docs")]) == 2
    assert not (tmp_path / "docs" / "results").exists()
