"""What both ends of a free-running session go by: bounds that the cloud keeps and the edge counts on."""

from __future__ import annotations

MAX_HINT_ROWS = 16
"""Hints a pass is fed at most."""
WAIT_SHARE = 0.5
"""Of a pass that the target waits for a hint at most: it is lost where the hint does not come."""
WAIT_PASSES = 6.0
"""Passes that it waits at most where few passes matter more than time."""
