"""The texts that the load generators replay: drafted once, at the beginning of a run."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from bench.capacity.measure import MeasuredDaemon
from thinwire.common import demo_pair, wire

PROMPTS = Path(__file__).parent.parent / "prompts.jsonl"


async def record(folder: Path, texts: Path, *, count: int, tokens: int, threads: int) -> float:
    """
    Real drafts of the bundled pair, against a cloud that does nothing else.

    Args:
        folder: of the cloud's log; exists.
        texts: written, one text a line.
        count: of texts.
        tokens: of each.
        threads: of the target.

    Returns:
        a block's median draft time in ms.
    """
    # Heavy imports come late, as in the daemons.
    from bench.capacity.record import record_texts
    from thinwire.common.language_model import load_language_model, set_threads

    lines = PROMPTS.read_text(encoding="utf-8").splitlines()[:count]
    prompts = [json.loads(line)["prompt"] for line in lines]
    cloud = MeasuredDaemon("recorded", folder)
    try:
        await cloud.start("bench.grid.cloud", "--threads", str(threads), "--max-batch-sequences", "1")
        set_threads(1)
        draft = load_language_model(str(demo_pair.draft_path()))
        await cloud.serving(wire.VERIFIER_SERVICE)
        recorded = await record_texts(draft, await cloud.address(), prompts, tokens=tokens, seed=1)
    finally:
        cloud.terminate()
        await cloud.stopped()
    texts.write_text("".join(text.to_json() + "\n" for text in recorded), encoding="utf-8")
    return 1e3 * statistics.median(block.draft_s for text in recorded for block in text.rounds)
