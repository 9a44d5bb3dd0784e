"""
Writes the model card from the records of the run; no figure in it is typed by hand.

    python -m training.card
"""
# ruff: noqa: E501 - a paragraph of the card is one line

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thinwire.common import demo_pair
from training import data, export
from training.model import DRAFT, TARGET, Shape

OUT = demo_pair.target_path().parent / "MODEL_CARD.md"
WANTED = {"target": 1.33, "draft": 1.65}
"""The most held-out bits per byte that the project asks of the pair."""
WANTED_ACCEPTANCE = 0.6
CURVE_ROWS = 22
FOLDERS = {
    "_pytest": "pytest", "mypyc": "mypy", "torchgen": "torch", "functorch": "torch", "grpc": "grpcio",
    "google": "protobuf", "markdown_it": "markdown-it-py", "yaml": "pyyaml", "_yaml": "pyyaml",
    "typing_extensions.py": "typing_extensions", "isympy.py": "sympy", "_distutils_hack": "setuptools",
}  # fmt: skip
"""Top-level folders whose name is not their distribution's."""


def training_bytes(corpus: dict[str, Any]) -> dict[str, int]:
    """Bytes of training text of each distribution."""
    sizes = dict.fromkeys((p["name"] for p in corpus["packages"]), 0)
    for folder, row in corpus["training"].items():
        sizes[FOLDERS.get(folder, folder)] += row["bytes"]
    return sizes


def goals(bits_per_byte: dict[str, float], acceptance_rate: float) -> str:
    """What the project asks of a pair, and what of it this pair misses."""
    missed = [
        f"the bits per byte of the {name}" for name, most in WANTED.items() if bits_per_byte[name] > most
    ]
    if acceptance_rate < WANTED_ACCEPTANCE:
        missed.append("the acceptance rate")
    found = f"misses {' and '.join(missed)}" if missed else "keeps all three"
    return (
        f"The project asks for at most {WANTED['target']:g} bits per byte of the target and {WANTED['draft']:g} of the "
        f"draft, and for an acceptance rate of at least {WANTED_ACCEPTANCE:g} at temperature 1; this pair {found}."
    )


def shape_row(name: str, shape: Shape, figures: dict[str, Any]) -> str:
    """One row of the table of models."""
    f = figures[name]
    return (
        f"| {name} | {f['parameters'] / 1e6:.2f} M | {shape.layers} | {shape.hidden} | {f['file_bytes'] / 1e6:.1f} MB "
        f"| {f['held_out_bits_per_byte']:.3f} | {f['held_out_nats_per_token']:.3f} "
        f"| {f['pass_of_1_ms']} | {f['pass_of_5_ms']} |"
    )


def run_row(number: int, run: dict[str, Any]) -> str:
    """One row of the table of training runs."""
    both = f"both, agreement {run['agreement']:g}" if run["agreement"] else "the target"
    parts = {both: run["target_steps"], "the draft": run["steps"] - run["target_steps"]}
    steps = ", then ".join(f"{count} of {model}" for model, count in parts.items() if count)
    rates = "" if run["rate_scale"] == 1 else f", peak rates times {run['rate_scale']:g}"
    temperatures = ", ".join(f"{t:g}" for t in run["temperatures"])
    own = f"{run['own_text_tokens'] / 1e6:.2f} M at {temperatures}" if run["own_text_tokens"] else "–"
    return (
        f"| {number} | {run['finished']} | {run['on']} | {run['minutes']:g} | {steps}{rates} "
        f"| {run['tokens'] / 1e6:.1f} M | {own} |"
    )


def card(work: Path) -> str:
    """The card's text."""
    figures = json.loads((work / "figures.json").read_text())
    corpus = json.loads((work / "corpus.json").read_text())
    runs = export.read_history(OUT.parent)
    curve = [json.loads(line) for line in (work / "curve.jsonl").read_text().splitlines()]
    step = max(1, len(curve) // CURVE_ROWS)
    rate = figures["acceptance_rate"]
    sizes = training_bytes(corpus)
    sources = "\n".join(
        f"| {p['name']} | {p['version']} | {p['licence'].splitlines()[0]} | {sizes[p['name']] / 1e6:.2f} |"
        for p in corpus["packages"]
        if sizes[p["name"]]
    )
    curves = "\n".join(
        f"| {r['run']} | {r['minutes']} | {r['tokens'] / 1e6:.2f} M | {r['target_nats_per_token']} "
        f"| {r.get('draft_nats_per_token', '')} | {r.get('acceptance_rate', '')} |"
        for r in [*curve[:-1:step], curve[-1]]
    )
    history = "\n".join(run_row(number, run) for number, run in enumerate(runs, 1))
    return f"""# The bundled pair

Two Llama-architecture models with one byte-level BPE tokenizer of 8192 tokens, trained on Python sources.
They are here so that everything runs and is measured without a download: they write text that looks like Python.
Intended use: demonstration and measurement of the protocol. The models are no good for anything else.

| Model | Parameters | Layers | Width | File | Held-out bits per byte | nats per token | pass of 1 token, ms | of 5, ms |
|---|---|---|---|---|---|---|---|---|
{shape_row("target", TARGET, figures)}
{shape_row("draft", DRAFT, figures)}

Weights are bfloat16; every figure is of the files as shipped, loaded in float32 (`python -m training.measure`), on {figures["held_out_positions"]} held-out positions ({figures["bytes_per_token"]} bytes a token).
One target pass costs {figures["target_passes_per_draft_pass"]} draft passes.

Agreement, the mean of 1 − TV(p, q) of the unquantised draft on {figures["acceptance_positions"]} positions of the target's own text, both models warped by the temperature:

| Temperature | 0.3 | 0.6 | 1.0 |
|---|---|---|---|
| acceptance rate | {rate["0.3"]} | {rate["0.6"]} | {rate["1.0"]:.3f} |

{goals({name: figures[name]["held_out_bits_per_byte"] for name in WANTED}, rate["1.0"])}
{figures.get("note", "")}

## Training

Each run goes on from the weights of the one before, on blocks of the text in another order.
`make pair MINUTES=...` trains a pair from nothing, `START=DIR` from a pair, `DEVICE=cuda` on an accelerator.

| Run | Finished | On | Minutes | Steps | Tokens | Written by the target, and at which temperatures |
|---|---|---|---|---|---|---|
{history}

The target learns the text first.
Then it writes on from the beginnings of training text, and the draft learns the finished target's distribution (KL, later mostly total variation, which is what acceptance is about), one step in three on the training text, the others on what the target wrote, at the temperature it was written with.
Where a run names an agreement, both models learn from the same blocks: the draft the target's distribution, and the target the text and, with that weight, not to be far from its draft (total variation). Such a target is nearer to its draft than one that was trained by itself; [training/README.md](../../training/README.md) has the figures before and after.
Muon for the layers' matrices, AdamW for the rest; learning rates follow the clock.
Losses on the training blocks, where kept:

| Run | Minutes | Tokens | Target, nats per token | Draft | Acceptance on the batch |
|---|---|---|---|---|---|
{curves}

## Text

{corpus["training_bytes"] / 1e6:.1f} MB of Python sources ({corpus["training_tokens"] / 1e6:.1f} M tokens), tests left out; {corpus["held_out_files"]} files ({corpus["held_out_bytes"] / 1e6:.2f} MB) are held out.
No window of {corpus["window_lines"]} lines of held-out text stands in the training text; held-out files are chosen by their names, the same in every run.

| Source | Version | Licence | Training text, MB |
|---|---|---|---|
{sources}

The weights are under Apache-2.0 as the rest of the project; the sources keep their own licences.
"""


def main() -> None:
    """The command."""
    OUT.write_text(card(data.WORK))


if __name__ == "__main__":
    main()
