"""Watched and paced passes, a contract that refuses what it does not know, and when torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.peers.forward_watch import PassLog, watch_forward
from bench.peers.messages import PeerRequest, StreamedToken
from bench.peers.pacing import Pacing
from fakes import ManualClock
from thinwire.common.errors import ConfigError, RemoteProtocolError

REQUEST = PeerRequest("own", "def é():\n", max_tokens=16, temperature=0.3, seed=2**64 - 1)


class _Model(torch.nn.Module):
    """Takes so long on the clock it is given."""

    def __init__(self, clock: ManualClock, took_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._took_s = took_s

    def forward(self, input_ids: Any, **_: Any) -> Any:
        """The ids."""
        self._clock.advance(self._took_s)
        return input_ids


def lasted(folder: Path, pacing: Pacing, *passes: int, took_s: float = 0.005) -> list[dict[str, Any]]:
    """The lines of passes of so many tokens, by name and as the first argument in turn."""
    clock, path = ManualClock(), folder / "passes"
    log = PassLog(str(path))
    model = _Model(clock, took_s)
    watch_forward(model, role="target", pacing=pacing, log=log, clock=clock, sleep=clock.advance)
    began_s = clock()
    for number, tokens in enumerate(passes):
        ids = torch.zeros(1, tokens, dtype=torch.long)
        _ = model(ids) if number % 2 else model(input_ids=ids, use_cache=True)
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(line["lasted_s"] for line in lines) == pytest.approx(clock() - began_s)
    return lines


def test_every_pass_is_written_with_its_tokens_and_both_times(tmp_path: Path) -> None:
    """By name, as transformers calls it, or as the first argument."""
    lines = lasted(tmp_path, Pacing(0.02, 0.001), 3, 1)

    assert [(line["kind"], line["role"], line["tokens"]) for line in lines] == [
        ("pass", "target", 3),
        ("pass", "target", 1),
    ]
    assert [round(line["measured_s"], 6) for line in lines] == [0.005, 0.005]
    assert [round(line["lasted_s"], 6) for line in lines] == [0.023, 0.021]


@pytest.mark.parametrize(
    ("pacing", "took_s", "tokens", "lasted_s"),
    [
        pytest.param(Pacing(0.1, 0.002), 0.01, 1, 0.102, id="a fast pass is drawn out"),
        pytest.param(Pacing(0.1, 0.002), 0.01, 5, 0.11, id="each token costs b more"),
        pytest.param(Pacing(0.1, 0.002), 0.3, 5, 0.3, id="a slow pass stays as it is"),
        pytest.param(Pacing(), 0.01, 100, 0.01, id="without pacing nothing waits"),
    ],
)
def test_a_pass_lasts_the_longer_of_measured_and_due(
    tmp_path: Path, pacing: Pacing, took_s: float, tokens: int, lasted_s: float
) -> None:
    """Both times are reported."""
    (line,) = lasted(tmp_path, pacing, tokens, took_s=took_s)

    assert line["measured_s"] == pytest.approx(took_s)
    assert line["lasted_s"] == pytest.approx(lasted_s)


def test_the_argument_is_in_milliseconds_and_comes_back() -> None:
    """What the benchmark hands to its daemons is what it was given."""
    pacing = Pacing.parse("120,2.5")

    assert pacing == Pacing(0.12, 0.0025)
    assert Pacing.parse(pacing.as_argument()) == pacing
    assert str(pacing) == "paced: a target pass lasts max(measured, 120 ms + 2.5 ms x tokens)"


@pytest.mark.parametrize("text", ["", "5", "a,b", "1,2,3", "-1,0", "nan,0", "0,100000"])
def test_a_bad_pacing_is_refused(text: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        Pacing.parse(text)


def test_a_request_comes_back_as_it_was() -> None:
    """Text in any script, seeds of 64 bits."""
    assert PeerRequest.from_bytes(REQUEST.to_bytes()) == REQUEST


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"way": "own"}', b"\xff"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """As the peer's mistake."""
    with pytest.raises(RemoteProtocolError, match="no PeerRequest"):
        PeerRequest.from_bytes(data)


def test_an_unknown_way_is_refused() -> None:
    """With those there are."""
    with pytest.raises(ConfigError, match="expected one of own, generate, assisted, batched"):
        PeerRequest("telepathy", "", 1, 1.0, 0)


def test_a_token_is_six_bytes_and_its_text() -> None:
    """4 of id, 2 of pass; the framing of all three ways."""
    token = StreamedToken(8191, 7, "é = ")

    assert token.to_bytes() == bytes.fromhex("ff1f00000700") + "é = ".encode()
    assert StreamedToken.from_bytes(token.to_bytes()) == token


def test_half_a_character_does_not_break_a_message() -> None:
    """A lone surrogate cannot be sent; a question mark can."""
    assert StreamedToken(1, 1, "\ud800").to_bytes()[6:] == b"?"


@pytest.mark.parametrize("module", ["bench.peers.__main__", "bench.grid.cloud", "bench.peers.service"])
def test_openmp_is_told_how_to_wait_before_torch_is_imported(module: str) -> None:
    """OpenMP reads its variables as torch is loaded; a later word would come too late."""
    script = f"""
import builtins, os, sys
original = builtins.__import__
def watching(name, *rest, **named):
    if name == "torch":
        sys.exit(os.environ.get("OMP_WAIT_POLICY"))  # what torch would read; torch itself is not needed
    return original(name, *rest, **named)
builtins.__import__ = watching
import {module}
"""
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stderr == "PASSIVE\n"
