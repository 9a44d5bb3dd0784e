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
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

# As the daemons have it, so that idle threads of one way do not slow the next; before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import transformers

from bench import kernels
from thinwire.common import demo_pair
from thinwire.common.config import SamplingParameters, default_scheme
from thinwire.common.session.generation import GenerationFinished, GenerationRequest
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.client import EdgeClient, connect
from thinwire.edge.demo import Daemon, serve_pair, shared_core, target_threads

PROMPTS = Path(__file__).parent / "prompts.jsonl"
TEMPERATURES = (1.0, 0.3)
DEFAULTS = GenerationRequest("", seed=0)
FIXED_LENGTH = 4
FREE_LINK: dict[str, Any] = {"draft_length": 6, "min_block_acceptance": 0.7}
"""Draft on only while the draft is sure: what suits a link whose round trip costs less than a draft pass."""
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "k-sqs, defaults": ({}, {"scheme": "k-sqs"}),
    "c-sqs, defaults": ({}, {"scheme": "c-sqs"}),
    "dense-qs, defaults": ({}, {"scheme": "dense-qs"}),
    "k-sqs": (FREE_LINK, {"scheme": "k-sqs"}),
    "k-sqs, K = 64, ℓ = 720": (
        FREE_LINK,
        {"scheme": "k-sqs", "support_size": 64, "lattice_resolution": 720},
    ),
    "c-sqs": (FREE_LINK, {"scheme": "c-sqs"}),
    "dense-qs": (FREE_LINK, {"scheme": "dense-qs"}),
    # The last: what one would choose where bits cost nothing.
    "dense-f16": (FREE_LINK, {"scheme": "dense-f16"}),
}
"""Drafting and scheme by name; what is not said is at its default for the temperature."""
BASELINE = "transformers, target alone"
RIVAL = "transformers, assisted (defaults)"
RIVAL_FIXED = f"transformers, assisted ({FIXED_LENGTH} tokens a round)"

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
        self._target, self._draft = (self._load(pair / role) for role in ("target", "draft"))
        self.context_length = int(self._target.config.max_position_embeddings)

    @staticmethod
    def _load(folder: Path) -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        model.generation_config.eos_token_id = None  # end-of-text is ignored everywhere
        model.config.eos_token_id = None
        return model

    def prompt_tokens(self, prompt: str) -> int:
        """Tokens of `prompt`."""
        return len(self._tokenizer(prompt).input_ids)

    def way(self, *, assisted: bool, draft_length: int | None = None) -> Way:
        """
        One way to generate.

        Args:
            assisted: with the draft model.
            draft_length: draft tokens a round, always; None leaves transformers' own schedule.
        """

        async def run(prompt: str, tokens: int, temperature: float, seed: int) -> float:
            extra: dict[str, Any] = {"assistant_model": self._draft} if assisted else {}
            own = self._draft.generation_config
            own.num_assistant_tokens = draft_length or 20
            own.num_assistant_tokens_schedule = "constant"
            own.assistant_confidence_threshold = 0.0 if draft_length else 0.4
            torch.manual_seed(seed)
            inputs = self._tokenizer(prompt, return_tensors="pt")
            started_s = time.perf_counter()
            with torch.inference_mode():
                ids = self._target.generate(
                    **inputs,
                    do_sample=True,
                    temperature=temperature,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=tokens,
                    pad_token_id=0,
                    **extra,
                )
            elapsed_s = time.perf_counter() - started_s
            made = ids.shape[1] - inputs.input_ids.shape[1]
            assert made == tokens, f"{made} tokens instead of {tokens}"
            return tokens / elapsed_s

        return run


class Thinwire:
    """
    Two daemons behind a client.

    Args:
        client: of the edge.
        drafting: `draft_length` and `min_block_acceptance`.
        scheme: fields of `SchemeParameters`; everything else at its default.
    """

    def __init__(self, client: EdgeClient, drafting: dict[str, Any], scheme: dict[str, Any]) -> None:
        self._client = client
        self._drafting = {
            "draft_length": DEFAULTS.draft_length,
            "min_block_acceptance": DEFAULTS.min_block_acceptance,
            **drafting,
        }
        self._scheme = scheme
        self.texts: list[GenerationStatistics] = []

    async def run(self, prompt: str, tokens: int, temperature: float, seed: int) -> float:
        """A `Way`."""
        request = GenerationRequest(
            prompt=prompt,
            seed=seed,
            scheme=default_scheme(temperature, **self._scheme),
            sampling=SamplingParameters(temperature=temperature),
            max_tokens=tokens,
            uplink_budget_bits=0,
            stop=(),
            ignore_eos=True,
            **self._drafting,
        )
        started_s = time.perf_counter()
        async for event in self._client.generate(request):
            if isinstance(event, GenerationFinished):
                made = event.statistics.output_tokens
                assert made == tokens, f"{made} tokens instead of {tokens}"
                self.texts.append(event.statistics)
        return tokens / (time.perf_counter() - started_s)

    def account(self) -> str:
        """Acceptance, and where the time of a text went, over all texts so far."""
        texts = self.texts
        accepted, tested = sum(s.accepted_tokens for s in texts), sum(s.tested_tokens for s in texts)
        total_s = sum(s.total_s for s in texts)
        phases = {"draft": "draft_s", "network": "network_s", "queue": "queue_s", "verify": "verify_s"}
        shares = (
            f"{name} {sum(getattr(s, field) for s in texts) / total_s:.0%}" for name, field in phases.items()
        )
        efficiency = sum(s.output_tokens for s in texts) / sum(s.rounds for s in texts)
        return f"accepted {accepted / tested:.3f}, {efficiency:.2f} tokens a round; {', '.join(shares)}"


@asynccontextmanager
async def daemons(pair: Path) -> AsyncIterator[EdgeClient]:
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
    lines = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    room = rival.context_length - tokens
    prompts = [prompt for prompt in lines if rival.prompt_tokens(prompt) <= room]
    sections = []
    async with daemons(pair) as client:
        for temperature in TEMPERATURES:
            ours = {f"Thinwire, {name}": Thinwire(client, *way) for name, way in WAYS.items()}
            ways: dict[str, Way] = {
                BASELINE: rival.way(assisted=False),
                RIVAL: rival.way(assisted=True),
                RIVAL_FIXED: rival.way(assisted=True, draft_length=FIXED_LENGTH),
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
                    speeds[name].append(await way(prompt, tokens, temperature, repetition))
                    _say(
                        f"temperature {temperature:g}, text {repetition + 1}, {name}: {speeds[name][-1]:.1f}"
                    )
            accounts = {name: thinwire.account() for name, thinwire in ours.items()}
            sections.append(_table(temperature, speeds, accounts))
    return "\n\n".join(sections)


def _table(temperature: float, speeds: dict[str, list[float]], accounts: dict[str, str]) -> str:
    """Medians over the texts; ratios are medians of the ratios text by text."""

    def ratio(name: str, to: str) -> str:
        pairs = zip(speeds[name], speeds[to], strict=True)
        return f"{statistics.median(ours / theirs for ours, theirs in pairs):.2f}"

    rows = [
        f"Temperature {temperature:g}:",
        "",
        "| way | tokens/s (median) | min – max | / target alone | / assisted | / assisted, fixed | account |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    rows += [
        f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} – {max(values):.1f} "
        f"| {ratio(name, BASELINE)} | {ratio(name, RIVAL)} | {ratio(name, RIVAL_FIXED)} "
        f"| {accounts.get(name, '')} |"
        for name, values in speeds.items()
    ]
    return "\n".join(rows)


def _say(line: str) -> None:
    """Progress, beside the table on standard output."""
    print(line, file=sys.stderr, flush=True)


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
