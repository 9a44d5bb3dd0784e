"""
Speed of the core as ratios, in one run on one machine: `make bench-core`.

Over loopback, nothing throttled, the bundled pair: tokens/s of two Thinwire daemons and a client, beside
transformers' `generate` of the target alone and its assisted generation with the same pair in one process.
Same prompts, same sampling, end-of-text ignored, the same number of tokens; the ways take turns, so that
whatever else the machine does meets all of them.
transformers has all cores unless --transformers-threads says less; our cloud has a thread for every core but
one, and where that is one thread both daemons share a core, as in `make run`.
Then the ratios of the kernels (`bench.kernels`).
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# Has torch's idle threads wait as the daemons have it, so that those of one way do not slow the next.
from thinwire.common.language_model import set_threads

# isort: split
import numpy as np
import torch
import transformers

from bench import command, kernels
from bench.markdown import table
from bench.pair import read_prompts
from bench.peers.messages import GENERATE, PeerRequest
from bench.peers.ways import generate, ignore_end_of_text
from thinwire.common import demo_pair
from thinwire.common.config import SamplingParameters
from thinwire.common.daemon.launcher import Daemon
from thinwire.common.schemes import parse_scheme
from thinwire.common.session.generation import GenerationFinished, GenerationRequest
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.client import AsyncClient, connect
from thinwire.edge.demo import serve_pair, shared_core, target_threads

TEMPERATURES = (1.0, 0.3)
FIXED_LENGTH = 4
FREE_LINK: dict[str, Any] = {"draft_length": 6, "min_block_acceptance": 0.7}
"""Draft on only while the draft is sure: what suits a link whose round trip costs less than a draft pass."""
WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "Thinwire, k-sqs, defaults": ({}, "k-sqs"),
    "Thinwire, c-sqs, defaults": ({}, "c-sqs"),
    "Thinwire, dense-qs, defaults": ({}, "dense-qs"),
    "Thinwire, k-sqs": (FREE_LINK, "k-sqs"),
    "Thinwire, k-sqs, K = 64, ℓ = 720": (FREE_LINK, "k-sqs:K=64,ell=720"),
    "Thinwire, c-sqs": (FREE_LINK, "c-sqs"),
    "Thinwire, dense-qs": (FREE_LINK, "dense-qs"),
    # The last: what one would choose where bits cost nothing.
    "Thinwire, dense-f16": (FREE_LINK, "dense-f16"),
}
"""Drafting and scheme by name; what is not said is at its default for the temperature."""
RIVALS: dict[str, int | None] = {
    "transformers, target alone": None,
    "transformers, assisted (defaults)": 0,
    f"transformers, assisted ({FIXED_LENGTH} tokens a round)": FIXED_LENGTH,
}
"""Draft tokens a round, always; 0 is transformers' own schedule, None no draft model."""
HEAD = (
    *("way", "tokens/s (median)", "min – max", "/ target alone", "/ assisted", "/ assisted, fixed"),
    "account",
)

Way = Callable[[PeerRequest], Awaitable[int]]
"""Makes one text, the prompt's own pass included; returns its tokens."""


async def transformers_text(
    tokenizer: Any, target: Any, draft: Any, draft_length: int | None, asked: PeerRequest
) -> int:
    """A `Way` after the models and a value of `RIVALS`: in this process, on torch's threads."""
    ids = list(tokenizer(asked.prompt).input_ids)
    assistant = None if draft_length is None else draft
    return generate(target, assistant, [ids], replace(asked, draft_length=draft_length or 0))


async def thinwire_text(
    client: AsyncClient,
    drafting: dict[str, Any],
    scheme: str,
    texts: list[GenerationStatistics],
    asked: PeerRequest,
) -> int:
    """A `Way` after the edge's client, a value of `WAYS` and the list that the text's account is added to."""
    request = GenerationRequest(
        asked.prompt,
        asked.seed,
        parse_scheme(scheme, asked.temperature),
        SamplingParameters(asked.temperature),
        asked.max_tokens,
        ignore_eos=True,
        **drafting,
    )
    async for event in client.events(request):
        if isinstance(event, GenerationFinished):
            texts.append(event.statistics)
    return texts[-1].output_tokens


def account(texts: Sequence[GenerationStatistics]) -> str:
    """Acceptance, and where the time of a text went, over all texts."""

    def total(field: str) -> float:
        return float(sum(getattr(text, field) for text in texts))

    phases = ("draft", "network", "queue", "verify")
    shares = ", ".join(f"{phase} {total(f'{phase}_s') / total('total_s'):.0%}" for phase in phases)
    return (
        f"accepted {total('accepted_tokens') / total('tested_tokens'):.3f}, "
        f"{total('output_tokens') / total('rounds'):.2f} tokens a round; {shares}"
    )


@asynccontextmanager
async def daemons(pair: Path) -> AsyncIterator[AsyncClient]:
    """A cloud and an edge as two processes on loopback, as `make run` starts them; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="thinwire-bench-") as folder:
        cloud, edge = Daemon("cloud", Path(folder)), Daemon("edge", Path(folder))
        try:
            async with connect(await serve_pair(cloud, edge, pair)) as client:
                yield client
        finally:
            edge.terminate()
            cloud.terminate()
            await asyncio.gather(edge.stopped(), cloud.stopped())


async def compare(pair: Path, *, tokens: int, repetitions: int) -> str:
    """
    The loopback table.

    Args:
        pair: folder with target/ and draft/.
        tokens: of each text.
        repetitions: texts of each way and temperature, one prompt each.

    Returns:
        Markdown.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair / "target")
    load = partial(transformers.AutoModelForCausalLM.from_pretrained, dtype=torch.float32)
    models = [load(pair / role) for role in ("target", "draft")]
    for model in models:
        ignore_end_of_text(model)
    room = models[0].config.max_position_embeddings - tokens
    prompts = [prompt for prompt in read_prompts() if len(tokenizer(prompt).input_ids) <= room]
    sections = []
    async with daemons(pair) as client:
        for temperature in TEMPERATURES:
            texts: dict[str, list[GenerationStatistics]] = {name: [] for name in WAYS}
            ways: dict[str, Way] = {
                **{name: partial(transformers_text, tokenizer, *models, n) for name, n in RIVALS.items()},
                **{name: partial(thinwire_text, client, *WAYS[name], texts[name]) for name in WAYS},
            }
            speeds: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(repetitions + 1):  # the first is a warm-up and not counted
                seed = max(turn - 1, 0)
                asked = PeerRequest(GENERATE, prompts[seed % len(prompts)], tokens, temperature, seed)
                for name, way in ways.items():
                    started_s = time.perf_counter()
                    made = await way(asked)
                    speeds[name].append(tokens / (time.perf_counter() - started_s))
                    assert made == tokens, f"{made} tokens instead of {tokens}"
                    words = f"temperature {temperature:g}, text {turn or 'to warm up'}, {name}: "
                    print(f"{words}{speeds[name][-1]:.1f}", file=sys.stderr, flush=True)
            counted = {name: np.array(all_of[1:]) for name, all_of in speeds.items()}
            rows = [
                [
                    *(name, f"{np.median(own):.1f}", f"{own.min():.1f} – {own.max():.1f}"),
                    # Ratios are medians of the ratios text by text.
                    *(f"{np.median(own / counted[other]):.2f}" for other in RIVALS),
                    account(texts[name][1:]) if name in texts else "",
                ]
                for name, own in counted.items()
            ]
            sections.append(f"Temperature {temperature:g}:\n\n{table(HEAD, rows, left=1)}")
    return "\n\n".join(sections)


def main() -> int:
    """Print the tables; returns the exit code."""
    given = command.options(
        "bench.core",
        __doc__,
        None,
        pair=(demo_pair.target_path().parent, "target/, draft/"),
        tokens=(128, "tokens of each text"),
        repetitions=(10, "texts of each way"),
        transformers_threads=(torch.get_num_threads(), "of transformers' models"),
    )
    set_threads(given.transformers_threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(
        f"{given.repetitions} texts of {given.tokens} tokens each; {os.cpu_count()} cores "
        f"({platform.machine()}), torch {torch.__version__}, transformers {transformers.__version__}.\n"
        f"Threads: {given.transformers_threads} for transformers' models; for Thinwire's {target_threads()} "
        f"in the cloud and 1 at the edge{'' if shared_core() is None else ', both on one core'}.\n"
        f"Thinwire drafts {FREE_LINK['draft_length']} tokens a round at most, and ends a block below "
        f"--min-block-acceptance {FREE_LINK['min_block_acceptance']}, but where it says defaults.\n"
    )

    def work() -> int:
        compared = compare(given.pair.resolve(), tokens=given.tokens, repetitions=given.repetitions)
        print(f"{asyncio.run(compared)}\n", flush=True)
        kernels.main([])
        return 0

    return command.run("bench.core", work, interrupted="interrupted.")


if __name__ == "__main__":
    sys.exit(main())
