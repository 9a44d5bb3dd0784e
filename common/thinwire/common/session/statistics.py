"""
What is measured, each number named once: of a drafted block, of a round, of a whole generation.

A number of `GenerationStatistics` that `RoundMeasured` has too, as a field or a property, is its sum over the
rounds; from there it reaches the wire, JSON, the report and the log by its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DraftMeasured:
    """Times of drafting one block."""

    draft_s: float = 0.0
    """Seconds of drafting, without coding."""
    encode_s: float = 0.0
    """Seconds of coding the payload."""


@dataclass(frozen=True, kw_only=True)
class RoundVerified:
    """One verified round, as both ends know it."""

    scheme: str
    """Its name."""
    round: int
    """Its number in its session, from 1."""
    draft_length: int
    """γ of this block, 0 to 64."""
    accepted: int
    """Draft tokens accepted, 0 to γ."""
    uplink_payload_bits: int
    """8 × bytes of the coded block."""
    queue_s: float
    """Seconds that the round waited for the target model, as the cloud measured them."""
    verify_s: float
    """Seconds of decoding, target pass and tests, as the cloud measured them."""


@dataclass(frozen=True, kw_only=True)
class RoundMeasured(RoundVerified, DraftMeasured):
    """One verified round as the edge saw it; the fields of a line in the round log."""

    session: str
    """The cloud's session id, hexadecimal."""
    lattice_resolution: int = 0
    """ℓ; 0 where there is no lattice."""
    support_sizes: tuple[int, ...] = ()
    """K_n of each drafted token, before zero counts left."""
    wire_support_sizes: tuple[int, ...] = ()
    """K_n⁺ of each drafted token, as sent."""
    dropped_masses: tuple[float, ...] = ()
    """α_n of each drafted token."""
    kept_positions: int = 0
    """Positions whose threshold update was kept, the first of the block."""
    cap_bound_positions: int = 0
    """Kept positions at which K_max cut the support."""
    close_drafts: int = 0
    """1 if the block hung on a decision that rounding in float32 may turn, otherwise 0."""
    draft_margin: float = 1.0
    """How far the closest of the block's float decisions was from another (`common.law.decision_margin`)."""
    uplink_message_bytes: int
    """Serialised bytes of the round, repeats included."""
    downlink_message_bytes: int
    """Serialised bytes of the verdict."""
    round_trip_s: float
    """Seconds from the round's first sending to its verdict; free-running, since the pass before came."""
    copied_tokens: int = 0
    """Accepted ones that the cloud copied from the text; free-running."""
    wait_s: float = 0.0
    """Seconds for which the target had waited for a hint, as the cloud measured them; free-running."""
    has_rejection: bool | None = None
    """Whether a drafted token was rejected, where the numbers above do not say so: rows of a tree."""

    @property
    def drafted_tokens(self) -> int:
        """γ of this block."""
        return self.draft_length

    @property
    def accepted_tokens(self) -> int:
        """Draft tokens accepted."""
        return self.accepted

    @property
    def tested_tokens(self) -> int:
        """Draft tokens tested: the first rejection is, those after it are not."""
        if self.has_rejection is not None:
            return self.accepted + self.has_rejection
        return min(self.accepted + 1, self.draft_length)

    @property
    def network_s(self) -> float:
        """Seconds of the round trip less the cloud's own time."""
        return max(0.0, self.round_trip_s - self.queue_s - self.verify_s - self.wait_s)

    @property
    def waits(self) -> int:
        """1 if the target had waited for a hint, otherwise 0."""
        return int(self.wait_s > 0)


@dataclass(slots=True, kw_only=True)
class GenerationStatistics:
    """One generation in numbers, counted while it runs; the proto has them as `Statistics`."""

    output_tokens: int = 0
    """Tokens of the text, end-of-text token included."""
    rounds: int = 0
    """Verified; of a free-running text, target passes that came down."""
    drafted_tokens: int = 0
    """Drafted in verified rounds; of a free-running text, hints that passes were fed, copied ones too."""
    tested_tokens: int = 0
    """Drafted ones that were tested: the first rejection included, those after it not."""
    accepted_tokens: int = 0
    """Tested ones that were accepted."""
    resampled_tokens: int = 0
    """Drawn in place of a rejected one."""
    uplink_payload_bits: int = 0
    """Coded payloads, repeats not counted."""
    uplink_message_bytes: int = 0
    """Whole messages from edge to cloud, repeats included."""
    downlink_message_bytes: int = 0
    """Whole messages from cloud to edge, repeats included."""
    mean_dropped_mass: float = math.nan
    """Mean of α over kept positions."""
    dropped_mass_guarantee: float | None = None
    """Theorem 2's bound on it; null where the scheme has none."""
    cap_binding_rate: float = 0.0
    """Share of kept positions at which K_max cut the support; from 0.01 on the guarantee is void."""
    kept_positions: int = 0
    """T of Theorem 2."""
    close_drafts: int = 0
    """Rounds whose block hung on a decision that rounding in float32 may turn ([log](#log))."""
    draft_full_from: int = 0
    """Output token, from 1, from which on the draft's context was full and the cloud wrote alone; 0: none."""
    accepted_prediction_tokens: int = 0
    """Tokens of the prediction that went up as hints and that the target wrote, in time or not."""
    rejected_prediction_tokens: int = 0
    """Tokens of the prediction that went up and were wrong, or stood behind a wrong one."""
    reconnects: int = 0
    """Streams opened beyond the first."""
    rebuilds: int = 0
    """Sessions opened again because the cloud had lost them."""
    total_s: float = 0.0
    """Seconds from the request to the end of the text."""
    first_token_s: float = 0.0
    """Seconds to the first token."""
    draft_s: float = 0.0
    """Seconds of drafting, without coding."""
    encode_s: float = 0.0
    """Seconds of coding payloads."""
    network_s: float = 0.0
    """Seconds of round trips less the cloud's own time."""
    queue_s: float = 0.0
    """Seconds of waiting for the target model, as the cloud measured them."""
    verify_s: float = 0.0
    """Seconds of decoding, target pass and tests, as the cloud measured them."""
    wait_s: float = 0.0
    """Seconds for which a free-running target waited for hints, as the cloud measured them."""
    waits: int = 0
    """Passes that so waited."""
    hints_sent: int = 0
    """Guesses that went up to a free-running cloud."""
    hint_messages: int = 0
    """Messages that carried them."""
    hints_judged: int = 0
    """Guesses that were held against the text, whether they came in time or not."""
    hints_right: int = 0
    """Those of them that were the text's."""
    copied_tokens: int = 0
    """Accepted ones that the cloud copied from the text, and not the edge's."""
    hint_age_s: float = math.nan
    """Mean seconds from a guess's going up to the coming down of the pass that it saved; null without any."""
    open_s: float = 0.0
    """Seconds from the last Open to its answer: a round trip, and the prompt's bytes."""
    draft_token_s: float = math.nan
    """Mean seconds of drafting a token, the first block left out, as it feeds the prompt; null without."""

    @property
    def match_rate(self) -> float:
        """Right guesses of judged ones, free-running; what `acceptance_rate` is to rounds."""
        return self.hints_right / self.hints_judged if self.hints_judged else math.nan

    @property
    def acceptance_rate(self) -> float:
        """Accepted of tested tokens; estimates 1 - TV(p, q̂)."""
        return self.accepted_tokens / self.tested_tokens if self.tested_tokens else math.nan

    @property
    def block_efficiency(self) -> float:
        """Output tokens a round."""
        return self.output_tokens / self.rounds if self.rounds else math.nan

    @property
    def resampling_rate(self) -> float:
        """Resampled of output tokens."""
        return self.resampled_tokens / self.output_tokens if self.output_tokens else math.nan
