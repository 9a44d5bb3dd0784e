"""Settings of the test process itself."""

from __future__ import annotations

import gc
import os

# Before any test imports torch: with tests side by side on few cores, spinning threads starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_finish() -> None:
    """As the daemons do once they have loaded: full collections need not walk through the libraries."""
    gc.collect()
    gc.freeze()
