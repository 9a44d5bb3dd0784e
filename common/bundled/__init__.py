"""The bundled model pair: where its two folders are. See MODEL_CARD.md beside this file."""

from __future__ import annotations

from pathlib import Path


def target_path() -> Path:
    """Folder of the target model, Hugging Face format."""
    return Path(__file__).parent / "target"


def draft_path() -> Path:
    """Folder of the draft model, Hugging Face format."""
    return Path(__file__).parent / "draft"
