"""What is simulated, as data: passes, batching, methods, how many edges; and what a simulation came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench import round_time
from link.description import LinkDescription
from thinwire.common.config import check_integer, check_real
from thinwire.common.errors import ConfigError


def _check_seconds(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        check_real(name, value, "0 or more seconds", value >= 0)


@dataclass(frozen=True, slots=True)
class PassTime:
    """Seconds of one target pass: fixed + per row x rows + per block x blocks."""

    fixed_s: float
    per_row_s: float = 0.0
    per_block_s: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds(self, "fixed_s", "per_row_s", "per_block_s")

    def seconds(self, *, rows: int, blocks: int) -> float:
        """Of a pass that scores `rows` positions in `blocks` sequences."""
        return self.fixed_s + self.per_row_s * rows + self.per_block_s * blocks


@dataclass(frozen=True, slots=True)
class Batching:
    """What one pass may take of what waits, first come first served."""

    max_blocks: int = 1
    """1: no batching across sessions."""
    max_rows: int = 65_536
    """Rows in one pass; a single block is taken whatever it has."""

    def __post_init__(self) -> None:
        check_integer("max_blocks", self.max_blocks, 1, 1_000_000)
        check_integer("max_rows", self.max_rows, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class RoundSample:
    """What one measured round came to."""

    accepted: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """A method that goes up and down once a block; a draft length of 0 is a round trip a token."""

    draft_length: int
    """γ."""
    samples: tuple[RoundSample, ...]
    """Of blocks of γ tokens; each round of the simulation is one of them, drawn alike."""
    draft_step_s: float = 0.0
    """Edge: seconds a drafted token."""
    edge_round_s: float = 0.0
    """Edge: seconds a round besides."""
    block_s: float = 0.0
    """Cloud: seconds a block besides its share of the pass."""

    def __post_init__(self) -> None:
        check_integer("draft_length", self.draft_length, 0, 64)
        if not self.samples:
            raise ConfigError("samples is empty; expected at least one measured round.")
        for sample in self.samples:
            check_integer("accepted", sample.accepted, 0, self.draft_length)
            check_integer("payload_bytes", sample.payload_bytes, 0, 2**22)
        _check_seconds(self, "draft_step_s", "edge_round_s", "block_s")


@dataclass(frozen=True, slots=True)
class Stream:
    """The cloud streams its own tokens and does not wait for the edge: γ = 0 without the round trip."""

    message_bytes: int = 10
    """Of a token's message: id, number of the pass and a few bytes of text (`bench.peers.messages`)."""
    block_s: float = 0.0
    """Cloud: seconds a token besides its share of the pass."""
    draft_length: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        check_integer("message_bytes", self.message_bytes, 1, round_time.SEGMENT_BYTES)
        _check_seconds(self, "block_s")


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many edges, all alike and always busy, each on a link of its own, on one cloud."""

    link: LinkDescription
    method: Rounds | Stream
    pass_time: PassTime
    edges: int = 1
    tokens: int = 64
    """N of each text; the next text begins at once."""
    batching: Batching = field(default_factory=Batching)
    transport_s: float = 0.0
    """Both ends' network stacks and wake-ups, of one exchange; half of it each way."""
    headers: bool = True
    """False counts messages alone: no packet, no frame, no ACK."""
    opening_s: float = 0.0
    """Seconds before a text's request leaves the edge; of a stream, before its first token's pass begins."""
    prompt_s: float = 0.0
    """Seconds of the pass over the prompt, which the first block may have to wait for; not of a stream."""
    opening_up_bytes: int = 0
    opening_down_bytes: int = 0
    closing_up_bytes: int = 0
    """After a text's last token; counted, and nothing waits for it."""
    closing_down_bytes: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("edges", self.edges, 1, 100_000)
        check_integer("tokens", self.tokens, 2, 1_000_000)
        for name in ("opening_up_bytes", "opening_down_bytes", "closing_up_bytes", "closing_down_bytes"):
            check_integer(name, getattr(self, name), 0, 2**30)
        _check_seconds(self, "transport_s", "opening_s", "prompt_s")


@dataclass(frozen=True, slots=True)
class Text:
    """One text as its edge saw it; seconds from its beginning."""

    first_s: float
    last_s: float
    tokens: int


@dataclass(slots=True)
class Outcome:
    """What a simulation came to, from `since_s` on."""

    since_s: float = 0.0
    until_s: float = 0.0
    token_s: list[float] = field(default_factory=list)
    """
    The time since the arrival before it in its text, shared by the tokens that came together.

    One entry a token; the first arrival of a text has none before it.
    """
    tokens: int = 0
    """That arrived, first ones included."""
    passes: int = 0
    rows: int = 0
    busy_s: float = 0.0
    """Seconds of passes that ended in the window."""
    wire_up_bytes: int = 0
    wire_down_bytes: int = 0
    rounds: int = 0
    texts: list[Text] = field(default_factory=list)
