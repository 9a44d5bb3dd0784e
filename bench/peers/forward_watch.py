"""
Every pass of a model: timed, paced and written down, whoever calls it.

As hooks around the transformers module's forward, so that one mechanism covers the cloud daemon, our own
streamed loop, transformers' `generate` and its assisted generation.
One JSON line a pass; the benchmark reads the file after each text.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

from bench.peers.pacing import Pacing
from thinwire.common.language_model import set_threads


class PassLog:
    """Lines about passes, appended to a file and flushed one by one; nowhere where `path` is None."""

    def __init__(self, path: str | None) -> None:
        # Open as long as the process lives.
        self._file = open(path or os.devnull, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def write(self, kind: str, **values: Any) -> None:
        """One line."""
        self._file.write(json.dumps({"kind": kind, **values}) + "\n")

    def close(self) -> None:
        """Nothing may be written afterwards."""
        self._file.close()


def watch_forward(
    module: Any,
    *,
    role: str,
    pacing: Pacing,
    log: PassLog,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Watch a model from now on.

    Args:
        module: called with `input_ids` of shape (texts, tokens), by name or as first argument.
        role: "target" or "draft", for the lines.
        pacing: how long a pass lasts at least.
        log: of the passes.
        threads: set before each pass, for a process that holds two models; None leaves them.
        clock, sleep: monotonic seconds, and how to wait.
    """
    # After `common.language_model`, which says how OpenMP's threads wait before torch is imported.
    # With torch first they spin: passes of 1.5 s were seen where other work kept the cores busy.
    import torch

    begun_s = 0.0

    def before(module: Any, args: Any, kwargs: Any) -> None:
        nonlocal begun_s
        if threads is not None and torch.get_num_threads() != threads:
            set_threads(threads)
        begun_s = clock()

    def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        assert ids is not None, "a pass without input_ids"
        tokens = int(ids.shape[-1])
        measured_s = clock() - begun_s
        missing_s = pacing.due_s(tokens) - measured_s
        if missing_s > 0:
            sleep(missing_s)
        log.write("pass", role=role, tokens=tokens, measured_s=measured_s, lasted_s=clock() - begun_s)

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after, with_kwargs=True)


def add_watch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options a daemon of the benchmark has for this."""
    parser.add_argument(
        "--paced", type=Pacing.parse, default=Pacing(), metavar="A_MS,B_MS", help="of target passes"
    )
    parser.add_argument("--pass-log", metavar="PATH", help="append one JSON line per model pass to this file")
