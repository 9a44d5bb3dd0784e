"""
Times of large models, as published; nothing here was measured by us.

Read on 2026-11-24. A figure's address stands beside it and is printed with every result made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Cited(NamedTuple):
    """A model's decode step on some machine."""

    name: str
    address: str
    step_ms: Mapping[int, float]
    """Milliseconds by the sequences it goes over, a row each."""


TARGET = Cited(
    name="Llama 3.1 70B Instruct, NVIDIA NIM 1.3.0, inter-token latency at 1 to 200 streams",
    address="https://docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance",
    step_ms={1: 13.21, 5: 12.64, 25: 15.31, 50: 17.42, 100: 23.28, 150: 27.73, 200: 31.22},
)
TARGET_REMARK = (
    "The text of that page we could read does not say which GPUs this table is of; it names H100s for "
    "others. CHECK, of four H100s, agrees with its line."
)
CHECK = Cited(
    name="LLaMA 70B, TensorRT-LLM 0.5.0, H100 FP8, tensor parallel 4, batch 64, 128 tokens in and out: "
    "3 317 tokens/s",
    address="https://raw.githubusercontent.com/NVIDIA/TensorRT-LLM/release/0.5.0/docs/source/performance.md",
    step_ms={64: 1000 * 64 / 3317},
)
"""One point, so no line; it holds TARGET's against known hardware."""
DRAFTS = {
    "phone": Cited(
        name="Llama 3.2 1B SpinQuant (4 bit), ExecuTorch on the CPU of a OnePlus 12",
        address="https://github.com/pytorch/executorch/blob/main/examples/models/llama/README.md",
        step_ms={1: 1000 / 50.2},
    ),
    "jetson": Cited(
        name="Llama 3.2 1B Instruct on a Jetson AGX Orin, batch 1",
        address="https://huggingface.co/spaces/embedl/Edge-Inference-Benchmarks/blob/main/data/Llama-3.2.csv",
        step_ms={1: 1000 / 65.02},
    ),
}
