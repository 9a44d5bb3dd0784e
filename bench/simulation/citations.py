"""
Times of large models, as published; nothing here was measured by us.

Read on 2026-11-24. A figure's address stands beside it and is printed with every result made of it.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.simulation.scenario import PassTime


@dataclass(frozen=True, slots=True)
class CitedPass:
    """Seconds of a target's decode step over so many sequences, a row each."""

    name: str
    address: str
    step_ms: tuple[tuple[int, float], ...]
    """(rows, milliseconds)."""
    remark: str

    @property
    def by_row(self) -> PassTime:
        """The least-squares line through the figures: a drafted token costs as much as a further stream."""
        fixed_s, slope_s = self._line()
        return PassTime(fixed_s, per_row_s=slope_s)

    @property
    def by_block(self) -> PassTime:
        """The same line, but a block's rows cost no more than its one: they read its cache once."""
        fixed_s, slope_s = self._line()
        return PassTime(fixed_s, per_block_s=slope_s)

    @property
    def max_rows(self) -> int:
        """The most rows a figure was published for; no pass of ours takes more."""
        return max(rows for rows, _ in self.step_ms)

    def _line(self) -> tuple[float, float]:
        rows, milliseconds = zip(*self.step_ms, strict=True)
        line = statistics.linear_regression(rows, milliseconds)
        return line.intercept / 1000, line.slope / 1000


@dataclass(frozen=True, slots=True)
class CitedDraft:
    """A small model on an edge device, one token at a time."""

    name: str
    address: str
    tokens_per_s: float

    @property
    def step_s(self) -> float:
        """Seconds of a token."""
        return 1 / self.tokens_per_s


TARGET = CitedPass(
    name="Llama 3.1 70B Instruct, NVIDIA NIM 1.3.0, inter-token latency at 1 to 200 streams",
    address="https://docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance",
    step_ms=(
        (1, 13.21),
        (5, 12.64),
        (25, 15.31),
        (50, 17.42),
        (100, 23.28),
        (150, 27.73),
        (200, 31.22),
    ),
    remark=(
        "The text of that page we could read does not say which GPUs this table is of; it names H100s for "
        "others. CHECK, of four H100s, agrees with its line."
    ),
)
CHECK = CitedPass(
    name="LLaMA 70B, TensorRT-LLM 0.5.0, H100 FP8, tensor parallel 4, batch 64, 128 tokens in and out: "
    "3 317 tokens/s",
    address=(
        "https://raw.githubusercontent.com/NVIDIA/TensorRT-LLM/release/0.5.0/docs/source/performance.md"
    ),
    step_ms=((64, 1000 * 64 / 3317),),
    remark="One point, so no line; it holds TARGET's against known hardware.",
)
PHONE = CitedDraft(
    name="Llama 3.2 1B SpinQuant (4 bit), ExecuTorch on the CPU of a OnePlus 12",
    address="https://github.com/pytorch/executorch/blob/main/examples/models/llama/README.md",
    tokens_per_s=50.2,
)
JETSON = CitedDraft(
    name="Llama 3.2 1B Instruct on a Jetson AGX Orin, batch 1",
    address=("https://huggingface.co/spaces/embedl/Edge-Inference-Benchmarks/blob/main/data/Llama-3.2.csv"),
    tokens_per_s=65.02,
)
DRAFTS = {"phone": PHONE, "jetson": JETSON}
