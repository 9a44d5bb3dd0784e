"""
What goes into a cloud session (events) and what comes out (effects), as plain data.

The shell performs effects in the order given and turns their outcome into the next event.
"""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.cloud.hint_store import Rows
from thinwire.common.errors import ThinwireError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.session.effects import ArmTimer as ArmTimer
from thinwire.common.session.effects import TimerFired as TimerFired
from thinwire.common.session.effects import TruncateCache as TruncateCache
from thinwire.common.session.messages import DraftBlock, FreeRun, Hints, Opened, Verdict, Written

# --- events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attached:
    """A stream opened or resumed this session; the registry has issued `epoch`."""

    epoch: int
    free_run: FreeRun | None = None
    """Of its Open."""


@dataclass(frozen=True, slots=True)
class BlockReceived:
    """A round came in on the stream of `epoch`."""

    epoch: int
    block: DraftBlock


@dataclass(frozen=True, slots=True)
class HintsReceived:
    """Hints, or a mere acknowledgement, came in on the stream of `epoch`."""

    epoch: int
    hints: Hints


@dataclass(frozen=True, slots=True)
class Wrote:
    """A Write effect is done."""

    fed: Rows
    """What the pass was fed for hints."""
    path: tuple[int, ...]
    """The indices of those that were right, in their order."""
    token_ids: tuple[int, ...]
    """What the target wrote: the hints that were right, and one token."""
    queue_us: int
    verify_us: int
    resampled: bool = False
    """Whether the last token stands where a hint was wrong."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A Decode effect is done."""

    round: int
    tokens: tuple[DraftToken, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """A Score effect is done: target pass, tests and the next token."""

    round: int
    accepted_token_ids: tuple[int, ...]
    """The drafted tokens that were kept, in order."""
    outcome: BlockOutcome
    queue_us: int
    verify_us: int


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """A Prefill, Decode, Score or Write effect failed with `error`; the session cannot go on."""

    error: ThinwireError


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The edge ends the session on the stream of `epoch`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The stream of `epoch` ended without Close."""

    epoch: int


@dataclass(frozen=True, slots=True)
class WaitOver:
    """The time of the last AwaitHint has come."""


CloudEvent = (
    Attached
    | BlockReceived
    | HintsReceived
    | Decoded
    | Scored
    | Wrote
    | WorkFailed
    | CloseReceived
    | LinkLost
    | TimerFired
    | WaitOver
)

# --- effects ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """Write one message to the edge, on the stream of `epoch` if it is still there."""

    epoch: int
    message: Opened | Verdict | Written


@dataclass(frozen=True, slots=True)
class ReplyClosed:
    """Answer Close and end the stream in good order."""

    epoch: int
    rounds: int
    committed_length: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """Feed prompt tokens to the target model's cache; nothing is answered but a failure."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode a block's payload in the executor; answer Decoded or WorkFailed."""

    block: DraftBlock


@dataclass(frozen=True, slots=True)
class Score:
    """
    One target pass, then the scheme's `verify`; answer Scored or WorkFailed.

    The cache holds `cache_length` tokens; feed `feed_token_ids` (the last committed token, then the drafted
    ones), take their γ + 1 rows.
    """

    round: int
    feed_token_ids: tuple[int, ...]
    tokens: tuple[DraftToken, ...]
    first_position: int

    @property
    def cache_length(self) -> int:
        """Tokens that must be cached before the pass: all committed ones but the last."""
        return self.first_position - 1


@dataclass(frozen=True, slots=True)
class Write:
    """
    One target pass over what the cache lacks of the committed tokens and the hints there are; answer Wrote or
    WorkFailed.
    """

    feed_token_ids: tuple[int, ...]
    """The last committed tokens, at least one; the cache holds those before them."""
    first_position: int
    """Of the first token to write."""
    most_rows: int
    """Hints that it may be fed."""

    @property
    def cache_length(self) -> int:
        """Tokens that must be cached before the pass."""
        return self.first_position - len(self.feed_token_ids)


@dataclass(frozen=True, slots=True)
class AwaitHint:
    """Deliver WaitOver at `at_s` (monotonic seconds); replaces, and is replaced by, an ArmTimer."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the stream of `epoch` with the error's status."""

    epoch: int
    error: ThinwireError


@dataclass(frozen=True, slots=True)
class Release:
    """Free the session: cache, slot and id. Nothing follows."""


CloudEffect = (
    Reply
    | ReplyClosed
    | Prefill
    | Decode
    | Score
    | Write
    | TruncateCache
    | ArmTimer
    | AwaitHint
    | Refuse
    | Release
)
