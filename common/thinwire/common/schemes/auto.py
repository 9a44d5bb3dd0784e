"""
`auto` in the place of a scheme's name: the edge takes one for each text, and says which.

It stands in requests alone. A session at the cloud has a scheme, and never learns that it was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thinwire.common.schemes.parameters import SchemeParameters

AUTO = "auto"
SUMMARY = "the edge takes coupled, or a scheme of rounds where that saves passes; it says which"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoParameters(SchemeParameters):
    """None: what is chosen has the defaults for the text's temperature."""

    scheme: ClassVar[str] = AUTO
