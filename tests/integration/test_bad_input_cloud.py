"""Bad input to the cloud: each with its status, the value received and expected, and the cloud serving on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import numpy.typing as npt
import pytest
from fakes import TableModel
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from verify_peer import (
    CLOSE,
    SIZE,
    TARGET,
    VOCABULARY,
    EdgeText,
    RunningCloud,
    VerifyPeer,
    running_cloud,
    whole_text,
)

from cloud.settings import CloudSettings
from common import wire
from common.config import SchemeParameters
from common.errors import (
    ConfigError,
    DeadlineError,
    NonFiniteLogitsError,
    PayloadCorruptedError,
    PayloadInvalidError,
    PrefixMismatchError,
    ProtocolVersionError,
    RemoteProtocolError,
    ResourceExhaustedError,
    RoundOrderError,
    SessionNotFoundError,
    ThinwireError,
    VocabularyMismatchError,
)
from common.messages import DraftBlock, VocabularyIdentity

CONTEXT = 64


def model() -> TableModel:
    """A small target."""
    return TableModel(TARGET, context_length=CONTEXT)


async def serves_on(cloud: RunningCloud) -> None:
    """A good session still gets its text, and nothing of a bad one is held."""
    await whole_text(cloud, EdgeText(), 2)
    assert cloud.server.sessions == 0


def open_proto(**fields: Any) -> Any:
    """A good Open with fields set past the edge's own checks; `scheme__x` sets scheme.x."""
    request = wire.EdgeStreamWriter().to_proto(EdgeText().open)
    for name, value in fields.items():
        *outer, leaf = name.split("__")
        owner = request.open
        for part in outer:
            owner = getattr(owner, part)
        if isinstance(value, list):
            del getattr(owner, leaf)[:]
            getattr(owner, leaf).extend(value)
        else:
            setattr(owner, leaf, value)
    return request


BAD_OPENS: list[tuple[dict[str, Any], type[ThinwireError], str]] = [
    ({"protocol_version": 2}, ProtocolVersionError, "protocol 2, payload layout 1; expected 1 and 1"),
    ({"payload_layout": 9}, ProtocolVersionError, "payload layout 9"),
    (
        {"protocol_version": 2, "scheme__lattice_resolution": 0},
        ProtocolVersionError,
        "protocol 2",
    ),
    ({"scheme__name": "nonesuch"}, ConfigError, "scheme is 'nonesuch'; expected one of k-sqs, c-sqs"),
    ({"scheme__lattice_resolution": 0}, ConfigError, "lattice_resolution is 0; expected an integer from 1"),
    ({"scheme__lattice_resolution": 4097}, ConfigError, "lattice_resolution is 4097"),
    ({"scheme__support_size": 0}, ConfigError, "support_size is 0; expected an integer from 1 to 256"),
    ({"scheme__support_size": 257}, ConfigError, "support_size is 257"),
    ({"scheme__max_support_size": 0}, ConfigError, "max_support_size is 0"),
    ({"scheme__max_support_size": 257}, ConfigError, "max_support_size is 257"),
    ({"scheme__name": "dense-qs", "scheme__lattice_resolution": 4096}, ConfigError, "4096"),
    ({"sampling__temperature": 0.001}, ConfigError, "temperature is 0.001; expected 0 (greedy) or 0.01"),
    ({"sampling__temperature": -1.0}, ConfigError, "temperature is -1.0"),
    ({"sampling__temperature": 11.0}, ConfigError, "temperature is 11.0"),
    ({"sampling__temperature": float("nan")}, ConfigError, "temperature is nan"),
    ({"sampling__top_p": 0.0}, ConfigError, "top_p is 0.0; expected a number in (0, 1]"),
    ({"sampling__top_p": 1.5}, ConfigError, "top_p is 1.5"),
    ({"sampling__top_p": float("inf")}, ConfigError, "top_p is inf"),
    ({"sampling__top_k": 2**31}, ConfigError, "top_k is 2147483648"),
    ({"prompt_token_ids": []}, ConfigError, "the prompt holds 0 tokens; expected at least 1"),
    ({"prompt_token_ids": [0, SIZE]}, ConfigError, "token id 6; expected ids below 6"),
    ({"prompt_token_ids": [0, 2**32 - 1]}, ConfigError, "token id 4294967295"),
    ({"prompt_token_ids": [1] * CONTEXT}, ConfigError, "holds 64 tokens; expected at most 63"),
    ({"session_id": b"x" * 16}, SessionNotFoundError, "78787878... is not here"),
    ({"session_id": b"short"}, SessionNotFoundError, "is not here"),
    (
        {"vocabulary__size": SIZE + 1},
        VocabularyMismatchError,
        f"7 ids (SHA-256 {VOCABULARY.identity.sha256.hex()[:16]}...); expected 6 ids",
    ),
    ({"vocabulary__sha256": b"\x11" * 32}, VocabularyMismatchError, "6 ids (SHA-256 1111111111111111...)"),
]


async def test_a_bad_open_is_refused_by_name_and_value() -> None:
    """Each with its own reason; the cloud serves on after all of them and holds nothing."""
    target = model()
    async with running_cloud(target) as cloud:
        for fields, kind, sentence in BAD_OPENS:
            peer = cloud.stream()
            await peer.say_proto(open_proto(**fields))
            error = await peer.refusal()

            assert type(error) is kind, fields
            assert sentence in error.message, fields
        await serves_on(cloud)
    assert target.open_sequences == 0


async def test_a_stream_that_does_not_begin_with_open_is_refused() -> None:
    """Close, a round, an empty message, or nothing at all."""
    async with running_cloud(model()) as cloud:
        for message in (CLOSE, EdgeText().block()):
            peer = cloud.stream()
            await peer.say(message)
            error = await peer.refusal()

            assert type(error) is RemoteProtocolError
            assert f"the first message is {type(message).__name__}; expected Open" in error.message
        empty, silent = cloud.stream(), cloud.stream()
        empty_request = open_proto()
        empty_request.Clear()
        await empty.say_proto(empty_request)
        await silent.half_close()

        assert "carries no message" in (await empty.refusal()).message
        assert "ended before its first message" in (await silent.refusal()).message
        await serves_on(cloud)


async def test_a_stream_that_says_nothing_meets_its_deadline() -> None:
    """DEADLINE_EXCEEDED, naming the phase's own limit."""
    async with running_cloud(model(), CloudSettings(open_timeout_s=0.05)) as cloud:
        error = await cloud.stream().refusal()

        assert type(error) is DeadlineError
        assert error.message == "no message came within 0.05 s; expected Open."
        await serves_on(cloud)


def flipped(payload: bytes) -> bytes:
    """One bit of the payload turned over."""
    return bytes([payload[0] ^ 1, *payload[1:]])


def bad_blocks() -> list[tuple[str, DraftBlock, type[ThinwireError], str]]:
    """(case, first round sent, error, part of its sentence)."""
    text = EdgeText()
    good = text.block()
    size = len(good.payload)
    longest = text.block(64)
    return [
        ("truncated", replace(good, payload=good.payload[:-1]), PayloadCorruptedError, "checksum"),
        ("emptied", replace(good, payload=b""), PayloadCorruptedError, "checksum"),
        ("lengthened", replace(good, payload=good.payload + b"\1"), PayloadCorruptedError, "checksum"),
        ("one spare byte", text.sealed(good, payload=good.payload + b"\0"), PayloadInvalidError, "bytes"),
        (
            "far too long",
            text.sealed(good, payload=bytes(1000)),
            PayloadInvalidError,
            "the payload has 1000 bytes; expected at most",
        ),
        ("rank out of range", text.sealed(good, payload=b"\xff" * size), PayloadInvalidError, "expected"),
        (
            "a bit turned over",
            replace(good, payload=flipped(good.payload)),
            PayloadCorruptedError,
            "checksum",
        ),
        (
            "wrong checksum",
            replace(good, checksum=good.checksum ^ 1),
            PayloadCorruptedError,
            f"the checksum is {good.checksum ^ 1:08x}; expected {good.checksum:08x}",
        ),
        (
            "of another draft length",
            replace(good, draft_length=1),
            PayloadCorruptedError,
            "checksum",
        ),
        (
            "65 tokens",
            text.sealed(good, draft_length=65),
            ConfigError,
            "draft_length is 65; expected an integer from 0 to 64",
        ),
        ("no room", longest, ConfigError, "draft_length is 64; expected at most 60"),
        (
            "base length",
            text.sealed(good, base_length=4),
            PrefixMismatchError,
            "base length is 4; expected 3 committed tokens",
        ),
        (
            "prefix hash",
            text.sealed(good, prefix_hash=5),
            PrefixMismatchError,
            f"prefix hash is 00000005; expected {good.prefix_hash:08x}",
        ),
        ("round 0", text.sealed(good, round=0), RoundOrderError, "round 0 came; expected 1"),
        ("round 2", text.sealed(good, round=2), RoundOrderError, "round 2 came; expected 1"),
        ("round 2^32-1", text.sealed(good, round=2**32 - 1), RoundOrderError, "4294967295"),
    ]


@pytest.mark.parametrize(
    ("block", "kind", "sentence"), [pytest.param(*case[1:], id=case[0]) for case in bad_blocks()]
)
async def test_a_bad_round_ends_its_session_and_no_other(
    block: DraftBlock, kind: type[ThinwireError], sentence: str
) -> None:
    """The stream ends with the reason, the session is freed, a session beside it goes on."""
    target, beside = model(), EdgeText(seed=8)
    async with running_cloud(target) as cloud:
        other, _ = await cloud.opened(beside)
        peer, opened = await cloud.opened(EdgeText())
        await peer.say(block)
        error = await peer.refusal()
        again = cloud.stream()
        await again.say(EdgeText().resuming(opened))

        assert type(error) is kind
        assert sentence in error.message
        assert type(await again.refusal()) is SessionNotFoundError
        assert cloud.server.sessions == 1
        await other.say(beside.block())
        beside.take(await other.hear())
        await other.closed()
        await serves_on(cloud)
    assert target.open_sequences == 0


@pytest.mark.parametrize("scheme", ["k-sqs", "c-sqs", "dense-qs"])
async def test_every_scheme_refuses_spare_bytes_and_padding(scheme: str) -> None:
    """A zero byte more, other bits on top, or no rank of a point at all, each with a right checksum."""
    parameters = SchemeParameters(scheme=scheme, lattice_resolution=20, support_size=3)
    async with running_cloud(model()) as cloud:
        for change in (lambda p: p + b"\0", lambda p: p + b"\x80", lambda p: b"\xff" * (len(p) + 1)):
            text = EdgeText(scheme=parameters)
            peer, _ = await cloud.opened(text)
            good = text.block(4)
            await peer.say(text.sealed(good, payload=change(good.payload)))

            assert type(await peer.refusal()) is PayloadInvalidError
        await whole_text(cloud, EdgeText(scheme=parameters), 2)


async def test_a_repeated_round_with_other_bytes_is_refused() -> None:
    """A verdict already given may not be rolled again: FAILED_PRECONDITION, ROUND_ORDER."""
    text = EdgeText()
    async with running_cloud(model()) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        await peer.hear()
        await peer.say(text.sealed(text.block(1)))
        error = await peer.refusal()

        assert type(error) is RoundOrderError
        assert error.message == "round 1 came again with other bytes; expected the same."
        await serves_on(cloud)


async def test_a_round_that_is_long_past_is_refused() -> None:
    """Only the last round may come again."""
    text = EdgeText()
    first = text.block()
    async with running_cloud(model()) as cloud:
        peer, _ = await cloud.opened(text)
        for _ in range(2):
            await peer.say(text.block())
            text.take(await peer.hear())
        await peer.say(first)

        error = await peer.refusal()
        assert type(error) is RoundOrderError
        assert "round 1 came; expected 3" in error.message
        await serves_on(cloud)


async def test_a_bad_message_in_mid_session_frees_it() -> None:
    """A second Open, a Close without a reason, an empty message."""
    unsaid_close = wire.EdgeStreamWriter().to_proto(CLOSE)
    unsaid_close.close.reason = 0
    empty = wire.EdgeStreamWriter().to_proto(CLOSE)
    empty.Clear()
    target = model()
    async with running_cloud(target) as cloud:
        for request, sentence in (
            (open_proto(), "Open came twice"),
            (unsaid_close, "close reason is 0; expected 1, 2 or 3"),
            (empty, "carries no message"),
        ):
            peer, _ = await cloud.opened(EdgeText())
            await peer.say_proto(request)
            error = await peer.refusal()

            assert type(error) is RemoteProtocolError
            assert sentence in error.message
        await serves_on(cloud)
    assert target.open_sequences == 0


async def test_a_message_beyond_the_size_limit_is_refused_by_the_transport() -> None:
    """RESOURCE_EXHAUSTED before a byte of it is read as a message."""
    async with running_cloud(model()) as cloud, grpc.aio.insecure_channel(cloud.address) as unlimited:
        peer = VerifyPeer(wire.VerifierStub(unlimited).Verify(timeout=20))
        await peer.say_proto(open_proto(session_id=b"x" * 2**22))
        error = await peer.refusal()

        assert type(error) is ResourceExhaustedError
        await serves_on(cloud)


async def test_a_megabyte_of_scheme_name_is_refused_with_a_short_sentence() -> None:
    """What a peer sent does not come back whole: a status that large would break its connection."""
    text = EdgeText()
    async with running_cloud(model()) as cloud:
        beside, _ = await cloud.opened(text)
        peer = cloud.stream()
        await peer.say_proto(open_proto(scheme__name="x" * 2**20))
        error = await peer.refusal()

        assert type(error) is ConfigError
        assert len(error.message) < 1000
        await beside.say(text.block())
        text.take(await beside.hear())
        await beside.closed()
        await serves_on(cloud)


@pytest.mark.parametrize("when", ["prompt", "round"])
async def test_logits_that_are_not_numbers_end_only_their_session(when: str) -> None:
    """INTERNAL with reason NON_FINITE_LOGITS, in the prompt's pass as in a round's."""
    length = {"prompt": 2, "round": 3}[when]

    def broken(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if prefix[0] == 4 and len(prefix) == length:
            raise NonFiniteLogitsError("the logits hold nan; expected finite numbers.")
        return TARGET(prefix)

    target = TableModel(broken, vocabulary_size=SIZE, context_length=CONTEXT)
    async with running_cloud(target) as cloud:
        text = EdgeText((4, 1, 2))
        peer, _ = await cloud.opened(text)
        if when == "round":  # a write that crosses a refusal makes gRPC forget the refusal's status
            await peer.say(text.block())
        error = await peer.refusal()

        assert type(error) is NonFiniteLogitsError
        assert error.reason == "NON_FINITE_LOGITS"
        assert error.status == "INTERNAL"
        await serves_on(cloud)
    assert target.open_sequences == 0


async def test_a_bug_in_the_model_is_an_internal_error_without_its_text() -> None:
    """What the peer may not see stays in the log."""

    def broken(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if prefix[0] == 4:
            raise KeyError("secret")
        return TARGET(prefix)

    target = TableModel(broken, vocabulary_size=SIZE, context_length=CONTEXT)
    async with running_cloud(target) as cloud:
        text = EdgeText((4,))
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        error = await peer.refusal()

        assert error.message == "the cloud failed with KeyError."
        await serves_on(cloud)


async def test_one_session_too_many_is_refused_with_a_pause_to_wait() -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; the sessions that are there go on, and a freed slot is used."""
    text = EdgeText()
    async with running_cloud(model(), CloudSettings(max_sessions=1)) as cloud:
        peer, _ = await cloud.opened(text)
        late = cloud.stream()
        await late.say(EdgeText().open)
        error = await late.refusal()

        assert type(error) is ResourceExhaustedError
        assert error.message == "1 sessions are open; expected fewer than 1."
        assert await retry_delay(late) == duration_pb2.Duration(seconds=1)
        await peer.say(text.block())
        text.take(await peer.hear())
        await peer.closed()
        await serves_on(cloud)


async def retry_delay(peer: VerifyPeer) -> duration_pb2.Duration | None:
    """RetryInfo of a stream's status."""
    for detail in status_pb2.Status.FromString(await peer.trailers()).details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay
    return None


async def test_a_vocabulary_of_another_model_is_refused_at_open() -> None:
    """FAILED_PRECONDITION with both sizes and both hashes, before anything is held."""
    async with running_cloud(model()) as cloud:
        peer = cloud.stream()
        await peer.say(replace(EdgeText().open, vocabulary=VocabularyIdentity(152_064, b"\xab" * 32)))
        error = await peer.refusal()

        assert type(error) is VocabularyMismatchError
        assert error.status == "FAILED_PRECONDITION"
        assert "152064 ids (SHA-256 abababababababab...)" in error.message
        assert f"expected 6 ids (SHA-256 {VOCABULARY.identity.sha256.hex()[:16]}...)" in error.message
        assert cloud.server.sessions == 0
