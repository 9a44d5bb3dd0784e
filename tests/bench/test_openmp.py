"""Both daemons of the benchmark wait for threads as the shipped daemons do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["bench.peers.__main__", "bench.grid.cloud", "bench.peers.service"])
def test_openmp_is_told_how_to_wait_before_torch_is_imported(module: str) -> None:
    """OpenMP reads its variables as torch is loaded; a later word would come too late."""
    script = f"""
import builtins, os, sys
original = builtins.__import__
def watching(name, *rest, **named):
    if name == "torch":
        sys.exit(os.environ.get("OMP_WAIT_POLICY"))  # what torch would read; torch itself is not needed
    return original(name, *rest, **named)
builtins.__import__ = watching
import {module}
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stderr == "PASSIVE\n"
