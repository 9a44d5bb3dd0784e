"""CRC-32C (Castagnoli), from the maintained `google-crc32c` package."""

from __future__ import annotations

import google_crc32c


def crc32c(data: bytes) -> int:
    """CRC-32C of `data`, an unsigned 32-bit integer; `crc32c(b"123456789") == 0xE3069283`."""
    return int(google_crc32c.value(data))
