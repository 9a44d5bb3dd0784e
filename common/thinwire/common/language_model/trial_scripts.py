"""
What sequences do in a trial (`common.language_model.trial`): written out, to be seen at once.

There are two texts, A and B, which begin alike; each is fed in parts, to one sequence or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

TEXT_TOKENS = 12
SHARED_TOKENS = 4
"""At the start of both texts."""
A, B = 0, 1


@dataclass(frozen=True, slots=True)
class Feed:
    """One sequence's part in a pass: tokens `start` to `stop` of a text, after its first `start`."""

    sequence: int
    """Which; a new one where none is open under this number. A longer one is rolled back to `start`."""
    text: int
    start: int
    stop: int
    rejected: int = 0
    """Wrong ids after them."""
    closes: bool = False
    """Whether the sequence ends with the pass."""


Script = tuple[tuple[Feed, ...], ...]
"""Passes, each with its sequences' parts."""

OWN_CACHES: Script = (
    (Feed(0, A, 0, 7, rejected=2),),
    (Feed(1, B, 0, 3),),
    (Feed(0, A, 5, 6),),
    (Feed(0, A, 6, TEXT_TOKENS),),
)
"""A script of sequences with a cache each, one a pass."""
POOL_PAGES = 3
ONE_POOL: Script = (
    (Feed(0, A, 0, 7, rejected=2), Feed(1, B, 0, 8, closes=True), Feed(2, B, 0, 3)),
    (Feed(0, A, 5, TEXT_TOKENS), Feed(3, A, 0, 4), Feed(2, B, 3, 4)),
)
"""A script of sequences in one pool of `POOL_PAGES` or more; the last gets a page that another gave back."""
ONE_PAGE: Script = (
    (Feed(0, A, 0, 7, rejected=2),),
    (Feed(0, A, 5, TEXT_TOKENS, closes=True),),
    (Feed(1, B, 0, 8),),
)
"""A script of a smaller pool, one sequence at a time."""
ALONE: tuple[tuple[str, Script], ...] = (
    ("a text in one pass with a cache", ((Feed(0, A, 0, TEXT_TOKENS),),)),
    ("a text in several passes", tuple((Feed(0, A, n, n + 3),) for n in range(0, TEXT_TOKENS, 3))),
    ("a text after a roll-back of its cache", ONE_PAGE[:2]),
    ("a text in memory that another one had", ((Feed(0, B, 0, 8, closes=True),), (Feed(1, A, 0, 4),))),
)
"""From the simplest on; the first one that goes wrong says what is wrong."""
BESIDE = (
    "a text whose passes alternate with another one's",
    ((Feed(0, A, 0, 7),), (Feed(1, B, 0, 8),), (Feed(0, A, 7, TEXT_TOKENS),)),
)
"""A text beside another one, in passes of its own."""
TOGETHER = "a text in passes shared with another one"


def two_texts(config: Any, ids: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Random ids, the special ones among them: some models give those another meaning."""
    rng = np.random.default_rng(seed)
    shared, tail = rng.integers(0, ids, SHARED_TOKENS), rng.integers(0, ids, TEXT_TOKENS - SHARED_TOKENS)
    text = config.get_text_config(decoder=True)
    for place, field in enumerate(("pad_token_id", "bos_token_id", "eos_token_id"), start=1):
        special = getattr(text, field, None)
        if isinstance(special, int) and 0 <= special < ids:
            shared[place] = special
    other = (tail + 1 + rng.integers(0, max(1, ids - 1), len(tail))) % ids
    return [*map(int, shared), *map(int, tail)][:count], [*map(int, shared), *map(int, other)][:count]
