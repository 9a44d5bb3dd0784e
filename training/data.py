"""Prepares and serves the training data: token streams on disk, shuffled blocks in memory."""

from __future__ import annotations

import json
import logging
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from training import corpus, tokenizer
from training.corpus import Document

SEED = 20261124
WORK = Path(__file__).parent / "work"
log = logging.getLogger(__name__)


def by_package(documents: list[Document]) -> dict[str, dict[str, int]]:
    """Bytes and files of each top-level package, e.g. {"torch": {"bytes": 1, "files": 1}}."""
    table: dict[str, dict[str, int]] = {}
    for document in documents:
        row = table.setdefault(document.source.split("/")[0], {"bytes": 0, "fragments": 0})
        row["bytes"] += len(document.text.encode())
        row["fragments"] += 1
    return table


def prepare(work: Path = WORK, *, tokenizer_of: Path | None = None) -> None:
    """
    Writes the tokenizer, the token streams and corpus.json under `work`, unless present.

    The tokenizer is learnt from the training text, or is that of the pair `tokenizer_of`.
    """
    if (work / "corpus.json").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    sources = corpus.packages()
    training, held_out = corpus.split(corpus.collect(sources))
    random.Random(SEED).shuffle(training)
    log.info("%d training fragments, %d held-out files", len(training), len(held_out))
    learnt = tokenizer.load(tokenizer_of / "target") if tokenizer_of else tokenizer.learn(training)
    tokenizer.save(learnt, work / "tokenizer")
    stream = tokenizer.encode(learnt, training)
    np.save(work / "training.npy", stream)
    with (work / "held_out.jsonl").open("w") as file:
        for document in held_out:
            file.write(json.dumps(asdict(document)) + "\n")
    record = {
        "packages": [{"name": p.name, "version": p.version, "licence": p.licence} for p in sources],
        "training": by_package(training),
        "held_out": by_package(held_out),
        "training_bytes": sum(len(d.text.encode()) for d in training),
        "training_tokens": len(stream),
        "held_out_bytes": sum(len(d.text.encode()) for d in held_out),
        "held_out_files": len(held_out),
        "window_lines": corpus.WINDOW,
        "seed": SEED,
    }
    (work / "corpus.json").write_text(json.dumps(record, indent=1))


def held_out(work: Path = WORK) -> list[Document]:
    """The held-out files, as collected."""
    with (work / "held_out.jsonl").open() as file:
        return [Document(**json.loads(line)) for line in file]


class Blocks:
    """Serves batches of consecutive tokens from the training stream, each block once an epoch.

    A phase with longer blocks goes on where the one before stopped: blocks are drawn from
    segments of `segment` tokens in one shuffled order, so no token is seen twice in an epoch.
    """

    def __init__(self, work: Path = WORK, segment: int = 1024, seed: int = SEED) -> None:
        self.stream = np.load(work / "training.npy", mmap_mode="r")
        self.segment = segment
        self.count = (len(self.stream) - 1) // segment
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def batch(self, position: int, rows: int, length: int) -> tuple[torch.Tensor, int]:
        """Rows of length+1 tokens starting at segment number `position` of the shuffled order.

        Returns (int64 [rows, length + 1], the next position). `length` divides `segment` and
        `rows * length` is a multiple of it.
        """
        per_segment = self.segment // length
        needed = rows // per_segment
        out = np.empty((rows, length + 1), dtype=np.int64)
        row = 0
        for number in range(position, position + needed):
            epoch, index = divmod(number, self.count)
            if self._epoch != epoch:
                self._order = np.random.default_rng(self.seed + epoch).permutation(self.count)
                self._epoch = epoch
            start = int(self._order[index]) * self.segment
            for part in range(per_segment):
                at = start + part * length
                out[row] = self.stream[at : at + length + 1]
                row += 1
        return torch.from_numpy(out), position + needed
