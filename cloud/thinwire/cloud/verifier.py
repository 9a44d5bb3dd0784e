"""
Verification work of one session, done in the target model's one executor thread.

The event loop asks for work, hands it to the batcher and gets tokens and outcomes back; nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.cloud.batch_queue import PassWork
from thinwire.cloud.events import Score, Write
from thinwire.cloud.hint_store import Rows
from thinwire.common.causal_model import CachedSequence, CausalModel, ExtendRequest, RolledBackSequence
from thinwire.common.config import SamplingParameters
from thinwire.common.door.tenants import DEFAULT_TENANT
from thinwire.common.errors import SessionNotFoundError
from thinwire.common.law.distributions import warp
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Draws
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.law.steps import Steps
from thinwire.common.schemes.base import Scheme
from thinwire.common.schemes.coupled import race_through
from thinwire.common.session.messages import DraftBlock


class Verifier:
    """
    One session's target sequence with the scheme that reads its payloads.

    The functions of the work run in the model's thread, everything else in the event loop's; `decoding` is
    stepped in either, in one at a time.
    """

    def __init__(
        self,
        model: CausalModel,
        scheme: Scheme,
        sampling: SamplingParameters,
        draws: Draws,
        *,
        tenant: str = DEFAULT_TENANT,
        session_id: bytes = b"",
    ) -> None:
        self.sequence = RolledBackSequence(model)
        self._work = partial(PassWork, tenant, session_id)
        self._scheme = scheme
        self._sampling = sampling
        self._draws = draws
        self._abandoned = False

    def prefilling(self, token_ids: Sequence[int], *, cached: int) -> PassWork:
        """Feeds at most `PREFILL_CHUNK_TOKENS` prompt tokens after `cached` others; its outcome is None."""
        return self._work(
            tokens=len(token_ids),
            is_round=False,
            begin=lambda: ExtendRequest(self._opened(cached), token_ids, 1),
            finish=lambda rows: None,
        )

    def decoding(self, block: DraftBlock) -> Steps[tuple[DraftToken, ...]]:
        """
        The block's drafted tokens, in steps.

        PayloadInvalidError if it decodes to nothing legal, SessionNotFoundError if the session has ended.
        """
        steps = self._scheme.decoding(block.payload, draft_length=block.draft_length, coding=block.coding)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                tokens: tuple[DraftToken, ...] = end.value
                return tokens
            self._check_live()
            yield

    def scoring(self, effect: Score) -> PassWork:
        """
        The work of one round: its part in a target pass over the last committed and the drafted tokens, then
        the acceptance tests; its outcome is a BlockOutcome.

        It ends in SessionNotFoundError if the session ended meanwhile, LocalProtocolError if the cache is not
        what the core believes, NonFiniteLogitsError if the target's logits cannot be used,
        ResourceExhaustedError if the cache has no room; the last leaves the sequence as it was.
        """

        def begin() -> ExtendRequest:
            return ExtendRequest(
                self._opened(effect.cache_length), effect.feed_token_ids, len(effect.tokens) + 1
            )

        def finish(logits: npt.NDArray[Any]) -> BlockOutcome:
            rows = _WarpedRows(logits, self._sampling)
            return self._scheme.verify(rows, effect.tokens, self._draws, first_position=effect.first_position)

        return self._work(tokens=len(effect.feed_token_ids), is_round=True, begin=begin, finish=finish)

    def writing(self, effect: Write, hints: Callable[[], Rows]) -> PassWork:
        """
        One pass of a free-running session; its outcome is (hints that were fed, BlockOutcome, the indices of
        those that were right).

        `hints` is asked in the model's thread when the pass begins: what came by then is used.
        Ends in errors as `scoring` does.
        """
        fed = Rows((), False)

        def begin() -> ExtendRequest:
            nonlocal fed
            fed = hints()
            feed = (*effect.feed_token_ids, *fed.token_ids)
            return ExtendRequest(self._opened(effect.cache_length), feed, len(fed.token_ids) + 1, fed.parents)

        def finish(logits: npt.NDArray[Any]) -> tuple[Rows, BlockOutcome, tuple[int, ...]]:
            rows, first = _WarpedRows(logits, self._sampling), effect.first_position
            return fed, *race_through(rows, fed.token_ids, fed.parents, self._draws, first_position=first)

        return self._work(
            tokens=len(effect.feed_token_ids) + effect.most_rows,
            is_round=True,
            begin=begin,
            finish=finish,
            tokens_now=lambda: len(effect.feed_token_ids) + len(hints().token_ids),
        )

    def abandon(self) -> None:
        """The session is over: work still in line for the model's thread is refused when its turn comes."""
        self._abandoned = True

    def _opened(self, length: int) -> CachedSequence:
        self._check_live()
        return self.sequence.holding(length)

    def _check_live(self) -> None:
        if self._abandoned:
            raise SessionNotFoundError("the session ended while its work was in line; expected a live one.")


class _WarpedRows(Sequence[npt.NDArray[np.float64]]):
    """Rows of target probabilities in float64, made when asked for: rows after a rejection never are."""

    def __init__(self, logits: npt.NDArray[Any], sampling: SamplingParameters) -> None:
        self._logits = logits
        self._sampling = sampling

    def __len__(self) -> int:
        return len(self._logits)

    def __getitem__(self, index: Any) -> Any:
        return warp(self._logits[index], self._sampling)

    def __iter__(self) -> Iterator[npt.NDArray[np.float64]]:
        return (self[n] for n in range(len(self)))
