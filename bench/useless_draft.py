"""
What a useless draft costs the schemes of rounds, on a thin link: rates over those of `cloud-ar`.

    python -m bench.useless_draft --temperature 1 --schemes k-sqs c-sqs

Two drafts are made of the bundled one and kept in a temporary folder: *shuffled* is as sure as the bundled
draft and says another id; *untrained* has fresh weights, and so hardly a preference.
Daemons are real processes on a link of `link/`, the lengths of blocks are those of a user who asks for
nothing; the schemes take turns prompt by prompt.
A text's rate counts from the first arrival that makes 32 tokens or more; the tokens before that are what the
edge may take to learn.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import command, markdown
from bench.grid.cells import SMOKE, Cell
from bench.grid.measure import Observed
from bench.grid.processes import RunSettings, open_stage
from bench.pair import read_prompts
from thinwire.common import demo_pair
from thinwire.common.schemes import parse_scheme

BASELINE = "cloud-ar"
SCHEMES = ("k-sqs", "c-sqs", "dense-qs", "coupled:lock_step=1", "dense-f16")
DRAFTS = ("shuffled", "untrained")
LEARNING = 32
"""Tokens before a rate counts."""
WARM_UP_TOKENS = 8


def make_draft(kind: str, folder: Path) -> None:
    """Save a draft that is of no use, with the bundled draft's shape, tokenizer and vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    bundled = demo_pair.draft_path()
    shutil.copytree(bundled, folder)
    model = AutoModelForCausalLM.from_pretrained(bundled, dtype=torch.bfloat16)
    if kind == "untrained":
        model = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16)
    else:
        head = model.get_input_embeddings().weight.detach()
        model.config.tie_word_embeddings = False
        shuffled = head[torch.randperm(len(head))].clone()
        model.lm_head.weight = torch.nn.Parameter(shuffled)
    model.save_pretrained(folder)


def rate(arrivals: Sequence[Sequence[float]]) -> float:
    """Tokens/s behind the first arrival that makes `LEARNING` tokens; of (seconds, tokens, round) each."""
    count, begun = 0, None
    for at_s, tokens, _ in arrivals:
        count += int(tokens)
        if begun is None and count >= LEARNING:
            begun = at_s, count
    assert begun is not None, f"a text of {count} tokens"
    return (count - begun[1]) / (arrivals[-1][0] - begun[0])


def request(scheme: str, temperature: float, prompt: str, seed: int, tokens: int) -> dict[str, Any]:
    """As `bench.grid.client` reads it; what is not said here has a user's default."""
    return {
        "prompt": prompt,
        "seed": seed,
        "max_tokens": tokens,
        "ignore_eos": True,
        "scheme": str(parse_scheme(scheme, temperature)),
        "sampling": {"temperature": temperature},
    }


def row(scheme: str, observed: Sequence[Observed], baseline: Sequence[float]) -> list[str]:
    """Of one scheme: its rates over the baseline's, text by text, and what it drafted a text."""
    rates = [rate(each.answer["arrivals"]) for each in observed]
    ratios = [mine / its for mine, its in zip(rates, baseline, strict=True)]
    drafted = median(each.answer["statistics"]["drafted_tokens"] for each in observed)
    accepted = median(each.answer["statistics"]["accepted_tokens"] for each in observed)
    shown = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [scheme, f"{median(rates):.1f}", shown, f"{drafted:g}", f"{accepted:g}"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = command.parser("bench.useless_draft", __doc__)
    parser.add_argument("--drafts", nargs="+", choices=DRAFTS, default=list(DRAFTS), metavar="DRAFT")
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T")
    parser.add_argument("--texts", type=int, default=2, metavar="N", help="of each scheme")
    parser.add_argument("--tokens", type=int, default=160, metavar="N", help="of each text")
    parser.add_argument("--rate", type=int, default=512_000, metavar="BPS", help="of the uplink")
    parser.add_argument("--rtt-ms", type=float, default=40.0, metavar="MS")
    given = parser.parse_args(argv)
    cell = Cell(given.rate, given.rtt_ms / 1000, given.temperature)
    return command.run("bench.useless_draft", lambda: _run(given, cell), interrupted="interrupted.")


def _run(given: Any, cell: Cell) -> int:
    schemes = [BASELINE, *given.schemes]
    prompts = read_prompts()[: given.texts]
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.drafts:
            pair = Path(folder) / kind
            make_draft(kind, pair / "draft")
            (pair / "target").symlink_to(demo_pair.target_path())
            settings = RunSettings(Path(folder) / "work", pair=pair)
            found: dict[str, list[Observed]] = {scheme: [] for scheme in schemes}
            with open_stage(cell, SMOKE, settings, lambda words: print(words, file=sys.stderr)) as stage:
                for scheme in schemes:
                    stage.text(request(scheme, cell.temperature, prompts[0], 0, WARM_UP_TOKENS))
                for turn, prompt in enumerate(prompts):
                    for scheme in schemes[turn % len(schemes) :] + schemes[: turn % len(schemes)]:
                        seen = stage.text(request(scheme, cell.temperature, prompt, 1 + turn, given.tokens))
                        if failure := seen.answer.get("failure"):
                            raise command.CommandError(f"{scheme}: {failure}")
                        found[scheme].append(seen)
            print(f"\nDraft {kind}, {cell}, {given.texts} texts of {given.tokens} tokens\n")
            baseline = [rate(seen.answer["arrivals"]) for seen in found[BASELINE]]
            rows = [row(scheme, found[scheme], baseline) for scheme in schemes]
            head = ["scheme", "tokens/s", f"over {BASELINE}", "drafted a text", "accepted"]
            print(markdown.table(head, rows, left=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
