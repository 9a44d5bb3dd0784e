"""A `CloudSession` stepped by hand, and the blocks and results it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fakes import TableVocabulary, random_law
from thinwire.cloud.events import Attached, BlockReceived, CloudEffect, Decoded, Reply, Scored
from thinwire.cloud.session import CloudSession
from thinwire.common.config import SamplingParameters
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.messages import (
    Close,
    CloseReason,
    DraftBlock,
    Open,
    PrefixHasher,
    Verdict,
    block_checksum,
)

SIZE = 6
PROMPT = (0, 1, 2)
SCHEME = KSqs.Parameters(support_size=3, lattice_resolution=20)
CODER = make_scheme(SCHEME, vocabulary_size=SIZE)
LAW = random_law(SIZE, 1)
CLOSE = Close(CloseReason.FINISHED)


def make_session(prompt: tuple[int, ...] = PROMPT, *, context_length: int = 32) -> CloudSession:
    """A session nobody has attached to yet."""
    open_ = Open(TableVocabulary(SIZE).identity, SCHEME, SamplingParameters(), 7, prompt)
    return CloudSession(
        bytes(16),
        open_,
        scheme=CODER,
        context_length=context_length,
        eos_token_ids=(5,),
        resume_ttl_s=30.0,
        idle_ttl_s=60.0,
    )


def some_tokens(count: int) -> tuple[DraftToken, ...]:
    """`count` drafted tokens."""
    state, tokens, prefix = CODER.initial_state(), [], PROMPT
    for n in range(count):
        token = CODER.sample(CODER.quantize(LAW(prefix), state), KeyedDraws(7), position=3 + n, attempt=0)
        tokens.append(token)
        prefix = (*prefix, token.token_id)
    return tuple(tokens)


def sealed(block: DraftBlock) -> DraftBlock:
    """The block with its right checksum."""
    return replace(block, checksum=block_checksum(block, SCHEME))


def make_block(
    committed: tuple[int, ...] = PROMPT, *, round: int = 1, length: int = 2, **changes: Any
) -> DraftBlock:
    """A good block on `committed`, then changed and sealed."""
    hasher = PrefixHasher()
    hasher.extend(committed)
    payload = CODER.encode(some_tokens(length), coding=0)
    block = DraftBlock(round, len(committed), hasher.value(), length, 0, payload, 0)
    return sealed(replace(block, **changes))


def scored(round_: int, accepted: tuple[int, ...], next_token_id: int, *, resampled: bool = True) -> Scored:
    """What a Score effect comes to."""
    return Scored(round_, accepted, BlockOutcome(len(accepted), next_token_id, resampled, 1.0), 11, 22)


def attached() -> CloudSession:
    """A session with a stream of epoch 1."""
    session = make_session()
    session.step(Attached(1), 100.0)
    return session


def verifying(block: DraftBlock | None = None) -> CloudSession:
    """A session with its first round in decoding."""
    session = attached()
    session.step(BlockReceived(1, block or make_block()), 100.0)
    return session


def decided() -> tuple[CloudSession, DraftBlock, Verdict]:
    """A session that has answered its first round: nothing accepted, token 4."""
    block = make_block()
    session = verifying(block)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    effects = session.step(scored(1, (), 4), 100.0)
    return session, block, only(effects, Reply).message


def only(effects: list[CloudEffect], kind: type[Any]) -> Any:
    """The one effect of a kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


GOOD, SECOND = make_block(), make_block((*PROMPT, 4), round=2)
