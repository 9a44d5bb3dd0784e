"""
What goes into an edge session (events) and what comes out (effects), as plain data.

The shell performs effects in the order given and turns their outcome into the next event.
"""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.common.errors import ThinwireError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.session.effects import ArmTimer as ArmTimer
from thinwire.common.session.effects import TimerFired as TimerFired
from thinwire.common.session.effects import TruncateCache as TruncateCache
from thinwire.common.session.generation import Token
from thinwire.common.session.messages import (
    Close,
    DraftBlock,
    FinishReason,
    Hints,
    Open,
    Opened,
    Verdict,
    Written,
)
from thinwire.common.session.statistics import DraftMeasured


@dataclass(frozen=True, slots=True)
class DraftedBlock(DraftMeasured):
    """A block as the edge drafted it, with everything the wire does not carry."""

    tokens: tuple[DraftToken, ...]
    distributions: tuple[DraftDistribution, ...]
    """One per token, same order."""
    states: tuple[SchemeState, ...]
    """γ + 1 states, `states[i]` the one before position i."""
    coding: int
    payload: bytes
    cache_length: int
    """Tokens the draft model's cache holds after drafting."""
    acceptances: tuple[float, ...] = ()
    """Estimated chance of each token, given those before it (`Scheme.acceptance`)."""
    runners_up: tuple[int | None, ...] = ()
    """The id that came second at each place, where the effect asked for it and the scheme knows."""
    margin: float = 1.0
    """How far the closest of the block's float decisions was from another (`common.law.decision_margin`)."""


# --- events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The shell has a stream to the cloud, the first or a new one."""


@dataclass(frozen=True, slots=True)
class OpenedReceived:
    """The cloud answered Open."""

    opened: Opened


@dataclass(frozen=True, slots=True)
class Drafted:
    """A Draft effect is done."""

    attempt: int
    block: DraftedBlock


@dataclass(frozen=True, slots=True)
class VerdictReceived:
    """A verdict came, of this epoch or a former one."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class WrittenReceived:
    """What a target pass wrote came down a free-running stream."""

    written: Written


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The stream ended without our Close; `error` is what ended it."""

    error: ThinwireError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client went away or asked to stop."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The cloud refused with a status that no retry mends, or drafting failed."""

    error: ThinwireError


@dataclass(frozen=True, slots=True)
class DraftFailed:
    """The draft model failed."""

    error: ThinwireError


EdgeEvent = (
    Connected
    | OpenedReceived
    | Drafted
    | VerdictReceived
    | WrittenReceived
    | LinkLost
    | TimerFired
    | Cancelled
    | DraftFailed
    | Refused
)

# --- effects ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Write one message to the cloud."""

    message: Open | DraftBlock | Hints | Close


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Draft up to `max_draft_length` tokens; answer with Drafted(attempt, ...) or Refused."""

    attempt: int
    """Rises at every Draft effect, never resets; part of the draft draws' key."""
    feed_token_ids: tuple[int, ...] = ()
    """Committed tokens the draft model's cache lacks, at least one."""
    first_position: int
    """Absolute index of the first token to draft."""
    max_draft_length: int
    """γ, 0 included: then nothing is fed and the block is empty."""
    budget_bits: int = 0
    """Payload bits at most; 0 is no budget."""
    min_acceptance: float = 0.0
    """Stop after the token with which the block's estimated acceptance falls below this; 0 is never."""
    stop_token_ids: frozenset[int] = frozenset()
    """Stop after drafting one of these (the token is kept)."""
    state: SchemeState
    names_runners_up: bool = False
    """Whether the block is to name the runner-up at each place."""


@dataclass(frozen=True, slots=True)
class CutDraft:
    """Nobody needs more of this Draft effect: it is done with the token in hand, and answered as ever."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Decided:
    """The pending round has its verdict; measure it."""

    block: DraftedBlock
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Passed:
    """A pass of the free-running target came down; measure it."""

    written: Written


@dataclass(frozen=True, slots=True)
class Hinted:
    """Hints were drafted and go up with the next Send; measure them."""

    block: DraftedBlock


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand committed tokens to the client, in order."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Open a new stream, after the shell has backed off, then deliver Connected, or LinkLost again."""

    attempt: int
    """1 for the first try after a loss."""
    pause_s: float | None = None
    """What the cloud asked for, and never less; None leaves the pause to the shell."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The text is over; nothing follows. `error` is set iff the reason is ERROR."""

    reason: FinishReason
    text: str = ""
    """Text still held back when the text ended."""
    error: ThinwireError | None = None


EdgeEffect = (
    Send | Draft | CutDraft | Decided | Passed | Hinted | Emit | TruncateCache | ArmTimer | Reconnect | Finish
)
