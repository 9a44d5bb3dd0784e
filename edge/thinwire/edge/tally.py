"""What one generation counted: the raw numbers behind acceptance rate, block efficiency and dropped mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.common.config import Rollback
from thinwire.common.law.decision_margin import CLOSE_DRAFT_MARGIN
from thinwire.common.session.messages import TokenKind
from thinwire.edge.events import DraftedBlock, EmittedToken


@dataclass(slots=True)
class Tally:
    """Counts of one generation; units are tokens, rounds, bits and probability mass."""

    output_tokens: int = 0
    rounds: int = 0
    drafted_tokens: int = 0
    tested_tokens: int = 0
    accepted_tokens: int = 0
    resampled_tokens: int = 0
    payload_bits: int = 0
    kept_positions: int = 0
    """T: positions whose threshold update was kept."""
    dropped_mass: float = 0.0
    """Σ α_n over kept positions."""
    cap_bound_positions: int = 0
    """Kept positions at which K_max cut the support."""
    draft_full_from: int = 0
    """Output token, counted from 1, from which on the draft model's context was full; 0 while it is not."""
    streams: int = 0
    """That the cloud opened, for a new session or a resumed one."""
    close_drafts: int = 0
    """Rounds whose block's margin was below `CLOSE_DRAFT_MARGIN`."""
    rebuilds: int = 0
    """Sessions opened again from the committed tokens, because the cloud had lost them."""

    def count_round(self, drafted: DraftedBlock, accepted: int, *, rollback: Rollback) -> None:
        """A decided block: positions behind the first rejection were drafted, but neither tested nor kept."""
        length = len(drafted.tokens)
        tested = min(accepted + 1, length)
        kept = length if rollback is Rollback.DRAFTED else tested
        self.rounds += 1
        self.drafted_tokens += length
        self.tested_tokens += tested
        self.accepted_tokens += accepted
        self.payload_bits += 8 * len(drafted.payload)
        self.kept_positions += kept
        self.close_drafts += drafted.margin < CLOSE_DRAFT_MARGIN
        for distribution in drafted.distributions[:kept]:
            self.dropped_mass += distribution.dropped_mass
            self.cap_bound_positions += distribution.cap_binds

    def count_full_draft(self) -> None:
        """The draft model's context is full before the next output token."""
        self.draft_full_from = self.draft_full_from or self.output_tokens + 1

    def count_output(self, emitted: Sequence[EmittedToken]) -> None:
        """Tokens that became part of the text."""
        self.output_tokens += len(emitted)
        self.resampled_tokens += sum(token.kind is TokenKind.RESAMPLED for token in emitted)

    @property
    def reconnects(self) -> int:
        """Streams opened beyond the first; one that the cloud refused, or that never came so far, is none."""
        return max(0, self.streams - 1)

    @property
    def mean_dropped_mass(self) -> float:
        """Mean α_n over kept positions; NaN without any."""
        return self.dropped_mass / self.kept_positions if self.kept_positions else math.nan

    @property
    def cap_binding_rate(self) -> float:
        """Share of kept positions at which the cap bound."""
        return self.cap_bound_positions / self.kept_positions if self.kept_positions else 0.0
