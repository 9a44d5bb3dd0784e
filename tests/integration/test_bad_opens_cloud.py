"""Bad first messages to the cloud: the status, the value received and expected, the cloud serving on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tests.integration.bad_input import CONTEXT, model, open_proto, serves_on
from thinwire.cloud.settings import CloudSettings
from thinwire.common.errors import (
    ConfigError,
    DeadlineError,
    ProtocolVersionError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    ThinwireError,
    VocabularyMismatchError,
)
from thinwire.common.session.messages import VocabularyIdentity
from verify_peer import CLOSE, SIZE, VOCABULARY, EdgeText, VerifyPeer, running_cloud

BAD_OPENS: list[tuple[dict[str, Any], type[ThinwireError], str]] = [
    ({"protocol_version": 1}, ProtocolVersionError, "protocol 1, payload layout 1; expected 4 and 1"),
    ({"payload_layout": 9}, ProtocolVersionError, "payload layout 9"),
    (
        {"protocol_version": 1, "scheme__k_sqs__lattice_resolution": 0},
        ProtocolVersionError,
        "protocol 1",
    ),
    ({"scheme__custom__name": "nonesuch"}, ConfigError, "scheme is 'nonesuch'; expected one of k-sqs, c-sqs"),
    (
        {"scheme__k_sqs__lattice_resolution": 0},
        ConfigError,
        "lattice_resolution is 0; expected an integer from 1",
    ),
    ({"scheme__k_sqs__lattice_resolution": 4097}, ConfigError, "lattice_resolution is 4097"),
    ({"scheme__k_sqs__support_size": 0}, ConfigError, "support_size is 0; expected an integer from 1 to 256"),
    ({"scheme__k_sqs__support_size": 257}, ConfigError, "support_size is 257"),
    ({"scheme__c_sqs__max_support_size": 0}, ConfigError, "max_support_size is 0"),
    ({"scheme__c_sqs__max_support_size": 257}, ConfigError, "max_support_size is 257"),
    ({"scheme__dense_qs__lattice_resolution": 4096}, ConfigError, "4096"),
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
