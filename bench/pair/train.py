"""
Trains the pair: first the target model, then the draft model against the finished target.

    python -m bench.pair.train --minutes 90
    python -m bench.pair.train --minutes 90 --start common/bundled    # go on from a pair

The learning rates follow the wall clock, so a run ends on time on any machine. The draft learns the text and
the target's distribution on the same blocks; the target's weights are rounded to bfloat16 first, as shipped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from datetime import UTC, datetime
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
"""Last part of the target's phase, trained on long blocks, so that positions up to 1024 have been seen."""
WARM_UP_STEPS = 40
DRAFT_SHARE = 0.22
"""Last part of the run, the draft's."""
LATE_SHARE = 0.7
"""Last part of the draft's phase, led by total variation, which is what acceptance is about."""
MATRIX_LR, EMBEDDING_LR = 0.01, 0.006
DRAFT_MATRIX_LR, DRAFT_EMBEDDING_LR = 0.015, 0.01
CHECKPOINT_S = 180.0
REPORT_STEPS = 50
UNFINISHED = -1
LOSSES = ("target_loss", "draft_loss", "accept")


def rate(progress: float, step: int) -> float:
    """Share of the peak rate: warm-up by steps, then linear to 3 % by the clock's progress (0 to 1)."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.03, min(1.0, 1.15 * (1.0 - progress)))


def set_rates(all_optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Scale every group's peak rate."""
    for optimizer in all_optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share


def target_step(target: Llama, batch: Tensor) -> dict[str, Tensor]:
    """One forward and backward of the target; gradients are left in the parameters."""
    hidden = target(batch[:, :-1])
    out = target_and_draft(
        hidden.detach().reshape(-1, target.shape.hidden),
        target.head.detach(),
        batch[:, 1:].reshape(-1),
        None,
        None,
        label_share=0.0,
    )
    hidden.backward(out["hidden_grad"].view_as(hidden))
    add_grad(target.head, out["head_grad"])
    return out


def draft_step(target: Llama, draft: Llama, batch: Tensor, *, late: bool) -> dict[str, Tensor]:
    """One forward of the target, forward and backward of the draft."""
    with torch.no_grad():
        hidden = target(batch[:, :-1])
    draft_hidden = draft(batch[:, :-1])
    out = target_and_draft(
        hidden.reshape(-1, target.shape.hidden),
        target.head.detach(),
        batch[:, 1:].reshape(-1),
        draft_hidden.detach().reshape(-1, draft.shape.hidden),
        draft.head.detach(),
        label_share=0.0 if late else 0.3,
        variation_share=0.9 if late else 0.0,
        train_target=False,
    )
    draft_hidden.backward(out["draft_hidden_grad"].view_as(draft_hidden))
    add_grad(draft.head, out["draft_head_grad"])
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


def save_state(file: Path, parts: list[Any], progress: dict[str, Any]) -> None:
    """All that a run needs to go on, written beside and moved over the last one."""
    partial = file.with_suffix(".partial")
    torch.save({"parts": [part.state_dict() for part in parts], "progress": progress}, partial)
    partial.replace(file)


def load_state(file: Path, parts: list[Any]) -> dict[str, Any]:
    """Put a saved state into models and optimizers; returns the progress that was saved with it."""
    state: dict[str, Any] = torch.load(file, weights_only=True)
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)
    progress: dict[str, Any] = state["progress"]
    return progress


def round_weights(model: Llama) -> None:
    """Round to bfloat16, the precision the pair is shipped in."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())


def train(
    minutes: float,
    work: Path,
    out: Path,
    *,
    draft_share: float = DRAFT_SHARE,
    start: Path | None = None,
    resume: bool = False,
) -> None:
    """
    Train both models within `minutes` and write them under `out`; curves go to work/curve.jsonl.

    Args:
        draft_share: last part of the time, the draft's; 1 trains the draft alone.
        start: a pair to go on from (with the tokenizer in `work`); None for fresh weights.
        resume: go on from work/state.pt, the clock where the checkpoint left it.
    """
    torch.manual_seed(data.SEED)
    target, draft = Llama(TARGET), Llama(DRAFT)
    if start is not None:
        target, draft = export.read(start / "target", TARGET), export.read(start / "draft", DRAFT)
    compile_layers(target)
    compile_layers(draft)
    target_optimizers = optimizers(target, MATRIX_LR, EMBEDDING_LR)
    draft_optimizers = optimizers(draft, DRAFT_MATRIX_LR, DRAFT_EMBEDDING_LR)
    # Another order of the blocks, so that a second run does not begin with those of the first.
    history = export.read_history(start)
    blocks = data.Blocks(work, seed=data.SEED + len(history))
    begun = time.monotonic()
    total_s, target_s = minutes * 60, minutes * 60 * (1 - draft_share)
    at = {"position": 0, "steps": 0, "tokens": 0, "frozen": UNFINISHED}
    """Where the run stands; `frozen` is the step at which the target was finished."""
    sums = dict.fromkeys((*LOSSES, "positions"), 0.0)
    parts = [target, draft, *target_optimizers, *draft_optimizers]
    if resume:
        saved = load_state(work / "state.pt", parts)
        begun -= saved["elapsed"]
        at = saved["at"]
        log.info("going on after %d steps", at["steps"])
    checkpoint_at = time.monotonic() - begun + CHECKPOINT_S
    with (work / "curve.jsonl").open("a" if resume or history else "w") as curve:
        while (elapsed := time.monotonic() - begun) < total_s:
            if elapsed >= target_s and at["frozen"] == UNFINISHED:
                at["frozen"] = at["steps"]
                round_weights(target)
                sums = dict.fromkeys(sums, 0.0)
            long = (1 - LONG_SHARE) * target_s < elapsed < target_s
            batch, at["position"] = blocks.batch(
                at["position"], LONG_ROWS if long else ROWS, LONG_LENGTH if long else LENGTH
            )
            if at["frozen"] != UNFINISHED:
                progress = (elapsed - target_s) / (total_s - target_s)
                losses = draft_step(target, draft, batch, late=progress > 1 - LATE_SHARE)
                set_rates(draft_optimizers, rate(progress, at["steps"] - at["frozen"]))
                apply(draft, draft_optimizers)
            else:
                losses = target_step(target, batch)
                set_rates(target_optimizers, rate(elapsed / target_s, at["steps"]))
                apply(target, target_optimizers)
            at["steps"] += 1
            at["tokens"] += ROWS * LENGTH
            for name in LOSSES:
                sums[name] += float(losses[name])
            sums["positions"] += ROWS * LENGTH
            if at["steps"] % REPORT_STEPS == 0:
                row = {
                    "run": len(history) + 1,
                    "minutes": round((time.monotonic() - begun) / 60, 2),
                    "steps": at["steps"],
                    "tokens": at["tokens"],
                    "target_nats_per_token": round(sums["target_loss"] / sums["positions"], 4),
                }
                if at["frozen"] != UNFINISHED:
                    row["draft_nats_per_token"] = round(sums["draft_loss"] / sums["positions"], 4)
                    row["acceptance_rate"] = round(sums["accept"] / sums["positions"], 4)
                curve.write(json.dumps(row) + "\n")
                curve.flush()
                log.info("%s", row)
                sums = dict.fromkeys(sums, 0.0)
            if elapsed > checkpoint_at:
                checkpoint_at += CHECKPOINT_S
                write_pair(target, draft, work / "tokenizer", work / "checkpoint")
                save_state(work / "state.pt", parts, {"elapsed": time.monotonic() - begun, "at": at})
    write_pair(target, draft, work / "tokenizer", out)
    record = {
        "finished": datetime.now(UTC).date().isoformat(),
        "minutes": minutes,
        "steps": at["steps"],
        "target_steps": at["frozen"],
        "tokens": at["tokens"],
        "threads": torch.get_num_threads(),
    }
    export.write_history([*history, record], out)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--minutes", type=float, default=90.0, help="wall-clock minutes (default 90)")
    parser.add_argument("--work", type=Path, default=data.WORK, help="folder of corpus, curves, checkpoints")
    parser.add_argument("--out", type=Path, default=None, help="where the pair goes (default WORK/pair)")
    parser.add_argument("--start", type=Path, help="go on from this pair's weights, with its tokenizer")
    parser.add_argument(
        "--draft-share", type=float, default=DRAFT_SHARE, help="part of the time for the draft"
    )
    parser.add_argument("--resume", action="store_true", help="go on from WORK/state.pt, same --minutes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(os.cpu_count() or 1)
    data.prepare(arguments.work, tokenizer_of=arguments.start)
    out = arguments.out or arguments.work / "pair"
    train(
        arguments.minutes,
        arguments.work,
        out,
        draft_share=arguments.draft_share,
        start=arguments.start,
        resume=arguments.resume,
    )


if __name__ == "__main__":
    main()
