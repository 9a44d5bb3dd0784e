"""
The trial that a model passes before it serves a text, on its own weights.

What is promised of a text is the law that transformers' plain forward pass gives for its ids alone.
What makes a text is something else: passes over parts of it, a cache that is cut back, memory that other
texts had before, other texts in the same pass.
Whether the two agree is a matter of each model's code and is not guessed from names: two short texts are
served as sessions are, and every row of logits is compared with the plain pass's.

The plain pass comes first, through the module as transformers made it, with the two texts as its two rows.
They begin alike and go on differently: that shows whether logits depend on later ids (a model that is not
causal).
In a second one the positions are given, as in shared passes, and the second text's last token stands at the
end of the context: that shows whether they are counted in another way, or logits depend on the positions of
later tokens (rotary factors that follow the longest position of a pass).

So short a text cannot show everything: a cache that is really filled to the context's end, and a text of
several pages, are not tried.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import DynamicCache

from thinwire.common.causal_model import CachedSequence, Extended, ExtendRequest
from thinwire.common.errors import ModelTrialError, ResourceExhaustedError
from thinwire.common.language_model.logits import ScoredModule, non_finite, scored_rows

TOLERANCES = {"float64": 1e-4, "float32": 1e-3, "float16": 0.3, "bfloat16": 0.3}
"""
`deviation` that rounding alone may make, measured: docs/decisions/0013-a-trial-before-serving.md.
Some models compute a part in float32 whatever their dtype is.
"""

_ALIKE = 0.25
"""Share of the tolerance for plain passes, which are of one shape and hardly round differently."""
_SEEDS = (12, 13)
"""Seeds of the texts; the second is for a model that fails with the first."""
_CHANGE = "the logits after a token change with"
_OTHER = "has other logits than in transformers' plain forward pass"

TEXT_TOKENS = 12
SHARED_TOKENS = 4
"""At the start of both texts."""
TREE_TOKENS = 3
"""Of either text behind those, as a tree."""
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

Rows = npt.NDArray[Any]

_log = logging.getLogger(__name__)


class Sequences(Protocol):
    """What is tried; see `CausalModel`."""

    def open_sequence(self) -> CachedSequence:
        """A new, empty sequence."""

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """Extend several sequences."""


class Trial:
    """
    Two texts and their plain passes, by a model as loaded: with transformers' own attention and layers.

    Raises:
        ModelTrialError: the plain pass fails, or a row of it depends on later tokens or their positions.
        NonFiniteLogitsError: it gives NaN.
    """

    def __init__(self, scored: ScoredModule, *, dtype: str, context_length: int) -> None:
        self._module = scored.module
        self._name = scored.name
        self._dtype = dtype
        self._ids = min(scored.vocabulary_size, scored.rows)
        """Ids below it can be fed and are scored."""
        self._tolerance = TOLERANCES[dtype]
        self._context_length = context_length
        self._takes_positions = "position_ids" in inspect.signature(self._module.forward).parameters
        self.cache: Any
        """transformers' own, filled by the last plain pass."""
        self._draw_texts(_SEEDS[0])

    def check(self, sequences: Sequences, *, pages: int | None = None) -> None:
        """
        Try sequences.

        A model is refused for two pairs of texts: where two experts of a mixture are equally good, rounding
        chooses between them, and the logits jump.

        Args:
            pages: of the one pool that they share; None for sequences that have a cache each.

        Raises:
            ModelTrialError: naming what differs.
        """
        script, diagnoses = OWN_CACHES if pages is None else ONE_POOL, (*ALONE, BESIDE)
        if pages is not None and pages < POOL_PAGES:
            script, diagnoses = ONE_PAGE, ALONE
        try:
            self._check(script, diagnoses, sequences)
        except ModelTrialError:
            self._draw_texts(_SEEDS[-1])
            self._check(script, diagnoses, sequences)

    def agrees_on_trees(self, sequences: Sequences) -> bool:
        """
        Whether a pass over both texts as a tree, and one behind the second's path, score as plain ones do.

        One line of the log says so where they do not.
        """
        start, stop = SHARED_TOKENS, SHARED_TOKENS + TREE_TOKENS
        if self._context_length <= stop:
            return False
        trunk, branch = (text[start:stop] for text in self._texts)
        row, ids = start - 1, [*self._texts[A][:start], *trunk, *branch]
        parents = [*range(TREE_TOKENS), 0, *range(TREE_TOKENS + 1, 2 * TREE_TOKENS)]
        expected = [self._rows[A][row:stop], self._rows[B][start:stop], self._rows[B][stop : stop + 1]]
        sequence = sequences.open_sequence()
        try:
            rows = sequence.extend(ids, logit_rows=len(parents) + 1, parents=parents)
            sequence.keep(start, range(stop, stop + TREE_TOKENS))
            behind = sequence.extend(self._texts[B][stop : stop + 1], logit_rows=1)
            found = deviation(np.concatenate(expected), np.concatenate([rows, behind])[:, : self._ids])
        except ResourceExhaustedError:
            return False  # a pool of a page or two
        except Exception as error:  # whatever a model's code makes of what it is not made for
            _log.warning("passes take no trees of hints: %s", self._failure("a tree", error).message)
            return False
        finally:
            sequence.close()
        if found > self._tolerance:
            _log.warning(
                "passes take no trees of hints: %s", self._refusal(f"a tree {_OTHER}", found).message
            )
        return found <= self._tolerance

    def _draw_texts(self, seed: int) -> None:
        """Choose the texts and make their plain passes, as two rows of each."""
        count = min(TEXT_TOKENS, self._context_length)
        self._texts = _two_texts(self._module.config, self._ids, count, seed)
        self._rows = self._placed = self._plain(self._texts)
        error = non_finite(self._rows[0], self._name, count)
        if error is not None:
            raise error
        if self._takes_positions:
            positions = [[*range(count)], [*range(count - 1), self._context_length - 1]]
            self._placed = self._plain(self._texts, positions)
        else:
            _log.info("%s takes no positions: those after %d are not tried.", self._name, count)
        found = max(self._apart(*self._rows), self._apart(self._rows[0], self._placed[0]))
        if found > _ALIKE * self._tolerance:
            if seed != _SEEDS[-1]:
                self._draw_texts(_SEEDS[-1])
                return
            raise self._plain_fault() or self._refusal(f"{_CHANGE} its neighbours", found)

    def _plain_fault(self) -> ModelTrialError | None:
        """Why rows of a plain pass are not those of the text alone."""
        first, second = self._texts
        (alone,) = self._plain([first])
        is_decoder = getattr(self._module.config, "is_decoder", True)
        hint = "" if is_decoder else " (its configuration has is_decoder false)"
        suspects: list[tuple[str, Callable[[], list[Rows]]]] = [
            (f"it is not causal{hint}: {_CHANGE} the tokens after it", lambda: self._plain([second])),
            (
                f"{_CHANGE} the longest position of a pass, {self._context_length - 1}",
                lambda: self._placed,
            ),
        ]
        if self._takes_positions:
            what = "it counts positions in its own way, not 0, 1, 2, …: given these, it has other logits"
            suspects.insert(1, (what, lambda: self._plain([first], [[*range(len(first))]])))
        for what, rows in suspects:
            found = self._apart(alone, rows()[0])
            if found > _ALIKE * self._tolerance:
                return self._refusal(what, found)
        return None

    def _apart(self, one: Rows, other: Rows) -> float:
        return deviation(one[:SHARED_TOKENS], other[:SHARED_TOKENS])

    def _plain(self, texts: Sequence[Sequence[int]], positions: Sequence[Sequence[int]] = ()) -> list[Rows]:
        """(tokens, ids) logits of each text, in one pass of transformers' own."""
        device = next(self._module.parameters()).device
        self.cache = DynamicCache(config=self._module.config)
        options: dict[str, Any] = {"past_key_values": self.cache, "use_cache": True}
        if positions:
            options["position_ids"] = torch.tensor(positions, device=device)
        try:
            with torch.inference_mode():
                logits = self._module(input_ids=torch.tensor(texts, device=device), **options).logits
                return [scored_rows(rows, self._ids) for rows in logits]
        except Exception as error:  # every kind occurs
            at = f" with a token at position {positions[-1][-1]}" if positions else ""
            raise self._failure(f"its plain forward pass{at}", error) from error

    def _check(
        self,
        script: Script,
        diagnoses: Sequence[tuple[str, Script]],
        sequences: Sequences,
    ) -> None:
        """Play a script; if it shows a difference, find the simplest one that does."""
        try:
            found = self._play(TOGETHER, script, sequences)
            if found <= self._tolerance:
                return
        except ModelTrialError as error:
            refusal = error
        else:
            refusal = self._refusal(f"{TOGETHER} {_OTHER}", found)
        fault = self._plain_fault()
        if fault is not None:
            raise fault
        for what, simpler in diagnoses:
            found = self._play(what, simpler, sequences)
            if found > self._tolerance:
                raise self._refusal(f"{what} {_OTHER}", found)
        raise refusal

    def _play(self, what: str, script: Script, sequences: Sequences) -> float:
        """How far the rows of a script are from the plain ones, at most."""
        opened: dict[int, CachedSequence] = {}
        worst = 0.0
        try:
            for feeds in script:
                requests = []
                for feed in feeds:
                    if feed.sequence not in opened:
                        opened[feed.sequence] = sequences.open_sequence()
                    sequence = opened[feed.sequence]
                    if sequence.length > feed.start:
                        sequence.truncate(feed.start)
                    ids = self._texts[feed.text][feed.start : feed.stop]
                    wrong = [(n + feed.stop) % self._ids for n in range(feed.rejected)]
                    requests.append(ExtendRequest(sequence, [*ids, *wrong], len(ids) + feed.rejected))
                for feed, answer in zip(feeds, sequences.extend_batch(requests), strict=True):
                    if isinstance(answer, Exception):
                        raise answer
                    expected = self._rows[feed.text][feed.start : feed.stop]
                    worst = max(worst, deviation(expected, answer[: len(expected), : self._ids]))
                    if feed.closes:
                        opened.pop(feed.sequence).close()
        except ResourceExhaustedError:
            raise
        except Exception as error:  # whatever a model's code makes of what it is not made for
            raise self._failure(what, error) from error
        finally:
            for sequence in opened.values():
                sequence.close()
        return worst

    def _refusal(self, what: str, found: float) -> ModelTrialError:
        return ModelTrialError(
            f"{self._name} failed the trial on its own weights: {what}, by {found:.2g} of their spread; "
            f"expected at most {self._tolerance:g} in {self._dtype}."
        )

    def _failure(self, what: str, error: Exception) -> ModelTrialError:
        lines = str(error).strip().splitlines() or [""]
        return ModelTrialError(
            f"{self._name} failed the trial on its own weights: {what} fails "
            f"({type(error).__name__}: {lines[0].rstrip('.')}); expected the logits of transformers' plain "
            f"forward pass."
        )


def _two_texts(config: Any, ids: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Two random texts that begin alike, special ids among them: some models give those another meaning."""
    rng = np.random.default_rng(seed)
    shared, tail = rng.integers(0, ids, SHARED_TOKENS), rng.integers(0, ids, TEXT_TOKENS - SHARED_TOKENS)
    text = config.get_text_config(decoder=True)
    for place, field in enumerate(("pad_token_id", "bos_token_id", "eos_token_id"), start=1):
        special = getattr(text, field, None)
        if isinstance(special, int) and 0 <= special < ids:
            shared[place] = special
    other = (tail + 1 + rng.integers(0, max(1, ids - 1), len(tail))) % ids
    return [*map(int, shared), *map(int, tail)][:count], [*map(int, shared), *map(int, other)][:count]


def deviation(expected: Rows, rows: Rows) -> float:
    """
    How far rows of logits are from others: the largest root mean square of a row's differences, as a share of
    the row's own spread (its standard deviation). Logits that are all raised alike are the same law.

    Args:
        expected, rows: (n, ids); -inf where an id is impossible.

    Returns:
        0 for equal laws, about 1.4 for unrelated ones; inf where one has a number and the other has none.
    """
    worst = 0.0
    for one, other in zip(expected.astype(np.float64), rows.astype(np.float64), strict=True):
        finite = np.isfinite(one)
        if not np.array_equal(finite, np.isfinite(other)):
            return math.inf
        difference = float(np.std(one[finite] - other[finite])) if finite.any() else 0.0
        spread = float(np.std(one[finite])) if finite.any() else 0.0
        if difference:
            worst = max(worst, difference / spread if spread else math.inf)
    return worst
