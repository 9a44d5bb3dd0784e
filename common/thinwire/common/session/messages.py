"""
The messages of a session, as plain data.

`common.wire` is the only place that turns them into protobuf and back.
What crosses the link in each direction: `Open`, `DraftBlock`, `Close` up, `Opened`, `Verdict` down; where the
cloud runs free `Hints` up and `Written` down instead of rounds.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from dataclasses import dataclass

from thinwire.common.config import MAX_DRAFT_LENGTH, SamplingParameters
from thinwire.common.schemes import SchemeParameters
from thinwire.common.session.checksum import crc32c

PROTOCOL_VERSION = 4
PAYLOAD_LAYOUT = 1
"""Version of the payload's bit layout (`proto/README.md`)."""
MAX_WRITTEN_TOKENS = 1024
"""Tokens of one `Written`: what a cloud may be ahead, and a pass, with room to spare."""
TOKENIZER_PARTS = (
    "token strings",
    "added tokens",
    "normaliser",
    "pre-tokenizer",
    "model",
    "post-processor",
    "decoder",
    "ids of sample texts",
)
"""Parts of a tokenizer that decide ids or text, in the order of their digests."""


@dataclass(frozen=True, slots=True)
class VocabularyIdentity:
    """What both ends must share before a token id, or a text, means the same to both."""

    size: int
    """V, the number of ids the tokenizer defines."""
    sha256: bytes
    """SHA-256 over the SHA-256 of each of `TOKENIZER_PARTS`; 32 bytes. It alone decides."""
    part_digests: tuple[int, ...] = ()
    """First 4 bytes, little-endian, of each part's SHA-256: they name what differs. Empty where unknown."""

    def differing_parts(self, other: VocabularyIdentity) -> tuple[str, ...]:
        """
        Names of the parts in which the tokenizers differ; empty where that cannot be told.

        The sample texts follow from all others, and are named only where they differ alone.
        """
        digests = self.part_digests, other.part_digests
        if any(len(one) != len(TOKENIZER_PARTS) for one in digests):
            return ()
        named = zip(TOKENIZER_PARTS, *digests, strict=True)
        differing = tuple(name for name, own, others in named if own != others)
        return differing[:-1] if len(differing) > 1 and differing[-1] == TOKENIZER_PARTS[-1] else differing


@dataclass(frozen=True, slots=True)
class Open:
    """Edge → cloud, first message of a stream: start a session, or take one over (`session_id` set)."""

    vocabulary: VocabularyIdentity
    scheme: SchemeParameters
    sampling: SamplingParameters
    seed: int
    prompt_token_ids: tuple[int, ...]
    """The whole prompt for a new session; empty when resuming."""
    session_id: bytes = b""
    """16 bytes of the session to resume; empty for a new one."""
    free_run: FreeRun | None = None
    """Asks for the free-running conversation; None for rounds."""
    protocol_version: int = PROTOCOL_VERSION
    payload_layout: int = PAYLOAD_LAYOUT


@dataclass(frozen=True, slots=True)
class FreeRun:
    """Part of `Open`: the cloud writes by itself, and this is where it ends."""

    max_length: int
    """Tokens of the text at most, prompt included."""
    held_length: int
    """Tokens that the edge has, prompt included; the cloud sends those behind them."""
    prefix_hash: int
    """Of these tokens (`PrefixHasher`)."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids behind which the text ends, besides the target's own."""
    ignore_eos: bool = False
    """Whether the target's own end-of-text ids end nothing."""
    saves_passes: bool = False
    """Whether few passes of the target matter more than time: it waits for hints."""
    stop: tuple[str, ...] = ()
    """Stop strings; behind what looks like one the target pauses until the edge acknowledges it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Cloud → edge, answer to `Open`."""

    session_id: bytes
    epoch: int
    """Rises by one at every open or resume of this session; starts at 1."""
    context_length: int
    """Tokens the target model can hold, prompt included."""
    eos_token_ids: tuple[int, ...]
    """The target's end-of-text ids."""
    committed_length: int
    """Tokens of the cloud's committed text, prompt included."""
    next_round: int
    """The round the cloud expects next; `next_round` - 1 may be repeated."""
    target_fingerprint: bytes = b""
    """8 bytes that tell target models of one vocabulary apart; empty where the cloud knows none."""
    copies: bool = False
    """Free-running: whether the cloud copies from the text where no hint waits."""


@dataclass(frozen=True, slots=True)
class DraftBlock:
    """Edge → cloud, one round."""

    round: int
    """1 for the first round of a session, then one more each."""
    base_length: int
    """Committed tokens before this block, prompt included."""
    prefix_hash: int
    """First 4 bytes, little-endian, of the SHA-256 of the committed ids (`prefix_hash`)."""
    draft_length: int
    """γ of this block, 0 to 64."""
    coding: int
    """What the scheme's decoder needs beside the payload, 0 by default; sent when it changes."""
    payload: bytes
    """The coded block (`proto/README.md`)."""
    checksum: int
    """CRC-32C over everything above and the scheme's decoding parameters (`block_checksum`)."""

    def digest(self) -> bytes:
        """SHA-256 of the round's bytes: equal digests get equal verdicts, another digest is refused."""
        return hashlib.sha256(_block_header(self) + struct.pack("<I", self.checksum) + self.payload).digest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Cloud → edge, answer to one round."""

    round: int
    accepted: int
    """Draft tokens accepted, 0 to γ."""
    next_token_id: int
    """The replacement (accepted < γ) or the bonus token (accepted = γ)."""
    committed_length: int
    """The cloud's committed tokens after this round, prompt included."""
    queue_us: int = 0
    """Microseconds the round waited for the target model."""
    verify_us: int = 0
    """
    Microseconds of decoding, and of the target pass from its beginning to this round's outcome; the pass is
    shared with other sessions, and their parts count where they came first.
    """

    def is_possible(self, base_length: int, draft_length: int, vocabulary_size: int) -> bool:
        """Whether a block of `draft_length` tokens after `base_length` committed ones can be so answered."""
        return (
            0 <= self.accepted <= draft_length
            and 0 <= self.next_token_id < vocabulary_size
            and self.committed_length == base_length + self.accepted + 1
        )


@dataclass(frozen=True, slots=True)
class Hints:
    """Edge → cloud, free-running: what may come next, and how far the edge has received."""

    held_length: int
    """Tokens that the edge has, prompt included; acknowledges them."""
    ahead: int
    """Earlier hints behind these tokens, after which these begin."""
    draft_length: int
    """Hints here, 0 to 64; 0 only acknowledges."""
    payload: bytes
    """Their ids, coded by the scheme."""
    chances: bytes = b""
    """Estimated chance, in 255ths, that each is right where those before it are; may be left out."""
    branch_lengths: tuple[int, ...] = ()
    """The last hints are branches, so many each: another guess for a place with a hint, and what follows."""
    branch_places: tuple[int, ...] = ()
    """Hints before each of these places, behind the held tokens."""


@dataclass(frozen=True, slots=True)
class Written:
    """Cloud → edge, free-running: what one target pass wrote."""

    first_position: int
    """Absolute index of the first token."""
    token_ids: tuple[int, ...]
    """At least one."""
    hinted: int
    """How many of them, from the first, had been hinted and needed no pass of their own."""
    hint_rows: int
    """Hints that the pass was fed."""
    copied: int = 0
    """How many of the hinted tokens were copied from the text, and not the edge's."""
    queue_us: int = 0
    """Microseconds the pass waited for the target model."""
    verify_us: int = 0
    """Microseconds of the pass, from its beginning to this session's outcome."""
    wait_us: int = 0
    """Microseconds for which the target had waited for a hint before it."""
    pauses: bool = False
    """Whether the target waits for an acknowledgement of all this: to the cloud it looks like a stop."""
    resampled: bool = False
    """Whether the last token stands where a hint was wrong."""
    hints_heard: int = 0
    """Messages of hints that have come on this stream."""
    heard_us: int = 0
    """Microseconds since the last of them came."""

    def is_possible(self, vocabulary_size: int) -> bool:
        """Whether any text can have been so written."""
        count = len(self.token_ids)
        return (
            0 < count <= MAX_WRITTEN_TOKENS
            and 0 <= self.copied <= self.hinted <= min(count, self.hint_rows)
            and self.hint_rows <= MAX_DRAFT_LENGTH
            and all(0 <= token_id < vocabulary_size for token_id in self.token_ids)
        )


class CloseReason(enum.StrEnum):
    """Why the edge ends a session."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Close:
    """Edge → cloud, last message: free the session now."""

    reason: CloseReason


class FinishReason(enum.StrEnum):
    """How a text ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    CANCELLED = "cancelled"
    ERROR = "error"


class TokenKind(enum.StrEnum):
    """Where an output token came from."""

    ACCEPTED = "accepted"
    """Drafted by the edge and kept by the target."""
    RESAMPLED = "resampled"
    """Drawn from the residual distribution in place of a rejected draft token."""
    BONUS = "bonus"
    """Drawn from the target after a block accepted whole."""


class PrefixHasher:
    """Running SHA-256 over committed token ids, each as 4 bytes little-endian."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def extend(self, token_ids: tuple[int, ...] | list[int]) -> None:
        """Append committed ids."""
        self._sha256.update(struct.pack(f"<{len(token_ids)}I", *token_ids))

    def copy(self) -> PrefixHasher:
        """Another one that has seen the same ids."""
        other = PrefixHasher()
        other._sha256 = self._sha256.copy()
        return other

    def value(self) -> int:
        """The first 4 bytes of the digest, little-endian, as the wire carries them."""
        return int.from_bytes(self._sha256.digest()[:4], "little")


def block_checksum(block: DraftBlock, scheme: SchemeParameters) -> int:
    """
    CRC-32C over round, base length, prefix hash, draft length, coding, the scheme's name and decoding
    parameters, and the payload; `block.checksum` itself is ignored.
    """
    parameters = scheme.canonical()
    length = struct.pack("<H", len(parameters))
    return crc32c(_block_header(block) + length + parameters + block.payload)


def _block_header(block: DraftBlock) -> bytes:
    """Canonical bytes of a round's integers, for digest and checksum; not the wire format."""
    numbers = block.round, block.base_length, block.prefix_hash, block.draft_length, block.coding
    return struct.pack("<QQIII", *numbers)
