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

import argparse
import asyncio
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

# As the daemons have it, so that idle threads of one way do not slow the next; before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import transformers

from bench import kernels
from bench.markdown import table
from bench.pair import read_prompts
from bench.peers.messages import ASSISTED, GENERATE, PeerRequest
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
    "k-sqs, defaults": ({}, "k-sqs"),
    "c-sqs, defaults": ({}, "c-sqs"),
    "dense-qs, defaults": ({}, "dense-qs"),
    "k-sqs": (FREE_LINK, "k-sqs"),
    "k-sqs, K = 64, ℓ = 720": (FREE_LINK, "k-sqs:K=64,ell=720"),
    "c-sqs": (FREE_LINK, "c-sqs"),
    "dense-qs": (FREE_LINK, "dense-qs"),
    # The last: what one would choose where bits cost nothing.
    "dense-f16": (FREE_LINK, "dense-f16"),
}
"""Drafting and scheme by name; what is not said is at its default for the temperature."""
BASELINE = "transformers, target alone"
RIVAL = "transformers, assisted (defaults)"
RIVAL_FIXED = f"transformers, assisted ({FIXED_LENGTH} tokens a round)"
HEAD = (
    "way",
    "tokens/s (median)",
    "min – max",
    "/ target alone",
    "/ assisted",
    "/ assisted, fixed",
    "account",
)

Way = Callable[[str, int, float, int], Awaitable[float]]
"""(prompt, tokens, temperature, seed) → tokens/s of one text, the prompt's own pass included."""


class Transformers:
    """
    transformers' own generation in this process, on torch's threads.

    Args:
        pair: folder with target/ and draft/.
    """

    def __init__(self, pair: Path) -> None:
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(pair / "target")
        load = partial(transformers.AutoModelForCausalLM.from_pretrained, dtype=torch.float32)
        self._target, self._draft = (load(pair / role).eval() for role in ("target", "draft"))
        for model in (self._target, self._draft):
            ignore_end_of_text(model)
        self.context_length = int(self._target.config.max_position_embeddings)

    def encode(self, prompt: str) -> list[int]:
        """The prompt's token ids."""
        return list(self._tokenizer(prompt).input_ids)

    async def run(
        self, draft_length: int | None, prompt: str, tokens: int, temperature: float, seed: int
    ) -> float:
        """
        One text; a `Way` after its first argument.

        Args:
            draft_length: draft tokens a round, always; 0 is transformers' own schedule, None no draft model.
        """
        way = GENERATE if draft_length is None else ASSISTED
        asked = PeerRequest(way, prompt, tokens, temperature, seed, draft_length or 0)
        ids, draft = self.encode(prompt), None if draft_length is None else self._draft
        started_s = time.perf_counter()
        made = generate(self._target, draft, [ids], asked)
        elapsed_s = time.perf_counter() - started_s
        assert made == tokens, f"{made} tokens instead of {tokens}"
        return tokens / elapsed_s


class Thinwire:
    """
    Two daemons behind a client.

    Args:
        client: of the edge.
        drafting: `draft_length` and `min_block_acceptance`.
        scheme: as the command line takes it; everything else at its default.
    """

    def __init__(self, client: AsyncClient, drafting: dict[str, Any], scheme: str) -> None:
        self._client = client
        self._drafting = drafting
        self._scheme = scheme
        self.texts: list[GenerationStatistics] = []

    async def run(self, prompt: str, tokens: int, temperature: float, seed: int) -> float:
        """A `Way`."""
        asked = GenerationRequest(
            prompt,
            seed,
            parse_scheme(self._scheme, temperature),
            SamplingParameters(temperature=temperature),
            tokens,
            ignore_eos=True,
            **self._drafting,
        )
        started_s = time.perf_counter()
        async for event in self._client.events(asked):
            if isinstance(event, GenerationFinished):
                made = event.statistics.output_tokens
                assert made == tokens, f"{made} tokens instead of {tokens}"
                self.texts.append(event.statistics)
        return tokens / (time.perf_counter() - started_s)

    def account(self) -> str:
        """Acceptance, and where the time of a text went, over all texts so far."""
        phases = ("draft", "network", "queue", "verify")

        def total(field: str) -> float:
            return float(sum(getattr(text, field) for text in self.texts))

        shares = ", ".join(f"{phase} {total(f'{phase}_s') / total('total_s'):.0%}" for phase in phases)
        return (
            f"accepted {total('accepted_tokens') / total('tested_tokens'):.3f}, "
            f"{total('output_tokens') / total('rounds'):.2f} tokens a round; {shares}"
        )


@asynccontextmanager
async def daemons(pair: Path) -> AsyncIterator[AsyncClient]:
    """A cloud and an edge as two processes on loopback, as `make run` starts them; stopped at the end."""
    task = asyncio.current_task()
    assert task is not None, "runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
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
    rival = Transformers(pair)
    room = rival.context_length - tokens
    prompts = [prompt for prompt in read_prompts() if len(rival.encode(prompt)) <= room]
    sections = []
    async with daemons(pair) as client:
        for temperature in TEMPERATURES:
            ours = {f"Thinwire, {name}": Thinwire(client, *way) for name, way in WAYS.items()}
            ways: dict[str, Way] = {
                BASELINE: partial(rival.run, None),
                RIVAL: partial(rival.run, 0),
                RIVAL_FIXED: partial(rival.run, FIXED_LENGTH),
                **{name: way.run for name, way in ours.items()},
            }
            speeds: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                await way(prompts[0], tokens, temperature, 0)  # warm-up, not counted
            for thinwire in ours.values():
                thinwire.texts.clear()
            for repetition in range(repetitions):
                prompt = prompts[repetition % len(prompts)]
                for name, way in ways.items():
                    speed = await way(prompt, tokens, temperature, repetition)
                    speeds[name].append(speed)
                    words = f"temperature {temperature:g}, text {repetition + 1}, {name}: {speed:.1f}"
                    print(words, file=sys.stderr, flush=True)
            accounts = {name: thinwire.account() for name, thinwire in ours.items()}
            rows = [_row(name, speeds, accounts.get(name, "")) for name in speeds]
            sections.append(f"Temperature {temperature:g}:\n\n{table(HEAD, rows, left=1)}")
    return "\n\n".join(sections)


def _row(name: str, speeds: dict[str, list[float]], account: str) -> list[str]:
    """Medians over the texts; ratios are medians of the ratios text by text."""
    own = speeds[name]
    ratios = [
        statistics.median(ours / theirs for ours, theirs in zip(own, speeds[other], strict=True))
        for other in (BASELINE, RIVAL, RIVAL_FIXED)
    ]
    extremes = f"{min(own):.1f} – {max(own):.1f}"
    return [name, f"{statistics.median(own):.1f}", extremes, *(f"{ratio:.2f}" for ratio in ratios), account]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m bench.core", description=__doc__)
    parser.add_argument("--pair", type=Path, default=demo_pair.target_path().parent, help="target/, draft/")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each text (default %(default)s)")
    parser.add_argument("--repetitions", type=int, default=10, help="texts of each way (default %(default)s)")
    parser.add_argument(
        "--transformers-threads",
        type=int,
        metavar="N",
        default=torch.get_num_threads(),
        help="of transformers' models (default: what torch takes by itself, %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.transformers_threads < 1:
        parser.error(f"--transformers-threads is {arguments.transformers_threads}; expected at least 1")
    torch.set_num_threads(arguments.transformers_threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(
        f"{arguments.repetitions} texts of {arguments.tokens} tokens each; {os.cpu_count()} cores "
        f"({platform.machine()}), torch {torch.__version__}, transformers {transformers.__version__}.\n"
        f"Threads: {torch.get_num_threads()} for transformers' models; for Thinwire's {target_threads()} in "
        f"the cloud and 1 at the edge{'' if shared_core() is None else ', both on one core'}.\n"
        f"Thinwire drafts {FREE_LINK['draft_length']} tokens a round at most, and ends a block below "
        f"--min-block-acceptance {FREE_LINK['min_block_acceptance']}, but where it says defaults.\n"
    )
    pair = arguments.pair.resolve()
    print(asyncio.run(compare(pair, tokens=arguments.tokens, repetitions=arguments.repetitions)), flush=True)
    print()
    kernels.main()


if __name__ == "__main__":
    main()
