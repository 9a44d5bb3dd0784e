"""Prompts from a dataset: what is taken, what is left out, and what is refused."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from bench.grid.cells import SMOKE
from bench.grid.dataset_prompts import LM1B, main, read_prompts, rows_of

ROWS = [{"text": f"one two three four {n}" if n % 2 else "too short"} for n in range(20)]
ARGUMENTS = ["--dataset", "d", "--words", "4", "--count", "10"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `datasets`, which is stood in for, was asked for."""
    calls: list[Any] = []

    def load_dataset(*names: str, **options: Any) -> list[dict[str, str]]:
        calls.append((*names, options))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_the_file_has_the_first_words_of_texts_that_go_on(tmp_path: Path, asked: list[Any]) -> None:
    """In the dataset's order, the id telling the row, as the benchmark reads them; a stream is asked for."""
    out = tmp_path / "prompts.jsonl"

    assert main([*ARGUMENTS, "--out", str(out)]) == 0
    assert asked == [("d", {"split": "test", "streaming": True, "revision": None})]
    assert len(out.read_text().splitlines()) == 10
    (first,), _ = read_prompts(out, SMOKE)
    assert (first.id, first.prompt) == ("row 1", "one two three four")


def test_the_papers_dataset_is_read_from_its_parquet_files(asked: list[Any]) -> None:
    """Its main branch holds a loading script, which `datasets` 5 refuses; a revision that is given wins."""
    rows_of(LM1B, "test")
    rows_of(LM1B, "test", "main")

    assert [options["revision"] for _, options in asked] == ["refs/convert/parquet", "main"]
    assert {name for name, _ in asked} == {LM1B}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--count", "11"], "has 10 texts of more than 4 words; expected 11"),
        (["--field", "body"], "no field 'body'; expected one of text"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_a_dataset_does_not_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], words: str
) -> None:
    """With what was found and what was expected; nothing is written."""
    assert main([*ARGUMENTS, *option, "--out", str(tmp_path / "p")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_without_the_package_the_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written."""
    monkeypatch.setitem(sys.modules, "datasets", None)

    assert main(["--out", str(tmp_path / "p")]) == 2
    assert "pip install '.[datasets]'" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
