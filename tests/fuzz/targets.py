"""
What is fuzzed: pure functions of bytes that fail only if something is wrong.

Every input may be refused with the documented error; one that raises anything else, hangs, allocates beyond
its bound or changes another session is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from google.protobuf.message import DecodeError

from fakes import random_law
from fuzz.bytes_of_input import Bytes
from fuzz.hinted_session import hints
from thinwire.cloud import events
from thinwire.cloud.session import CloudSession
from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import PayloadInvalidError, RemoteProtocolError, ThinwireError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.pb import verifier_pb2
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.base import Scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.schemes.dense_f16 import DenseF16
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.messages import (
    Close,
    DraftBlock,
    Open,
    PrefixHasher,
    VocabularyIdentity,
    block_checksum,
)
from thinwire.common.session.states import TERMINAL

SCHEMES = (
    KSqs.Parameters(support_size=8, lattice_resolution=100),
    KSqs.Parameters(support_size=256, lattice_resolution=4096),
    CSqs.Parameters(max_support_size=64, lattice_resolution=100),
    CSqs.Parameters(max_support_size=256, lattice_resolution=4096),
    DenseQs.Parameters(lattice_resolution=100),
    DenseF16.Parameters(),
    CloudAr.Parameters(),
    Coupled.Parameters(),
)
"""The corpus names them by their place: a new one goes to the end."""
VOCABULARY_SIZES = (2, 300, 8192, 152_064)
SESSION_VOCABULARY_SIZE = 6
CONTEXT_LENGTH = 64
PROMPT = (0, 1)
MAX_EVENTS = 64


@cache
def _scheme(index: int, vocabulary_size: int) -> Scheme:
    return make_scheme(SCHEMES[index], vocabulary_size=vocabulary_size)


def payload(data: bytes) -> None:
    """
    The payload decoder of every scheme: refuse, or decode to tokens that survive encoding.

    Layout: scheme, vocabulary, draft length and support-size code, a byte each; then the payload.
    """
    source = Bytes(data)
    index = source.integer(len(SCHEMES))
    scheme = _scheme(index, VOCABULARY_SIZES[source.integer(len(VOCABULARY_SIZES))])
    draft_length = min(source.integer(65), scheme.max_draft_length)
    code = source.integer(256)
    coded = source.rest()[: scheme.max_payload_bytes(draft_length)]
    try:
        tokens = scheme.decode(coded, draft_length=draft_length, coding=code)
    except PayloadInvalidError:
        return
    assert len(tokens) == draft_length, "another number of tokens"
    for token in tokens:
        support = token.quantized.support_ids
        assert 0 <= token.token_id < scheme.vocabulary_size, "a token outside the vocabulary"
        assert support.size == 0 or np.all(np.diff(support) > 0), "an unordered support"
    # Not always to the same bytes: the decoder takes both codings of a block, the encoder makes the shorter.
    again = scheme.decode(scheme.encode(tokens, coding=code), draft_length=draft_length, coding=code)
    assert [_shown(token) for token in again] == [_shown(token) for token in tokens], "another block"


def _shown(token: DraftToken) -> tuple[list[int], list[int], int]:
    quantized = token.quantized
    return quantized.support_ids.tolist(), quantized.lattice_counts.tolist(), token.token_index


def cloud_session(data: bytes) -> None:
    """
    A row of requests against a live cloud session, with a bystander beside it that must not notice.

    Layout: a byte that chooses the scheme; then requests, each a kind, a length and its bytes.
    """
    source = Bytes(data)
    index = source.integer(len(SCHEMES))
    victim, bystander = _Served(index, seed=1), _Served(index, seed=1)
    for _ in range(MAX_EVENTS):
        if source.empty or victim.session.state in TERMINAL:
            break
        victim.take(source.integer(8), source.chunk(source.integer(256)))
        assert victim.session.committed_length <= CONTEXT_LENGTH, "more than the context holds"
    _check_bystander(bystander, index)


class _Served:
    """A cloud session with a shell that does its effects at once, over a table."""

    def __init__(self, index: int, *, seed: int) -> None:
        self.scheme = _scheme(index, SESSION_VOCABULARY_SIZE)
        open_ = Open(
            vocabulary=VocabularyIdentity(SESSION_VOCABULARY_SIZE, bytes(32)),
            scheme=SCHEMES[index],
            sampling=SamplingParameters(),
            seed=seed,
            prompt_token_ids=PROMPT,
        )
        self.session = CloudSession(
            bytes(16),
            open_,
            scheme=self.scheme,
            context_length=CONTEXT_LENGTH,
            eos_token_ids=(),
            resume_ttl_s=30.0,
            idle_ttl_s=60.0,
        )
        self._law = random_law(SESSION_VOCABULARY_SIZE, 1)
        self._reader = wire.CloudStreamReader()
        self.replies: list[object] = []
        self.committed = list(PROMPT)
        self._cache: list[int] = []
        self._do(events.Attached(1))

    def take(self, kind: int, content: bytes) -> None:
        """One event: a raw request, a round that passes the outer checks, or something the shell tells."""
        epoch = self.session.epoch
        match kind:
            case 0 | 1:
                self._raw(content)
            case 2 | 3 | 4:
                self._do(events.BlockReceived(epoch, self.block(content)))
            case 5:
                self._do(events.LinkLost(epoch))
                self._do(events.Attached(self.session.epoch + 1))
            case 6:
                self._do(events.CloseReceived(epoch))
            case 7:
                self._do(events.TimerFired())

    def block(self, content: bytes) -> DraftBlock:
        """The next round with a true header and checksum; draft length, code and payload from the input."""
        source = Bytes(content)
        hasher = PrefixHasher()
        hasher.extend(self.committed)
        block = DraftBlock(
            round=self.session.rounds + 1,
            base_length=self.session.committed_length,
            prefix_hash=hasher.value(),
            draft_length=source.integer(8),
            coding=source.integer(8),
            payload=source.rest(),
            checksum=0,
        )
        return replace(block, checksum=block_checksum(block, self.session.open.scheme))

    def _raw(self, content: bytes) -> None:
        try:
            message = self._reader.from_proto(verifier_pb2.VerifyRequest.FromString(content))
        except (DecodeError, ThinwireError) as error:
            if isinstance(error, ThinwireError):
                self._do(events.WorkFailed(error))
            return
        if isinstance(message, DraftBlock):
            self._do(events.BlockReceived(self.session.epoch, message))
        elif isinstance(message, Close):
            self._do(events.CloseReceived(self.session.epoch))
        else:
            self._do(events.WorkFailed(RemoteProtocolError("Open came twice.")))

    def _do(self, event: events.CloudEvent) -> None:
        pending: list[events.CloudEvent] = [event]
        while pending:
            for effect in self.session.step(pending.pop(0), 0.0):
                following = self._perform(effect)
                if following is not None:
                    pending.append(following)

    def _perform(self, effect: events.CloudEffect) -> events.CloudEvent | None:
        match effect:
            case events.Reply(_, message):
                self.replies.append(message)
            case events.Prefill(token_ids):
                self._cache += token_ids
            case events.TruncateCache(length):
                del self._cache[length:]
            case events.Decode(block):
                try:
                    tokens = self.scheme.decode(
                        block.payload,
                        draft_length=block.draft_length,
                        coding=block.coding,
                    )
                except PayloadInvalidError as error:
                    return events.WorkFailed(error)
                return events.Decoded(block.round, tokens)
            case events.Score():
                return self._score(effect)
        return None

    def _score(self, effect: events.Score) -> events.Scored:
        self._cache += effect.feed_token_ids
        assert len(self._cache) <= CONTEXT_LENGTH, "the cache outgrows the context"
        first = len(self._cache) - len(effect.tokens)
        rows = [self._law(tuple(self._cache[:end])) for end in range(first, len(self._cache) + 1)]
        outcome = self.scheme.verify(
            rows, effect.tokens, self.session.draws, first_position=effect.first_position
        )
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        self.committed += [*accepted, outcome.next_token_id]
        return events.Scored(effect.round, accepted, outcome, queue_us=0, verify_us=0)


@cache
def _undisturbed(index: int) -> tuple[object, ...]:
    """What a session answers to two empty rounds when nothing else goes on."""
    served = _Served(index, seed=1)
    served.take(2, b"")
    served.take(2, b"")
    return tuple(served.replies)


def _check_bystander(bystander: _Served, index: int) -> None:
    bystander.take(2, b"")
    bystander.take(2, b"")
    assert tuple(bystander.replies) == _undisturbed(index), "another session noticed"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "payload": payload,
    "cloud-session": cloud_session,
    "hints": hints,
}
"""By the name of its folder in corpus/."""
