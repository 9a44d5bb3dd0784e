"""
Trains the pair: first the target model, then the draft model against the finished target.

    python -m training.train --minutes 90
    python -m training.train --minutes 90 --start demo-pair/thinwire_demo_pair    # go on from a pair
    python -m training.train --minutes 7 --device cuda

The learning rates follow the wall clock, so a run ends on time on any machine. The draft learns the finished
target's distribution, on the training text and on text that the target writes itself; the target's weights
are rounded to bfloat16 first, as shipped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training import data, export
from training.model import DRAFT, TARGET, Llama, compile_layers
from training.optimizer import optimizers
from training.own_text import PROMPT_TOKENS, TEMPERATURES, OwnText
from training.steps import apply, draft_step, half_precision, joint_step, target_step

log = logging.getLogger("train")


@dataclass(frozen=True)
class Sizes:
    """(rows, tokens a row) of a step's batch in each part of a run; `own`: of text that the target writes."""

    target: tuple[int, int]
    long: tuple[int, int]
    draft: tuple[int, int]
    own: tuple[int, int]


CPU_SIZES = Sizes(target=(16, 256), long=(4, 1024), draft=(16, 256), own=(64, 256))
ACCELERATOR_SIZES = Sizes(target=(32, 1024), long=(32, 1024), draft=(64, 512), own=(2048, 512))
LONG_SHARE = 0.08
"""Last part of the target's phase, trained on long blocks, so that positions up to 1024 have been seen."""
OWN_TEXT_SHARE = 0.15
"""First part of the draft's phase, in which the target writes."""
OWN_TEXT_STEPS = 3
"""One step of the draft in so many is on the training text; the others are on the target's own."""
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


def on_device(batch: Tensor, device: str) -> Tensor:
    """The batch there; from pinned memory a copy waits for nothing that is under way."""
    return batch if device == "cpu" else batch.pin_memory().to(device, non_blocking=True)


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
    state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)
    progress: dict[str, Any] = state["progress"]
    return progress


def round_weights(model: Llama) -> None:
    """Round to bfloat16, the precision the pair is shipped in."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())


def write_own_text(
    target: Llama,
    blocks: data.Blocks,
    position: int,
    *,
    sizes: Sizes,
    temperatures: Sequence[float],
    device: str,
    seconds: float,
) -> OwnText:
    """Let the finished target write on from the training text for a while; at least one batch."""
    own = OwnText(sizes.draft[0], temperatures)
    deadline = time.monotonic() + seconds
    rows, length = sizes.own
    while not own.tokens or time.monotonic() < deadline:
        starts: list[Tensor] = []
        while sum(map(len, starts)) < rows:
            batch, position = blocks.batch(position, *sizes.draft)
            starts.append(batch[:, :PROMPT_TOKENS])
        prompts = torch.cat(starts).to(device)
        with half_precision(prompts), torch.compiler.set_stance("force_eager"):
            own.add(target, prompts, length + 1)
        float(prompts[0, 0])  # waits for the device, for the clock's sake
    return own


def train(
    *,
    minutes: float,
    work: Path,
    out: Path | None,
    draft_share: float,
    start: Path | None,
    resume: bool,
    device: str,
    temperatures: Sequence[float],
    rate_scale: float,
    agreement: float,
) -> None:
    """
    Train both models within `minutes` and write them; the arguments are the command's options.

    Args:
        work: folder of corpus and checkpoints; curves go to curve.jsonl there.
        out: where the pair goes; None for work/pair.
        draft_share: last part of the time, the draft's; 1 trains the draft alone, 0 the target.
        start: a pair to go on from (with the tokenizer in `work`); None for fresh weights.
        resume: go on from work/state.pt, the clock where the checkpoint left it.
        device: torch device.
        temperatures: of the target's own text, one piece after the other.
        rate_scale: of the peak learning rates; below 1 to go on from a finished pair without undoing it.
        agreement: weight of the total variation from the draft in the target's loss; above 0 both models are
            trained in the target's part of the time.
    """
    torch.manual_seed(data.SEED)
    target, draft = Llama(TARGET), Llama(DRAFT)
    if start is not None:
        target, draft = export.read(start / "target", TARGET), export.read(start / "draft", DRAFT)
    target.to(device)
    draft.to(device)
    compile_layers(target)
    compile_layers(draft)
    target_optimizers = optimizers(target, MATRIX_LR, EMBEDDING_LR)
    draft_optimizers = optimizers(draft, DRAFT_MATRIX_LR, DRAFT_EMBEDDING_LR)
    sizes = CPU_SIZES if device == "cpu" else ACCELERATOR_SIZES
    # Another order of the blocks, so that a second run does not begin with those of the first.
    history = export.read_history(start)
    blocks = data.Blocks(work, seed=data.SEED + len(history))
    own: OwnText | None = None
    begun = time.monotonic()
    total_s, target_s = minutes * 60, minutes * 60 * (1 - draft_share)
    at = {"position": 0, "steps": 0, "tokens": 0, "frozen": UNFINISHED, "own_tokens": 0}
    """Where the run stands; `frozen` is the step at which the target was finished."""
    # On the device, and read at reports only: a read waits for all that is under way there.
    nothing = dict.fromkeys(LOSSES, torch.zeros((), device=device))
    sums, positions = nothing, 0
    parts = [target, draft, *target_optimizers, *draft_optimizers]
    if resume:
        saved = load_state(work / "state.pt", parts)
        begun -= saved["elapsed"]
        at = saved["at"]
        log.info("going on after %d steps", at["steps"])
    checkpoint_at = time.monotonic() - begun + CHECKPOINT_S
    with (work / "curve.jsonl").open("a" if resume or history else "w") as curve:
        while (elapsed := time.monotonic() - begun) < total_s:
            if elapsed >= target_s and own is None:
                if at["frozen"] == UNFINISHED:
                    at["frozen"] = at["steps"]
                    round_weights(target)
                seconds = OWN_TEXT_SHARE * (total_s - target_s)
                own = write_own_text(
                    target,
                    blocks,
                    at["position"],
                    sizes=sizes,
                    temperatures=temperatures,
                    device=device,
                    seconds=seconds,
                )
                at["own_tokens"] = own.tokens
                log.info("the target has written %d tokens", own.tokens)
                sums, positions = nothing, 0
                continue
            if own is not None:
                progress = (elapsed - target_s) / (total_s - target_s)
                temperature = None
                if at["steps"] % OWN_TEXT_STEPS:
                    batch, temperature = own.batch()
                else:
                    batch, at["position"] = blocks.batch(at["position"], *sizes.draft)
                    batch = on_device(batch, device)
                late = progress > 1 - LATE_SHARE
                losses = draft_step(target, draft, batch, late=late, temperature=temperature)
                share = rate_scale * rate(progress, at["steps"] - at["frozen"])
                apply(draft, draft_optimizers, share)
            else:
                long = elapsed > (1 - LONG_SHARE) * target_s
                batch, at["position"] = blocks.batch(at["position"], *(sizes.long if long else sizes.target))
                batch = on_device(batch, device)
                share = rate_scale * rate(elapsed / target_s, at["steps"])
                if agreement:
                    losses = joint_step(target, draft, batch, agreement)
                    apply(draft, draft_optimizers, share)
                else:
                    losses = target_step(target, batch)
                apply(target, target_optimizers, share)
            tokens = batch[:, 1:].numel()
            at["steps"] += 1
            at["tokens"] += tokens
            positions += tokens
            sums = {name: sums[name] + losses[name] for name in LOSSES}
            if at["steps"] % REPORT_STEPS == 0:
                row = {
                    "run": len(history) + 1,
                    "minutes": round((time.monotonic() - begun) / 60, 2),
                    "steps": at["steps"],
                    "tokens": at["tokens"],
                    "target_nats_per_token": round(float(sums["target_loss"]) / positions, 4),
                }
                if own is not None or agreement:
                    row["draft_nats_per_token"] = round(float(sums["draft_loss"]) / positions, 4)
                    row["acceptance_rate"] = round(float(sums["accept"]) / positions, 4)
                curve.write(json.dumps(row) + "\n")
                curve.flush()
                log.info("%s", row)
                sums, positions = nothing, 0
            if elapsed > checkpoint_at:
                checkpoint_at += CHECKPOINT_S
                write_pair(target, draft, work / "tokenizer", work / "checkpoint")
                save_state(work / "state.pt", parts, {"elapsed": time.monotonic() - begun, "at": at})
    out = out or work / "pair"
    write_pair(target, draft, work / "tokenizer", out)
    record = {
        "finished": datetime.now(UTC).date().isoformat(),
        "minutes": minutes,
        "steps": at["steps"],
        "target_steps": at["steps"] if at["frozen"] == UNFINISHED else at["frozen"],
        "tokens": at["tokens"],
        "own_text_tokens": at["own_tokens"],
        "temperatures": list(temperatures),
        "rate_scale": rate_scale,
        "agreement": agreement,
        "on": where(device),
    }
    export.write_history([*history, record], out)


def where(device: str) -> str:
    """What a run was made on, for the model card."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[1])
    add = parser.add_argument
    add("--minutes", type=float, default=90.0, help="wall-clock minutes (default %(default)g)")
    add("--work", type=Path, default=data.WORK, help="folder of corpus, curves, checkpoints")
    add("--out", type=Path, help="where the pair goes (default WORK/pair)")
    add("--start", type=Path, help="go on from this pair's weights, with its tokenizer")
    add("--draft-share", type=float, default=DRAFT_SHARE, help="part of the time for the draft")
    add("--resume", action="store_true", help="go on from WORK/state.pt, same --minutes")
    add("--device", default="cpu", help="torch device (default %(default)s)")
    words = "of the text that the target writes for the draft, in turn (default %(default)s)"
    add("--temperatures", type=float, nargs="+", default=TEMPERATURES, help=words)
    add("--rate-scale", type=float, default=1.0, help="of the peak learning rates (default %(default)s)")
    words = "weight of the distance from the draft in the target's loss, both trained (default %(default)s)"
    add("--agreement", type=float, default=0.0, help=words)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(os.cpu_count() or 1)
    if arguments.device != "cpu":
        torch.set_float32_matmul_precision("high")  # TF32 in the losses
    data.prepare(arguments.work, tokenizer_of=arguments.start)
    train(**vars(arguments))


if __name__ == "__main__":
    main()
