"""
The link between edge and cloud: one description, several ways to make it real, one interface.

Standard library only, so that a small container image can run `python -m link.sidecar`.
The page to read first is `link/README.md`.
"""

from __future__ import annotations
