"""The release this code belongs to."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


@cache
def version() -> str:
    """Version of the installed distribution; "0+source" when run from a tree that was never installed."""
    try:
        return installed_version("thinwire")
    except PackageNotFoundError:
        return "0+source"
