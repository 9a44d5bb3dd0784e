"""Where the demonstration pair lies, when the distribution `thinwire-demo-pair` is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from thinwire.common.errors import ConfigError

PACKAGE = "thinwire_demo_pair"
DISTRIBUTION = "thinwire-demo-pair"


def is_installed() -> bool:
    """Whether the pair's package can be found."""
    return find_spec(PACKAGE) is not None


def draft_path() -> Path:
    """Folder of the draft model, Hugging Face's format; ConfigError if the pair is not installed."""
    return _folder() / "draft"


def target_path() -> Path:
    """Folder of the target model, Hugging Face's format; ConfigError if the pair is not installed."""
    return _folder() / "target"


def model(role: str) -> str | None:
    """Folder of the "draft" or "target" model as a daemon's default; None where the pair is not installed."""
    return str(_folder() / role) if is_installed() else None


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the demonstration pair is not installed; expected {DISTRIBUTION} (pip install).")
    return Path(spec.submodule_search_locations[0])
