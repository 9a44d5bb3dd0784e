"""What a run is made of and where it ran, as JSON: the settings that a resumed run must share."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.grid.cells import Plan
from bench.grid.methods import Method
from bench.grid.processes import CONGESTION_CONTROL, LINK_KIND, RunSettings
from thinwire.common.session.checksum import crc32c


def describe_run(plan: Plan, methods: Sequence[Method], settings: RunSettings) -> dict[str, Any]:
    """Everything that defines a run, as JSON; a resumed run must have the same."""
    return {
        "plan": json.loads(json.dumps({**asdict(plan), "cells": [], "methods": []})),  # lists for tuples
        "cells": [str(cell) for cell in plan.cells],
        "methods": [method.name for method in methods],
        "prompts": str(settings.prompts),
        "prompts_crc32c": f"{crc32c(settings.prompts.read_bytes()):08x}",
        "seed": settings.seed,
        "pair": {role: fingerprint(settings.pair / role) for role in ("target", "draft")},
        "target_threads": settings.threads,
        "draft_threads": settings.draft_threads,
        "pinning": "none",
        "pacing": str(settings.pacing),
        "link_kind": LINK_KIND,
        "congestion_control": CONGESTION_CONTROL,
        **({"tls": True} if settings.tls else {}),  # absent without, as in runs from before there was TLS
        "versions": versions("torch", "transformers", "grpcio", "numpy"),
        "revision": settings.revision,
        "machine": machine(),
        "started_at": now(),
        "command": " ".join(sys.orig_argv[1:]),
    }


def machine() -> str:
    """Cores, processor, kernel and Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.machine())
    kernel, python = platform.release(), platform.python_version()
    return f"{os.cpu_count()} cores, {processor}, Linux {kernel}, Python {python}"


def versions(*names: str) -> dict[str, str]:
    """Installed versions of packages."""
    return {name: version(name) for name in names}


def now() -> str:
    """Wall clock, ISO 8601 with its offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def fingerprint(folder: Path) -> str:
    """CRC-32C of a model's weights; a hub id or a sharded model is named by its path alone."""
    weights = folder / "model.safetensors"
    return f"{folder.name} {crc32c(weights.read_bytes()):08x}" if weights.is_file() else str(folder)


def revision() -> str:
    """The source's commit, with a + if it has changes."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head, state = (
            subprocess.run([*git, *words], check=True, capture_output=True, text=True).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if state else "")
