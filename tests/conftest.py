"""Settings of the test process itself."""

from __future__ import annotations

import os

# Before any test imports torch: with tests side by side on few cores, spinning threads starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
