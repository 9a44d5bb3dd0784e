"""Where the model tests load their models: on the CPU, or as `pytest tests/model --device cuda` says."""

from __future__ import annotations

from typing import Any

from thinwire.common.language_model import LanguageModel, load_language_model

name = "cpu"
"""Set once, before the first test, by conftest.py."""


def load_on_device(path_or_id: str, **options: Any) -> LanguageModel:
    """`load_language_model` with the device of this run."""
    return load_language_model(path_or_id, **{"device": name, **options})
