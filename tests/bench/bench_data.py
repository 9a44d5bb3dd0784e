"""Canned records, and a link with daemons that exist only in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.grid.cells import Cell, Plan
from bench.grid.measure import Observed
from bench.grid.methods import Method
from bench.grid.processes import RunSettings
from bench.grid.records import GenerationRecord
from bench.grid.runner import Runner
from bench.grid.store import Store
from link.carrier import DirectionCounters, LinkCounters

PAPER_RECORDED = Path(__file__).parent / "paper_recorded"
"""Lines of `python -m bench.paper --smoke`."""
CELL = Cell(32_000, 0.04, 1.0)
RECORD = json.loads(
    """{
    "rate_up_bps": 32000, "rtt_s": 0.04, "temperature": 1.0,
    "method": "k-sqs:K=8", "prompt": "p000", "seed": 1, "purpose": "measured", "trial": "",
    "attempt": "0123456789ab", "way": "k-sqs", "is_peer": false,
    "parameters": {"draft_length": 4, "support_size": 8}, "tuned_by": "measured", "short": false,
    "pacing_base_s": 0.0, "pacing_per_token_s": 0.0, "link_kind": "wire",
    "began_at": "2026-11-24T16:00:00+00:00", "requested_tokens": 9, "output_tokens": 9,
    "first_token_s": 0.8, "last_token_s": 4.0, "largest_gap_s": 1.2, "rounds": 3, "drafted_tokens": 12,
    "tested_tokens": 8, "accepted_tokens": 6, "resampled_tokens": 2, "uplink_payload_bits": 1200,
    "wire_up_bytes": 900, "wire_down_bytes": 450, "target_passes": 4, "target_tokens": 50,
    "target_s": 0.09, "target_measured_s": 0.09, "draft_s": 0.18, "network_s": 0.9
    }"""
)


def make_record(**changes: Any) -> GenerationRecord:
    """A text of 9 tokens in 4 s, the first after 0.8 s."""
    return GenerationRecord(**{**RECORD, **changes})


def stream(prompt: str, last_token_s: float, **changes: Any) -> GenerationRecord:
    """A streamed text."""
    peer = {"method": "cloud-stream", "way": "own", "is_peer": True, "parameters": {}, "tuned_by": "name"}
    counts = dict.fromkeys(("drafted_tokens", "tested_tokens", "accepted_tokens", "resampled_tokens"), 0)
    text = {"prompt": prompt, "last_token_s": last_token_s, "rounds": 9}
    return make_record(**{**peer, **counts, **text, **changes})


def make_counters(bytes_up: int, bytes_down: int, packets: int = 0, dropped: int = 0) -> LinkCounters:
    """Counters of a link; `packets` and `dropped` in either direction."""
    up, down = (DirectionCounters(packets, count, dropped, 0) for count in (bytes_up, bytes_down))
    return LinkCounters(up, down)


class FakeStage:
    """
    Answers every request with a whole text of one round a token, 1000 bytes up and 500 down.

    Args:
        dies_after: requests until the next one raises KeyboardInterrupt.
        fails_on: a scheme or way whose texts fail.
    """

    def __init__(self, *, dies_after: int | None = None, fails_on: str = "") -> None:
        self.requests: list[Mapping[str, Any]] = []
        self._dies_after = dies_after
        self._fails_on = fails_on

    def describe(self) -> dict[str, Any]:
        """Barely."""
        return {"run_id": "fake"}

    def text(self, request: Mapping[str, Any]) -> Observed:
        """A token every 10 ms, and 10 ms more for each token of the draft length."""
        if self._dies_after is not None and len(self.requests) >= self._dies_after:
            raise KeyboardInterrupt
        self.requests.append(request)
        tokens, length, is_peer = request["max_tokens"], request["draft_length"], "way" in request
        counted = ("rounds", "drafted_tokens", "tested_tokens", "accepted_tokens", "resampled_tokens")
        counts = dict.fromkeys((*counted, "uplink_payload_bits", "draft_s", "network_s", "verify_s"), tokens)
        answer = {
            "arrivals": [(0.01 * (1 + length) * (n + 1), 1, n + 1) for n in range(tokens)],
            "text_sha256": "00",
            "statistics": {} if is_peer else counts,
        }
        if request.get("way", request.get("scheme")).partition(":")[0] == self._fails_on:
            answer = {"failure": "UNAVAILABLE: gone"}
        one = {"kind": "pass", "role": "target", "tokens": 1, "measured_s": 0.01, "lasted_s": 0.01}
        rounds = [] if is_peer else [edge_round(n + 1, length) for n in range(tokens)]
        return Observed(answer, make_counters(0, 0), make_counters(1000, 500, 10), [one] * tokens, rounds)


def edge_round(number: int, draft_length: int) -> dict[str, Any]:
    """The edge's line of a round that took 10 ms and 10 ms for each draft, none of which was accepted."""
    return {
        "kind": "round",
        "round": number,
        "draft_length": draft_length,
        "accepted": 0,
        "uplink_payload_bits": 80 * draft_length,
        "uplink_message_bytes": 20 + 10 * draft_length,
        "downlink_message_bytes": 20,
        "draft_s": 0.01 * draft_length,
        "round_trip_s": 0.01,
        "queue_s": 0.0,
        "verify_s": 0.005,
    }


class FakeStages:
    """Opens fake links; keeps what ran on them."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.opened: list[FakeStage] = []

    @contextmanager
    def __call__(self, cell: Cell) -> Iterator[FakeStage]:
        """A cell's link."""
        self.opened.append(FakeStage(**self._options))
        yield self.opened[-1]


class Silent:
    """A progress that only adds up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def advance(self, seconds: float) -> None:
        """Adds."""
        self.seconds += seconds

    def say(self, line: str) -> None:
        """Nothing."""


def run_settings(prompts: Path) -> RunSettings:
    """Settings of a run whose daemons are fakes."""
    return RunSettings(prompts.parent / "work", prompts=prompts, pair=Path("pair"))


def run_over_fakes(
    plan: Plan, methods: Sequence[Method], prompts: Path, out: Path, **options: Any
) -> tuple[FakeStages, Silent]:
    """One start of a plan; the options are those of `FakeStage`."""
    stages, progress = FakeStages(**options), Silent()
    Runner(plan, methods, run_settings(prompts), out, progress, open_=stages).run()
    return stages, progress


def keep(folder: Path, *records: GenerationRecord, **settings: Any) -> Path:
    """The folder of a run with these texts."""
    store = Store(folder, settings)
    for record in records:
        store.add(record)
    return folder


def beside_a_stream(stream_s: Mapping[int, float], *prompts: str, **changes: Any) -> list[GenerationRecord]:
    """Ours, and the target's stream in so many seconds, at each of these uplinks' rates."""
    where = [(prompt, rate) for prompt in prompts or ("p000",) for rate in stream_s]
    ours = [make_record(prompt=prompt, rate_up_bps=rate, **changes) for prompt, rate in where]
    streams = [stream(prompt, stream_s[rate], rate_up_bps=rate, **changes) for prompt, rate in where]
    return ours + streams
