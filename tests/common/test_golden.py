"""
The payload's bits and the shipped tables, written out.

`tests/golden/payload_layout_1.json` holds blocks with their bytes; other bytes need another PAYLOAD_LAYOUT.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.support_code import SIZE_CODES, size_table
from thinwire.common.schemes import make_scheme, parse_scheme
from thinwire.common.session.messages import PAYLOAD_LAYOUT

GOLDEN = Path(__file__).parents[1] / "golden" / f"payload_layout_{PAYLOAD_LAYOUT}.json"
BLOCKS: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
TABLES = {
    1: "a3c354422a285f4ffa4805c1198af24deec35e1ed41be069f04370c2321ad696",
    8: "4b1629d212cf2169f8790aa3c0cec1ae6a529995456949b2343ff709cbde299b",
    64: "ec02e16fe347f9c86cb94ab5b7353bd825ee09551361804902587c28f091081a",
    256: "2db35aab1ca37885a5fb615164b3ce71c883d75b197bae81abd0e7ab6f7ad1c5",
    1024: "1e764dec4b8f119747ae93bcc544e4cc4fde33acf2fd4a80b69522bba388530b",
}
"""SHA-256 over the 128 tables of each M, as decimal text: numbers joined by commas, tables by semicolons."""


def tables(max_size: int) -> str:
    """All tables for M = `max_size` as text."""
    return ";".join(",".join(map(str, size_table(code, max_size))) for code in range(SIZE_CODES))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block["name"]))
def test_a_block_has_the_bytes_written_down_and_comes_back_from_them(block: dict[str, Any]) -> None:
    """Both directions, so that neither end can drift with the other."""
    scheme = make_scheme(parse_scheme(block["scheme"]), vocabulary_size=block["vocabulary_size"])
    resolution = scheme.parameters.values().get("lattice_resolution", 1)
    tokens = [
        DraftToken(
            QuantizedDistribution(np.array(t["support_ids"]), np.array(t["lattice_counts"]), resolution),
            t["token_index"],
        )
        for t in block["tokens"]
    ]
    code, payload = block["coding"], bytes.fromhex(block["payload"])

    decoded = scheme.decode(payload, draft_length=len(tokens), coding=code)

    assert scheme.encode(tokens, coding=code) == payload
    assert [
        {
            "support_ids": t.quantized.support_ids.tolist(),
            "lattice_counts": t.quantized.lattice_counts.tolist(),
            "token_index": t.token_index,
        }
        for t in decoded
    ] == block["tokens"]


@pytest.mark.parametrize("max_size", TABLES)
def test_the_shipped_tables_do_not_change(max_size: int) -> None:
    """Frequencies are part of the layout."""
    assert hashlib.sha256(tables(max_size).encode()).hexdigest() == TABLES[max_size]


def test_a_small_table_by_hand() -> None:
    """M = 3, code 1: P(1) = 1/64 and a tail of mean 1.4, by the recipe of proto/README.md."""
    free = 65536 - 3
    behind, first, second = free * 63 // 64, 2**64, 2**64 * 4 // 14
    two = 1 + behind * first // (first + second)
    three = 1 + behind * second // (first + second)

    assert size_table(1, 3) == (0, 65536 - two - three, 65536 - three, 65536)
