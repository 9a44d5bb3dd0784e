"""The command: it estimates before it runs, draws again without measuring, and refuses bad usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.paper.__main__ import keep_lines, main

RECORDED = Path(__file__).parent / "paper_recorded"


def test_the_estimate_alone_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of both parts; and leaves nothing."""
    out = tmp_path / "out"

    assert main(["--estimate", "--out", str(out)]) == 0
    words = capsys.readouterr().err
    assert "paper, full: over the link about " in words
    assert "220 texts" in words
    assert "in process: about " in words
    assert not out.exists()


def test_redraw_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures and page of the recorded lines, named one a line."""
    assert main(["--redraw", "--out", str(RECORDED), "--docs", str(tmp_path)]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 7
    assert all(Path(line).is_file() for line in printed)


def test_the_lines_are_kept_and_draw_the_same_again(tmp_path: Path) -> None:
    """Packed, without a path of this machine; figures and page come out byte for byte."""
    main(["--redraw", "--out", str(RECORDED), "--docs", str(tmp_path / "first")])
    keep_lines(RECORDED, tmp_path / "first")
    kept = tmp_path / "first" / "results" / "lines" / "paper"

    assert main(["--redraw", "--out", str(kept), "--docs", str(tmp_path / "again")]) == 0

    drawn = [path for path in (tmp_path / "again").rglob("*") if path.is_file()]
    assert len(drawn) == 7
    for path in drawn:
        assert path.read_bytes() == (tmp_path / "first" / path.relative_to(tmp_path / "again")).read_bytes()
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
