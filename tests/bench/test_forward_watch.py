"""Watching a model's forward: whoever calls it, the pass is timed, paced and written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bench.peers.forward_watch import PassLog, watch_forward
from bench.peers.pacing import Pacing
from fakes import ManualClock


class _Model(torch.nn.Module):
    """Takes 5 ms on the clock it is given."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def forward(self, input_ids: Any, **_: Any) -> Any:
        """The ids."""
        self._clock.advance(0.005)
        return input_ids


def test_every_pass_is_written_with_its_tokens_and_both_times(tmp_path: Path) -> None:
    """By name, as transformers calls it, or as the first argument."""
    clock, path = ManualClock(), tmp_path / "passes"
    log = PassLog(str(path))
    model = _Model(clock)
    watch_forward(
        model,
        role="target",
        pacing=Pacing(0.02, 0.001),
        log=log,
        clock=clock,
        sleep=clock.advance,
    )
    began_s = clock()

    model(input_ids=torch.zeros(1, 3, dtype=torch.long), use_cache=True)
    model(torch.zeros(1, 1, dtype=torch.long))
    log.close()

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["role"], line["tokens"]) for line in lines] == [
        ("pass", "target", 3),
        ("pass", "target", 1),
    ]
    assert [round(line["measured_s"], 6) for line in lines] == [0.005, 0.005]
    assert [round(line["lasted_s"], 6) for line in lines] == [0.023, 0.021]
    assert round(clock() - began_s, 6) == 0.044
