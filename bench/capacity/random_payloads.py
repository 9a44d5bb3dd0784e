"""Blocks that are as dear to decode as blocks can be, as a tenant sends them within its quota."""

from __future__ import annotations

import random
from dataclasses import replace

from bench.capacity.texts import RecordedRound, RecordedText, request_of
from thinwire.common import wire
from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.dense_qs import MAX_DENSE_RESOLUTION, DenseQs
from thinwire.common.session.messages import DraftBlock, Open, PrefixHasher, block_checksum

COUNT = 8


def random_texts(text: RecordedText, number: int) -> list[RecordedText]:
    """
    Texts of one block of random bytes, which ends its session.

    Args:
        text: its Open names the vocabulary.
        number: of the edge; chooses the bytes.
    """
    recorded = wire.CloudStreamReader().from_proto(request_of(text.open))
    assert isinstance(recorded, Open), recorded
    parameters = DenseQs.Parameters(lattice_resolution=MAX_DENSE_RESOLUTION)
    prompt_ids = recorded.prompt_token_ids[:1]
    opening = replace(recorded, scheme=parameters, prompt_token_ids=prompt_ids)
    scheme = make_scheme(parameters, vocabulary_size=recorded.vocabulary.size)
    hasher = PrefixHasher()
    hasher.extend(prompt_ids)
    generator, found = random.Random(number), []
    for _ in range(COUNT):
        # An even first byte: the dearer of the two codings. A top byte that is not 0: no spare bytes.
        spare = generator.randbytes(scheme.max_payload_bytes(MAX_DRAFT_LENGTH) - 2)
        block = DraftBlock(
            round=1,
            base_length=1,
            prefix_hash=hasher.value(),
            draft_length=MAX_DRAFT_LENGTH,
            coding=0,
            payload=b"\0" + spare + b"\1",
            checksum=0,
        )
        block = replace(block, checksum=block_checksum(block, parameters))
        writer = wire.EdgeStreamWriter()
        first, second = (writer.to_proto(message).SerializeToString() for message in (opening, block))
        found.append(RecordedText(text.prompt, first, (RecordedRound(second, 0.0, 0, 0),)))
    return found
