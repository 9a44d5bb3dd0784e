"""
The build's context for an engine of our own: this checkout as a clone has it, and every wheel in `wheels/`.

The build then needs no package index: pip downloads here, with whatever indexes, folders and certificates
this machine gave it, and the checkout itself stays untouched.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

from tests.compose.steps import run

ROOT = Path(__file__).resolve().parents[2]
_DOWNLOAD_TIMEOUT_S = 900.0


def stage(work: Path) -> Path:
    """Copy what git tracks or would track into the work folder; returns the copy."""
    context = work / "checkout"
    listed = run(["git", "ls-files", "-z", "-co", "--exclude-standard"], timeout_s=60, cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, context / name
        if source.is_file():  # a tracked file may have been removed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return context


def download_wheels(context: Path) -> int:
    """Every wheel of the images into the context's `wheels/`; returns how many are there."""
    project = tomllib.loads((context / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wheels = context / "wheels"
    wheels.mkdir(exist_ok=True)
    index = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", *index]
    run([*command, "--dest", str(wheels), *wanted], timeout_s=_DOWNLOAD_TIMEOUT_S)
    return len(list(wheels.glob("*.whl")))
