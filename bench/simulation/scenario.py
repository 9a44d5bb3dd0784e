"""What is simulated, as data: passes, batching, methods, how many edges; and what a simulation came to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from bench import round_time
from link.description import LinkDescription
from thinwire.common.config import check_integer, check_real
from thinwire.common.errors import ConfigError

_RANGES = {
    "accepted": (0, 64),
    "draft_length": (0, 64),
    "edges": (1, 100_000),
    "max_blocks": (1, 1_000_000),
    "max_rows": (1, 1_000_000),
    "message_bytes": (1, round_time.SEGMENT_BYTES),
    "payload_bytes": (0, 2**22),
    "tokens": (2, 1_000_000),
    **dict.fromkeys(
        ("opening_up_bytes", "opening_down_bytes", "closing_up_bytes", "closing_down_bytes"), (0, 2**30)
    ),
}
"""Field → least and most."""


@dataclass(frozen=True)
class _Checked:
    """Fields in their ranges; those that end in `_s` are 0 or more seconds."""

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            if name.endswith("_s"):
                check_real(name, value, "0 or more seconds", value >= 0)
            elif name in _RANGES:
                check_integer(name, value, *_RANGES[name])


@dataclass(frozen=True)
class PassTime(_Checked):
    """Seconds of one target pass: fixed + per row x rows + per block x blocks."""

    fixed_s: float
    per_row_s: float = 0.0
    per_block_s: float = 0.0

    def seconds(self, *, rows: int, blocks: int) -> float:
        """Of a pass that scores `rows` positions in `blocks` sequences."""
        return self.fixed_s + self.per_row_s * rows + self.per_block_s * blocks


@dataclass(frozen=True)
class Batching(_Checked):
    """What one pass may take of what waits, first come first served."""

    max_blocks: int = 1
    """1: no batching across sessions."""
    max_rows: int = 65_536
    """Rows in one pass; a single block is taken whatever it has."""


@dataclass(frozen=True)
class RoundSample(_Checked):
    """What one measured round came to."""

    accepted: int
    payload_bytes: int


@dataclass(frozen=True)
class Rounds(_Checked):
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
        super().__post_init__()
        if not self.samples:
            raise ConfigError("samples is empty; expected at least one measured round.")
        for sample in self.samples:
            check_integer("accepted", sample.accepted, 0, self.draft_length)


@dataclass(frozen=True)
class Stream(_Checked):
    """The cloud streams its own tokens and does not wait for the edge: γ = 0 without the round trip."""

    block_s: float = 0.0
    """Cloud: seconds a token besides its share of the pass."""
    message_bytes: int = 10
    """Of a token's message: id, number of the pass and a few bytes of text (`bench.peers.messages`)."""
    draft_length: int = field(default=0, init=False)


@dataclass(frozen=True)
class Ends(_Checked):
    """What a text costs besides its rounds."""

    opening_s: float = 0.0
    """Seconds before its request leaves the edge; of a stream, before its first token's pass begins."""
    prompt_s: float = 0.0
    """Seconds of the pass over the prompt, which the first block may have to wait for; not of a stream."""
    opening_up_bytes: int = 0
    opening_down_bytes: int = 0
    closing_up_bytes: int = 0
    """After its last token; counted, and nothing waits for it."""
    closing_down_bytes: int = 0


@dataclass(frozen=True)
class Scenario(_Checked):
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
    ends: Ends = field(default_factory=Ends)
    seed: int = 0


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
    Of each token, the time since the arrival before it in its text, shared by those that came together.

    The first arrival of a text has none before it.
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
