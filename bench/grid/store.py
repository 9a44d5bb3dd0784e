"""
A folder of results: `settings.json`, `links.jsonl`, `generations.jsonl`, `rounds.jsonl`.

Lines are written at once. A text's rounds come first and its generation line last, so that a text counts only
when all of it is there; a line that a crash cut short is dropped when the folder is opened again.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.grid.records import GenerationRecord

VOLATILE = ("started_at", "command", "revision")
"""Settings that may differ between a run and its resumption."""


class StoreError(Exception):
    """The folder cannot be used; the message says why."""


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a file, or of the same packed as .gz, as an object; none if there is neither."""
    packed = path.with_name(f"{path.name}.gz")
    if not path.exists() and not packed.exists():
        return
    with path.open("rb") if path.exists() else gzip.open(packed) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # cut short
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise StoreError(f"{path}, line {number} is no JSON ({error}).") from None


def read_generations(folder: Path) -> list[GenerationRecord]:
    """
    Every text of a folder; of one that was run again after a failure, the last.

    Raises:
        StoreError: there are none.
    """
    records = map(GenerationRecord.from_dict, read_lines(folder / "generations.jsonl"))
    by_key = {record.key: record for record in records}
    if not by_key:
        raise StoreError(
            f"{folder} holds no generations.jsonl with a line in it; expected a benchmark's folder."
        )
    return list(by_key.values())


def read_settings(folder: Path) -> dict[str, Any]:
    """The run's settings; empty if there are none."""
    path = folder / "settings.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.exists() else {}


def open_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """
    Make a new run's folder; of a run that is there, see that it is the same.

    Args:
        settings: what defines the run; JSON values. `VOLATILE` ones may differ.

    Raises:
        StoreError: the folder holds a run with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = read_settings(folder)
    names = {*before, *settings} - set(VOLATILE)
    differing = sorted(name for name in names if before.get(name) != settings.get(name))
    if not before:
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    elif differing:
        raise StoreError(
            f"{folder} holds a run with another {', '.join(differing)}; expected the same, or a new --out."
        )


def drop_cut_line(path: Path) -> None:
    """Cut a file after its last newline."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


class Store:
    """The folder of a run, new or resumed; arguments and errors of `open_folder`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        open_folder(folder, settings)
        for name in ("links", "generations", "rounds"):
            drop_cut_line(folder / f"{name}.jsonl")
        records = map(GenerationRecord.from_dict, read_lines(folder / "generations.jsonl"))
        self.done = {record.key: record for record in records if not record.failure}
        """Texts that are there, failures left out: they are run again."""

    def add(self, record: GenerationRecord, rounds: Iterable[str] = ()) -> None:
        """Write a text with its round lines."""
        self._append("rounds", *rounds)
        self._append("generations", record.to_json())
        if not record.failure:
            self.done[record.key] = record

    def add_link(self, described: Mapping[str, Any]) -> None:
        """Write a link's description and self-test."""
        self._append("links", json.dumps(described))

    def rounds_of(self, attempts: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Round lines of texts, in their order, by the texts' attempts."""
        found: dict[str, list[dict[str, Any]]] = {attempt: [] for attempt in attempts}
        for line in read_lines(self.folder / "rounds.jsonl"):
            if line["attempt"] in found:
                found[line["attempt"]].append(line)
        return found

    def _append(self, name: str, *lines: str) -> None:
        with (self.folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
