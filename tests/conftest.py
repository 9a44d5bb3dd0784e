"""Settings of the test process itself."""

from __future__ import annotations

import gc
import os
import signal

import pytest

# Before any test imports torch: with tests side by side on few cores, threads wait for each other, and those
# that spin meanwhile starve the rest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a script starts in the background ignores SIGINT, and so would every command that a test starts there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ours."""
    parser.addoption(
        "--device", default="cpu", help="torch device of the models in tests/model (default cpu)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The device is for whoever asked for another one: the module that holds it imports torch."""
    device = config.getoption("--device")
    if device != "cpu":
        import torch_device

        torch_device.name = device


def pytest_collection_finish() -> None:
    """As the daemons do once they have loaded: full collections need not walk through the libraries."""
    gc.collect()
    gc.freeze()
