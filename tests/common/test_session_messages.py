"""What a round and its answer cost beside the payload, and that every message survives its protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.session.messages import (
    Close,
    CloseReason,
    DraftBlock,
    Open,
    Opened,
    Verdict,
    VocabularyIdentity,
)

MAX_HEADER_BYTES = 24
UINT32 = 2**32 - 1


def block(payload: bytes = b"\x01" * 100, **changes: int) -> DraftBlock:
    """A round with every field at its widest, but for round and base length."""
    values = {
        "round": 1,
        "base_length": 1,
        "prefix_hash": UINT32,
        "draft_length": 64,
        "coding": 0,
        "checksum": UINT32,
        **changes,
    }
    return DraftBlock(payload=payload, **values)


@pytest.mark.parametrize("length", [1, 127, 128, 16_383])
def test_a_round_is_its_payload_and_at_most_24_bytes(length: int) -> None:
    """Rounds and context below 16 384; a payload over 100 bytes takes up to two more for lengths."""
    writer = wire.EdgeStreamWriter()
    usual = writer.to_proto(block(round=length, base_length=length, coding=127))
    large = writer.to_proto(block(b"\x01" * 8000, round=length, base_length=length, coding=127))

    assert usual.ByteSize() - 100 <= MAX_HEADER_BYTES
    assert large.ByteSize() - 8000 <= MAX_HEADER_BYTES + 2


def test_a_round_names_its_coding_when_it_changes() -> None:
    """Two bytes more, in the round where the table changes and in no other."""
    writer = wire.EdgeStreamWriter()
    sizes = [
        writer.to_proto(block(round=n, coding=code)).ByteSize() for n, code in enumerate([0, 127, 127, 5], 1)
    ]

    assert [size - sizes[0] for size in sizes] == [0, 2, 0, 2]


@pytest.mark.parametrize(
    "verdict", [Verdict(1, 0, 1, 2, 1, 1), Verdict(16_383, 64, 152_063, 16_383, UINT32, UINT32)]
)
def test_an_answer_has_at_most_30_bytes(verdict: Verdict) -> None:
    """Round, accepted count, next token, length and two fixed-width times."""
    assert 2 * 5 < wire.reply_to_proto(verdict).ByteSize() <= 30


@settings(deadline=None, derandomize=True)
@given(
    codes=st.lists(st.integers(0, 127), min_size=1, max_size=6),
    repeats=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_rounds_come_back_whole_however_often_they_are_sent(codes: list[int], repeats: list[bool]) -> None:
    """The reader finds the code that a round left out, also in a repeat; a repeat is the same bytes."""
    writer, reader = wire.EdgeStreamWriter(), wire.CloudStreamReader()
    for number, (code, repeated) in enumerate(zip(codes, repeats, strict=False), 1):
        sent = block(round=number, coding=code)
        first = writer.to_proto(sent)
        received = reader.from_proto(first)
        reader.accept(sent)

        assert received == sent
        if repeated:
            again = writer.to_proto(sent)
            assert again.SerializeToString() == first.SerializeToString()
            assert reader.from_proto(again) == sent


def test_the_other_messages_come_back_whole() -> None:
    """Open with every field set, Close for each reason, Opened and Verdict."""
    scheme = CSqs.Parameters(lattice_resolution=7, max_support_size=9)  # the fields that decode a payload
    open_ = Open(
        VocabularyIdentity(9, b"\x02" * 32),
        scheme,
        SamplingParameters(0.5, 7, 0.9),
        2**64 - 1,
        (0, 8),
        b"i" * 16,
    )
    reader, writer = wire.CloudStreamReader(), wire.EdgeStreamWriter()
    opened = Opened(b"i" * 16, 3, 512, (1, 2), 20, 4)
    verdict = Verdict(4, 2, 5, 23, 17, 19)

    assert reader.from_proto(writer.to_proto(open_)) == open_
    assert {reader.from_proto(writer.to_proto(Close(reason))).reason for reason in CloseReason} == set(
        CloseReason
    )
    assert wire.message_from_cloud(wire.reply_to_proto(opened)) == opened
    assert wire.message_from_cloud(wire.reply_to_proto(verdict)) == verdict
