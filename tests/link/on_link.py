"""Modules of the tests as processes at either end of a link."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from link.link import End
from link.self_test import module_environment
from thinwire.common.session.generation import GenerationRequest

ROOT = Path(__file__).resolve().parents[2]
PROCESS_TIMEOUT_S = 10.0


def start(pipes: ExitStack, end: End, *command: str) -> tuple[subprocess.Popen[str], str]:
    """
    Start a module at one end.

    Args:
        pipes: closes the process's pipes; to be entered before the link, which ends its processes.
        command: name of the module, and its arguments.

    Returns:
        the process, and the first line it said.
    """
    environment = module_environment()
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(ROOT / "tests")])
    process = end.popen(
        [sys.executable, "-m", *command],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pipes.enter_context(process)
    line = process.stdout.readline().strip()
    assert line, f"{command} ended with {process.wait(PROCESS_TIMEOUT_S)}"
    return process, line


def ask(edge: subprocess.Popen[str], *requests: GenerationRequest) -> int:
    """Texts that `tests.link.table_daemons` makes together; returns their tokens."""
    assert edge.stdin is not None
    assert edge.stdout is not None
    line = json.dumps([{**asdict(request), "scheme": str(request.scheme)} for request in requests])
    print(line, file=edge.stdin, flush=True)
    return int(edge.stdout.readline())


def stop(process: subprocess.Popen[str]) -> str:
    """Close its input and wait; returns what it said last."""
    said, _ = process.communicate(timeout=PROCESS_TIMEOUT_S)
    assert process.returncode == 0
    return said.strip()
