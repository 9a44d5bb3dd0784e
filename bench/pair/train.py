"""
Trains the pair: target and draft model together, then the draft alone against the frozen target.

    python -m bench.pair.train --minutes 90

The learning rates follow the wall clock, so a run ends on time on any machine. Both models see the same batches:
the target learns the text, the draft learns the text and the target's distribution, which is made anyway.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.pair import data, export
from bench.pair.losses import target_and_draft
from bench.pair.model import DRAFT, TARGET, Llama, compile_layers
from bench.pair.optimizer import optimizers

log = logging.getLogger("train")

ROWS, LENGTH = 16, 256
LONG_ROWS, LONG_LENGTH = 4, 1024
LONG_SHARE = 0.08
"""Last part of the joint phase trained on long blocks, so that positions up to 1024 have been seen."""
WARM_UP_STEPS = 40
DRAFT_SHARE = 0.15
"""Last part of the run: the draft alone, target frozen at its final (bfloat16-rounded) weights."""
MATRIX_LR, EMBEDDING_LR = 0.01, 0.006
DRAFT_MATRIX_LR, DRAFT_EMBEDDING_LR = 0.015, 0.01
CHECKPOINT_S = 180.0


def rate(progress: float, step: int) -> float:
    """Share of the peak learning rate: warm-up by steps, then linear to 3 % by the clock's progress in [0, 1]."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.03, min(1.0, 1.15 * (1.0 - progress)))


def set_rates(all_optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Scale every group's peak rate."""
    for optimizer in all_optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share


def step(
    target: Llama,
    draft: Llama,
    batch: Tensor,
    *,
    train_target: bool,
    label_share: float,
    variation_share: float,
) -> dict[str, Tensor]:
    """One forward and backward of both models; gradients are left in the parameters."""
    ids, labels = batch[:, :-1], batch[:, 1:].reshape(-1)
    with torch.set_grad_enabled(train_target):
        hidden = target(ids)
    draft_hidden = draft(ids)
    out = target_and_draft(
        hidden.detach().reshape(-1, target.shape.hidden),
        target.head.detach(),
        labels,
        draft_hidden.detach().reshape(-1, draft.shape.hidden),
        draft.head.detach(),
        label_share,
        variation_share,
        train_target,
    )
    draft_hidden.backward(out["draft_hidden_grad"].view_as(draft_hidden))
    add_grad(draft.head, out["draft_head_grad"])
    if train_target:
        hidden.backward(out["hidden_grad"].view_as(hidden))
        add_grad(target.head, out["head_grad"])
    return out


def add_grad(parameter: Any, grad: Tensor) -> None:
    """Add the output head's gradient to the embedding's."""
    parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)


def apply(model: Llama, model_optimizers: list[torch.optim.Optimizer]) -> None:
    """Clip, update, clear."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in model_optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def weights(model: Llama) -> dict[str, Tensor]:
    """State dict under the transformers names."""
    return {name.replace("._orig_mod", ""): w for name, w in model.state_dict().items()}


def write_pair(target: Llama, draft: Llama, tokenizer: Path, folder: Path) -> None:
    """Both models in Hugging Face format under `folder`."""
    export.write(weights(target), TARGET, tokenizer, folder / "target")
    export.write(weights(draft), DRAFT, tokenizer, folder / "draft")


def train(minutes: float, work: Path, out: Path) -> None:
    """Train both models within `minutes` and write them under `out`; curves go to work/curve.jsonl."""
    torch.manual_seed(data.SEED)
    target, draft = Llama(TARGET), Llama(DRAFT)
    compile_layers(target)
    compile_layers(draft)
    target_optimizers = optimizers(target, MATRIX_LR, EMBEDDING_LR)
    draft_optimizers = optimizers(draft, DRAFT_MATRIX_LR, DRAFT_EMBEDDING_LR)
    blocks = data.Blocks(work)
    begun = time.monotonic()
    total_s, joint_s = minutes * 60, minutes * 60 * (1 - DRAFT_SHARE)
    position = steps = tokens = 0
    checkpoint_at, report_at = CHECKPOINT_S, 20
    sums = {"target_loss": 0.0, "draft_loss": 0.0, "accept": 0.0, "positions": 0}
    frozen = False
    with (work / "curve.jsonl").open("w") as curve:
        while (elapsed := time.monotonic() - begun) < total_s:
            joint = elapsed < joint_s
            if not joint and not frozen:
                frozen = True
                with torch.no_grad():
                    for parameter in target.parameters():
                        parameter.copy_(parameter.to(torch.bfloat16).float())
            long = (1 - LONG_SHARE) * joint_s < elapsed < joint_s
            batch, position = blocks.batch(
                position, LONG_ROWS if long else ROWS, LONG_LENGTH if long else LENGTH
            )
            late = elapsed > 0.6 * joint_s
            out_step = step(
                target,
                draft,
                batch,
                train_target=joint,
                label_share=0.1 if late else 0.4,
                variation_share=0.5 if late else 0.0,
            )
            if joint:
                set_rates(target_optimizers, rate(elapsed / joint_s, steps))
                apply(target, target_optimizers)
            set_rates(draft_optimizers, rate(elapsed / total_s, steps))
            apply(draft, draft_optimizers)
            steps += 1
            tokens += ROWS * LENGTH
            for name in ("target_loss", "draft_loss", "accept"):
                sums[name] += float(out_step[name])
            sums["positions"] += ROWS * LENGTH
            if steps == report_at:
                report_at += 100
                row = {
                    "minutes": round((time.monotonic() - begun) / 60, 2), "steps": steps, "tokens": tokens,
                    "target_nats_per_token": round(sums["target_loss"] / sums["positions"], 4),
                    "draft_nats_per_token": round(sums["draft_loss"] / sums["positions"], 4),
                    "acceptance_rate": round(sums["accept"] / sums["positions"], 4),
                }  # fmt: skip
                curve.write(json.dumps(row) + "\n")
                curve.flush()
                log.info("%s", row)
                sums = dict.fromkeys(sums, 0)
            if elapsed > checkpoint_at:
                checkpoint_at += CHECKPOINT_S
                write_pair(target, draft, work / "tokenizer", work / "checkpoint")
    write_pair(target, draft, work / "tokenizer", out)
    record = {"minutes": minutes, "steps": steps, "tokens": tokens, "threads": torch.get_num_threads()}
    (work / "run.json").write_text(json.dumps(record, indent=1))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--minutes", type=float, default=90.0, help="wall-clock minutes (default 90)")
    parser.add_argument("--work", type=Path, default=data.WORK, help="folder of corpus, curves, checkpoints")
    parser.add_argument("--out", type=Path, default=None, help="where the pair goes (default WORK/pair)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(os.cpu_count() or 1)
    data.prepare(arguments.work)
    train(arguments.minutes, arguments.work, arguments.out or arguments.work / "pair")


if __name__ == "__main__":
    main()
