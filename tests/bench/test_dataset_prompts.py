"""Prompts from a dataset: what is taken, what is left out, and what is refused."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from bench.grid.cells import SMOKE
from bench.grid.dataset_prompts import LM1B, main, read_prompts

ROWS = [{"text": f"one two three four {n}" if n % 2 else "too short"} for n in range(20)]
ARGUMENTS = ["--words", "4", "--count", "10"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `datasets`, which is stood in for, was asked for."""
    calls: list[Any] = []

    def load_dataset(name: str, **options: Any) -> list[dict[str, str]]:
        calls.append({"name": name, **options})
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


@pytest.mark.parametrize(
    ("options", "name", "revision"),
    [
        (["--dataset", "d"], "d", None),
        # The main branch of the paper's dataset holds a loading script, which `datasets` 5 refuses.
        ([], LM1B, "refs/convert/parquet"),
        (["--revision", "main"], LM1B, "main"),
    ],
)
def test_the_file_has_the_first_words_of_texts_that_go_on(
    tmp_path: Path, asked: list[Any], options: list[str], name: str, revision: str | None
) -> None:
    """In the dataset's order, the id telling the row, as the benchmark reads them; a stream is asked for."""
    out = tmp_path / "prompts.jsonl"

    assert main([*ARGUMENTS, *options, "--out", str(out)]) == 0
    assert asked == [{"name": name, "split": "test", "streaming": True, "revision": revision}]
    assert len(out.read_text().splitlines()) == 10
    (first,), _ = read_prompts(out, SMOKE)
    assert (first.id, first.prompt) == ("row 1", "one two three four")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--count", "11"], "has 10 texts of more than 4 words; expected 11"),
        (["--field", "body"], "no field 'body'; expected one of text"),
        (None, "pip install '.[datasets]'"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_cannot_be_had_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str] | None,
    words: str,
) -> None:
    """With what was found and what was expected; None is without the package. Nothing is written."""
    if options is None:
        monkeypatch.setitem(sys.modules, "datasets", None)

    assert main([*ARGUMENTS, *(options or ()), "--out", str(tmp_path / "p")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
