"""A draft block that hung by a thread is counted, in the log too, and stands in the round log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from fakes import TableModel, TableVocabulary, random_law
from loopback import generate, loopback, make_request
from thinwire.common.observe.log import JsonFormatter
from thinwire.edge.telemetry import RoundLog

SIZE = 12


def law_with_gap(gap: float) -> np.ndarray:
    """The eight likeliest of twelve, the eighth ahead of the ninth by `gap` of itself."""
    law = np.array([0.3, 0.2, 0.1, 0.1, 0.08, 0.07, 0.06, 0.045, 0.045 * (1 - gap), 0.0, 0.0, 0.0])
    return np.asarray(law / law.sum())


@pytest.mark.parametrize(("gap", "close"), [(1e-6, True), (0.3, False)])
async def test_a_close_draft_is_logged_counted_and_told(
    gap: float, close: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every round's or none's; the lattice itself has a wide margin here, and so has the cloud's side."""
    law = law_with_gap(gap)
    draft = TableModel(lambda prefix: law, vocabulary_size=SIZE)
    log = RoundLog(str(tmp_path / "rounds.jsonl"))
    caplog.set_level(logging.INFO)
    async with loopback(TableModel(random_law(SIZE, 1)), draft, TableVocabulary(SIZE), round_log=log) as pair:
        request = make_request("ab", max_tokens=20, support_size=8, min_block_acceptance=0.0)
        finished = (await generate(pair.client, request)).finished
    log.close()

    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["kind"] == "round"]
    drafted = [line["round"] for line in rounds if line["draft_length"]]
    (ended,) = [record for record in caplog.records if record.getMessage() == "generation ended"]
    assert finished.statistics.close_drafts == (len(drafted) if close else 0)
    assert json.loads(JsonFormatter().format(ended))["close_drafts"] == finished.statistics.close_drafts
    for line in rounds:
        if line["draft_length"]:
            assert (line["draft_margin"] < 1e-6) == close
        else:
            assert line["draft_margin"] == 1.0
    assert lines[-1]["close_drafts"] == finished.statistics.close_drafts
