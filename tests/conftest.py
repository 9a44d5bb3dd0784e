"""Settings of the test process itself."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from never_blocked import never_blocked
from thinwire.common.schemes import load_schemes

# Before any test imports torch: with tests side by side on few cores, threads wait for each other, and those
# that spin meanwhile starve the rest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a script starts in the background ignores SIGINT, and so would every command that a test starts there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


TESTS = Path(__file__).parent
WITH_DAEMONS = tuple(TESTS / name for name in ("cloud", "edge", "integration", "security"))
"""Folders whose tests run daemons or clients in this process."""


@pytest.fixture(autouse=True)
def _never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """The event loop of a daemon is never blocked."""
    if request.path.parent not in WITH_DAEMONS:
        yield
        return
    with never_blocked() as found:
        yield
    assert not found, f"the event loop was blocked {len(found)} times; first by {found[0]}"


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
    """As the daemons do: other packages' schemes are found before, full collections do not walk libraries."""
    load_schemes()
    gc.collect()
    gc.freeze()
