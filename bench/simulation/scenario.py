"""What is simulated, as data: passes, a method's times, how many edges; and what a simulation came to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

from link.description import LinkDescription
from thinwire.common.config import check_integer, check_real
from thinwire.common.errors import ConfigError

_RANGES = {"draft_length": (0, 64), "edges": (1, 100_000), "tokens": (2, 1_000_000)} | dict.fromkeys(
    ("max_blocks", "max_rows"), (1, 1_000_000)
)
"""Field → least and most; other integers are 0 to 2³⁰."""


@dataclass(frozen=True)
class _Checked:
    """Integers in their ranges; fields that end in `_s` are 0 or more seconds."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_s"):
                check_real(one.name, value, "0 or more seconds", value >= 0)
            elif one.type == "int":
                check_integer(one.name, value, *_RANGES.get(one.name, (0, 2**30)))


@dataclass(frozen=True)
class Passes(_Checked):
    """
    What one target pass takes of what waits, first come first served, and for how long.

    Its seconds are fixed + per row x rows (positions scored) + per block x blocks (sequences).
    """

    fixed_s: float = 0.0
    per_row_s: float = 0.0
    per_block_s: float = 0.0
    max_blocks: int = 1
    """1: no batching across sessions."""
    max_rows: int = 65_536
    """Rows in one pass; a single block is taken whatever it has."""

    def seconds(self, *, rows: int, blocks: int) -> float:
        """Of one pass."""
        return self.fixed_s + self.per_row_s * rows + self.per_block_s * blocks


@dataclass(frozen=True)
class MethodTimes(_Checked):
    """What a method's texts cost besides the passes and the messages of their rounds."""

    opening_s: float = 0.0
    """Seconds before its request leaves the edge; of a stream, before its first token's pass begins."""
    prompt_s: float = 0.0
    """Seconds of the pass over the prompt, which the first block may have to wait for; not of a stream."""
    opening_up_bytes: int = 0
    opening_down_bytes: int = 0
    closing_up_bytes: int = 0
    """After its last token; counted, and nothing waits for it."""
    closing_down_bytes: int = 0
    draft_step_s: float = 0.0
    """Edge: seconds a drafted token."""
    edge_round_s: float = 0.0
    """Edge: seconds a round besides."""
    block_s: float = 0.0
    """Cloud: seconds a block, or a streamed token, besides its share of the pass."""


@dataclass(frozen=True)
class Rounds(_Checked):
    """Blocks that go up and verdicts that come down; a draft length of 0 is a round trip a token."""

    draft_length: int
    """γ."""
    samples: tuple[tuple[int, int], ...]
    """
    Accepted tokens and payload bytes of measured blocks of γ tokens; each round of the simulation is one of
    them, drawn alike.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.samples:
            raise ConfigError("samples is empty; expected at least one measured round.")
        for accepted, payload_bytes in self.samples:
            check_integer("accepted", accepted, 0, self.draft_length)
            check_integer("payload_bytes", payload_bytes, 0, 2**22)


@dataclass(frozen=True)
class Scenario(_Checked):
    """So many edges, all alike and always busy, each on a link of its own, on one cloud."""

    link: LinkDescription
    passes: Passes
    rounds: Rounds | None
    """None: the cloud streams its own tokens and does not wait for the edge."""
    times: MethodTimes
    edges: int = 1
    tokens: int = 64
    """N of each text; the next text begins at once."""
    transport_s: float = 0.0
    """Both ends' network stacks and wake-ups, of one exchange; half of it each way."""
    headers: bool = True
    """False counts messages alone: no packet, no frame, no ACK."""
    seed: int = 0

    @property
    def draft_length(self) -> int:
        """γ; 0 of a stream."""
        return self.rounds.draft_length if self.rounds else 0


class Text(NamedTuple):
    """One text as its edge saw it; seconds from its beginning."""

    first_s: float
    last_s: float
    tokens: int


@dataclass(slots=True)
class Outcome:
    """What a simulation came to, from `since_s` to `until_s`."""

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


@dataclass(frozen=True, kw_only=True)
class FreeTimes(_Checked):
    """Seconds of what is no pass and no line."""

    draft_s: float = 0.003
    """Edge: a drafted token, all that the drafter does for it."""
    draft_call_s: float = 0.0
    """Edge: a draft besides, however long; the way to the model's thread and back."""
    refeed_s: float = 0.0005
    """Edge: a further token that the draft model is fed first."""
    hint_s: float = 0.0
    """Edge: before a message with hints is on its way."""
    turn_s: float = 0.0
    """Cloud: between two passes; the way through the event loop."""
    prompt_row_s: float = 0.0001
    """Cloud: a token of the prompt, in its first pass."""
    transport_s: float = 0.001
    """Both ends' network stacks, of one exchange; half of it each way."""
    opening_s: float = 0.0
    """Before Open leaves the edge."""


@dataclass(frozen=True, kw_only=True)
class FreeScenario(_Checked):
    """So many edges, all alike, each on a link of its own, on one cloud that writes by itself."""

    link: LinkDescription
    passes: Passes
    """A row is a position scored: the token written last, and each hint."""
    times: FreeTimes
    edges: int = 1
    draft_length: int = 6
    objective: str = "latency"
    copies: bool = True
    """Whether the cloud copies from the text."""
    trees: bool = True
    """Whether a pass may be fed branches."""
    drafts: bool = True
    """False: a plain stream, of the same sessions."""
    min_block_acceptance: float = 0.2
    seed: int = 0


@dataclass(slots=True)
class FreeOutcome(Outcome):
    """`rows` are positions scored, `rounds` the passes of the sessions: one pass may serve many."""

    unhinted: int = 0
    """Passes of sessions that were fed no hint."""
    copied: int = 0
    """Tokens that a copy saved a pass."""
    hinted: int = 0
    """Tokens that any hint saved a pass."""
    hint_messages: int = 0
    waits: int = 0
    waited_s: float = 0.0
    drafted: int = 0
    draft_s: float = 0.0

    def add(self, other: FreeOutcome) -> None:
        """Count another simulation's together with this one's."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
