"""Prompts from a dataset: what is taken, what is left out, and what is refused."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from bench.grid.cells import SMOKE
from bench.grid.dataset_prompts import LM1B, main, prompts_of, rows_of
from bench.grid.texts import read_prompts
from thinwire.common.errors import ConfigError

ROWS = [{"text": f"one two three four {n}" if n % 2 else "too short"} for n in range(20)]


def test_a_prompt_is_the_first_words_of_a_text_that_goes_on() -> None:
    """Order is kept, short texts are left out, and the id tells the row."""
    made = list(prompts_of(ROWS, field="text", count=3, words=3))

    assert made == [{"id": f"row {n}", "prompt": "one two three"} for n in (1, 3, 5)]


def test_too_few_texts_and_a_missing_field_are_refused() -> None:
    """With what was found and what was expected."""
    with pytest.raises(ConfigError, match="has 10 texts of more than 4 words; expected 11"):
        list(prompts_of(ROWS, field="text", count=11, words=4))
    with pytest.raises(ConfigError, match="no field 'body'; expected one of text"):
        list(prompts_of(ROWS, field="body", count=1, words=4))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `datasets`, which is stood in for, was asked for."""
    calls: list[Any] = []

    def load_dataset(*names: str, **options: Any) -> list[dict[str, str]]:
        calls.append((*names, options))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_the_file_is_one_the_benchmark_reads(tmp_path: Path, asked: list[Any]) -> None:
    """`datasets` is asked for a stream of the split."""
    out = tmp_path / "prompts.jsonl"

    assert main(["--dataset", "d", "--count", "10", "--words", "4", "--out", str(out)]) == 0
    assert asked == [("d", {"split": "test", "streaming": True, "revision": None})]
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 10
    measured, _ = read_prompts(out, SMOKE)
    assert measured[0].text == "one two three four"


def test_the_papers_dataset_is_read_from_its_parquet_files(asked: list[Any]) -> None:
    """Its main branch holds a loading script, which `datasets` 5 refuses; a revision that is given wins."""
    rows_of(LM1B, "test")
    rows_of(LM1B, "test", "main")

    assert [options["revision"] for _, options in asked] == ["refs/convert/parquet", "main"]
    assert {name for name, _ in asked} == {LM1B}


def test_without_the_package_the_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written."""
    monkeypatch.setitem(sys.modules, "datasets", None)

    assert main(["--out", str(tmp_path / "p")]) == 2
    assert "pip install '.[datasets]'" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
