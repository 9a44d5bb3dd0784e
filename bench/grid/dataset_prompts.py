"""
Prompts: read from a file, and made from a text dataset by `python -m bench.grid.dataset_prompts`.

    python -m bench.grid.dataset_prompts --out lm1b.jsonl                   LM1B, the paper's, from the hub
    python -m bench.grid.dataset_prompts --dataset NAME --revision REVISION --out my.jsonl
    python -m bench.grid.dataset_prompts --dataset FOLDER --field text --out my.jsonl

Needs `pip install '.[datasets]'`, and for a dataset by its name a hub that can be reached.
A prompt is a text's first words; texts that have no more than those are left out.

The hub's LM1B is a loading script, which `datasets` has refused since version 4; what is loaded is the
Parquet files that the hub made of it, in its branch refs/convert/parquet. This was written where no hub could
be reached: the branch's name is the hub's convention, and that LM1B has it is known from others' use.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import command
from bench.grid.cells import Plan
from thinwire.common.errors import ConfigError

LM1B = "billion-word-benchmark/lm1b"
PARQUET_BRANCH = "refs/convert/parquet"
"""The hub's own branch with a dataset's files as Parquet."""


class Prompt(msgspec.Struct, frozen=True):
    """One line of a prompt file."""

    id: str
    prompt: str


def read_prompts(path: Path, plan: Plan) -> tuple[list[Prompt], list[Prompt]]:
    """
    Prompts to measure with (the file's head) and to tune with (its tail).

    Raises:
        ConfigError: the file cannot be read, or holds too few.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        prompts = [Prompt(str(row.get("id", f"line {n}")), row["prompt"]) for n, row in enumerate(rows, 1)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read as lines of {{'id', 'prompt'}} ({error!r}).") from None
    needed = plan.prompts + plan.tuning_prompts
    if len(prompts) < needed:
        raise ConfigError(
            f"{path} holds {len(prompts)} prompts; expected at least {needed}: "
            f"{plan.prompts} measured and {plan.tuning_prompts} for tuning."
        )
    return prompts[: plan.prompts], prompts[len(prompts) - plan.tuning_prompts :]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; 2 for what cannot be had."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", default=LM1B, help="folder, or name on the hub (default %(default)s)")
    add("--revision", help=f"on the hub (default: main; of {LM1B} {PARQUET_BRANCH})")
    add("--split", default="test")
    add("--field", default="text", help="of a row (default %(default)s)")
    add("--count", type=int, default=200)
    add("--words", type=int, default=12, help="of a prompt (default %(default)s)")
    add("--out", type=Path, required=True, metavar="FILE")
    given = parser.parse_args(arguments)

    def work() -> int:
        rows = _rows(given.dataset, given.split, given.revision)
        prompts = list(itertools.islice(_first_words(rows, given.field, given.words), given.count))
        if len(prompts) < given.count:
            raise ConfigError(
                f"the dataset has {len(prompts)} texts of more than {given.words} words; "
                f"expected {given.count}."
            )
        given.out.write_bytes(msgspec.json.Encoder().encode_lines(prompts))
        print(f"{len(prompts)} prompts of {given.dataset} in {given.out}")
        return 0

    return command.run("dataset_prompts", work)


def _rows(dataset: str, split: str, revision: str | None) -> Iterable[Mapping[str, Any]]:
    """A dataset's rows, streamed, in their order."""
    try:
        import datasets
    except ImportError:
        raise ConfigError("the package `datasets` is missing; expected pip install '.[datasets]'.") from None
    options = {"split": split, "streaming": True}
    options["revision"] = revision or (PARQUET_BRANCH if dataset == LM1B else None)
    try:
        rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(dataset, **options)
    except Exception as error:  # hub, network, format: every kind occurs
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"dataset {dataset!r}, split {split!r}, cannot be loaded ({first}); expected a folder, or a name "
            "on a hub that can be reached."
        ) from error
    return rows


def _first_words(rows: Iterable[Mapping[str, Any]], field: str, words: int) -> Iterator[Prompt]:
    """Of every text that has more."""
    for number, row in enumerate(rows):
        if field not in row:
            known = ", ".join(sorted(row))
            raise ConfigError(f"row {number} has no field {field!r}; expected one of {known}.")
        parts = str(row[field]).split()
        if len(parts) > words:
            yield Prompt(f"row {number}", " ".join(parts[:words]))


if __name__ == "__main__":
    sys.exit(main())
