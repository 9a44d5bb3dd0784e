"""
Measures the pair as it is shipped: loss on held-out text, agreement of draft and target, cost of a pass.

    python -m training.measure

Everything is computed from the bfloat16 files, loaded in float32.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from bench.timing import times_s
from thinwire.common import demo_pair
from training import data

log = logging.getLogger("measure")

LENGTH = 512
HELD_OUT_BLOCKS = 64
TEMPERATURES = (0.3, 0.6, 1.0)
TIMED_PASSES = 60
SEQUENCES, PROMPT_TOKENS, NEW_TOKENS = 16, 64, 256
"""16 × 256 = 4096 positions of the target's own text at each temperature."""


def held_out_blocks(tokenizer: object, work: Path) -> tuple[Tensor, float]:
    """(blocks int64 [n, LENGTH + 1], bytes a token) of held-out text, documents one after another."""
    ids: list[int] = []
    size = 0
    for document in data.held_out(work):
        piece = tokenizer(document.text)["input_ids"]  # type: ignore[operator]
        size += len(document.text.encode())
        ids += [*piece, 0]
    blocks = (len(ids) - 1) // LENGTH
    step = max(1, blocks // HELD_OUT_BLOCKS)
    rows = [ids[b * LENGTH : b * LENGTH + LENGTH + 1] for b in range(0, blocks, step)]
    return torch.tensor(rows), size / len(ids)


@torch.inference_mode()
def nats_per_token(model: torch.nn.Module, blocks: Tensor) -> float:
    """Mean cross-entropy over all positions of the blocks."""
    total = 0.0
    for row in torch.split(blocks, 4):
        logits = model(row[:, :-1]).logits
        total += float(
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten(), reduction="sum")
        )
    return total / (blocks.shape[0] * LENGTH)


@torch.inference_mode()
def acceptance_rate(target: Any, draft: Any, prompts: Tensor, temperature: float) -> float:
    """Mean 1 - TV(p, q) over positions of text that the target sampled at `temperature`, both warped."""
    torch.manual_seed(data.SEED)
    cache, ids, feed = DynamicCache(config=target.config), prompts, prompts
    for _ in range(NEW_TOKENS):
        logits = target(feed, past_key_values=cache, use_cache=True).logits[:, -1] / temperature
        feed = torch.multinomial(torch.softmax(logits, -1), 1)
        ids = torch.cat([ids, feed], dim=1)
    overlap = 0.0
    for row in torch.split(ids, 2):
        p = torch.softmax(target(row).logits[:, PROMPT_TOKENS - 1 : -1] / temperature, -1)
        q = torch.softmax(draft(row).logits[:, PROMPT_TOKENS - 1 : -1] / temperature, -1)
        overlap += float(torch.minimum(p, q).sum())
    return overlap / (ids.shape[0] * NEW_TOKENS)


@torch.inference_mode()
def pass_ms(models: dict[str, Any], tokens: int) -> dict[str, float]:
    """
    Median milliseconds of one cached pass of `tokens` tokens of each model, 64 tokens in the cache.

    The models take turns, so that other load on the machine falls on all of them alike.
    """
    caches = {name: DynamicCache(config=model.config) for name, model in models.items()}

    def feed(name: str, tokens: int) -> None:
        models[name](torch.full((1, tokens), 5), past_key_values=caches[name], use_cache=True)

    def feed_and_take_back(name: str) -> None:
        feed(name, tokens)
        caches[name].crop(-tokens)

    for name in models:
        feed(name, 64)
    times = times_s([partial(feed_and_take_back, name) for name in models], TIMED_PASSES)
    return {name: median(values) * 1e3 for name, values in zip(models, times, strict=True)}


def measure(pair: Path, work: Path) -> dict[str, object]:
    """All figures of the pair in `pair`/{target,draft}."""
    tokenizer = AutoTokenizer.from_pretrained(pair / "target")
    models: dict[str, Any] = {
        name: AutoModelForCausalLM.from_pretrained(pair / name, dtype=torch.float32)
        for name in ("target", "draft")
    }  # in evaluation mode, as `from_pretrained` leaves them
    target, draft = models["target"], models["draft"]
    blocks, bytes_per_token = held_out_blocks(tokenizer, work)
    figures: dict[str, object] = {"bytes_per_token": round(bytes_per_token, 3)}
    one, five = pass_ms(models, 1), pass_ms(models, 5)
    for name, model in models.items():
        nats = nats_per_token(model, blocks)
        figures[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "file_bytes": (pair / name / "model.safetensors").stat().st_size,
            "held_out_nats_per_token": round(nats, 4),
            "held_out_bits_per_byte": round(nats / math.log(2) / bytes_per_token, 4),
            "pass_of_1_ms": round(one[name], 2),
            "pass_of_5_ms": round(five[name], 2),
        }
        log.info("%s: %s", name, figures[name])
    figures["held_out_positions"] = blocks.shape[0] * LENGTH
    figures["target_passes_per_draft_pass"] = round(one["target"] / one["draft"], 2)
    prompts = blocks[:SEQUENCES, :PROMPT_TOKENS]
    rates: dict[str, float] = {}
    for temperature in TEMPERATURES:
        rates[str(temperature)] = round(acceptance_rate(target, draft, prompts, temperature), 4)
        log.info("acceptance rate at temperature %s: %s", temperature, rates[str(temperature)])
    figures["acceptance_rate"] = rates
    figures["acceptance_positions"] = SEQUENCES * NEW_TOKENS
    return figures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Measure the pair as it is shipped.")
    parser.add_argument("--pair", type=Path, default=demo_pair.target_path().parent)
    parser.add_argument("--work", type=Path, default=data.WORK, help="folder of the corpus (held-out text)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    data.prepare(arguments.work)
    figures = measure(arguments.pair, arguments.work)
    (arguments.work / "figures.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
